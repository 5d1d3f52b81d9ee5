"""The `wyolo` command as a child process, told where a test's broker is."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.protocol.job import Job
from tests.running import broker_environment

LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def job(self) -> Job:
        """Of a verb with --json that acted on one."""
        return Job.model_validate_json(self.out)


class Wyolo:
    """`await wyolo("jobs", "--json")`."""

    def __init__(self, data_dir: Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._env = broker_environment(WYOLO_DATA_DIR=str(data_dir)) | dict(env or {})
        self._cwd = cwd

    async def __call__(self, *arguments: str, stdin: bytes = b"", expect: int = 0) -> Done:
        async with self.started(*arguments) as child:
            out, err = await asyncio.wait_for(child.communicate(stdin), LIMIT_S)
        done = Done(child.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in done.err, done.err
        assert done.code == expect, f"{arguments} ended with {done.code}, not {expect}: {done.out}{done.err}"
        return done

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        """Killed if it has not ended by the end of the block."""
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-P", "-m", "wyolo_tui", *arguments]
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=self._env, cwd=self._cwd
        )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()

    async def interrupted(self, *arguments: str, once: bytes) -> Done:
        """Ctrl-C when a line of its standard output contains `once`."""
        async with self.started(*arguments) as child:
            assert child.stdout is not None
            seen = b""
            while once not in seen:
                line = await asyncio.wait_for(child.stdout.readline(), LIMIT_S)
                assert line, f"{arguments} ended early: {seen.decode()}"
                seen += line
            child.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(child.communicate(), LIMIT_S)
        return Done(child.returncode or 0, (seen + out).decode(), err.decode())
