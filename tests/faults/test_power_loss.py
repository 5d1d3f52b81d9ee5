"""What was acknowledged survives a power loss: the ledger is told to be on the disk before the answer leaves."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.scene import LONG_S, Scene
from tests.waiting import until

pytestmark = pytest.mark.faults

CALLS = "read,recvfrom,recvmsg,readv,write,writev,sendto,sendmsg,fsync,fdatasync"


@asynccontextmanager
async def traced(pid: int, into: Path) -> AsyncGenerator[None]:
    """Its calls, of all its threads, in the order in which they were made. Skips where that is not possible."""
    strace = shutil.which("strace")
    if strace is None:
        _not_here("there is no strace: apt install strace")
    said = into.with_suffix(".err")
    with said.open("w") as errors:
        command = [str(strace), "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(into), "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=errors)
    try:
        await until(lambda: tracer.poll() is not None or "attached" in said.read_text(), LONG_S, "strace")
        if tracer.poll() is not None:
            _not_here(f"strace may not look at another process here: {said.read_text().strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def _not_here(why: str) -> None:
    pytest.fail(why) if os.environ.get("WYOLO_CI") == "1" else pytest.skip(why)


async def test_the_disk_has_the_job_before_its_submitter_has_the_answer(scene: Scene) -> None:
    scene.daemon.start()
    trace = scene.folder / "trace"
    async with scene.daemon.client() as client:
        async with traced(scene.daemon.pid, trace):
            for number in range(5):
                await client.submit("true", name=f"durable-{number}", hold=True)
        calls = trace.read_text().splitlines()
        for number in range(5):
            asked = _first(calls, 0, rf"\b(read|recv\w+)\b.*durable-{number}\b")
            answered = _first(calls, asked, r"\b(write|writev|sendto|sendmsg)\(.*HTTP/1\.1 201")
            assert _synced(calls[asked:answered]), "\n".join(calls[asked : answered + 1])


def _first(calls: list[str], after: int, pattern: str) -> int:
    for index in range(after, len(calls)):
        if re.search(pattern, calls[index]):
            return index
    raise AssertionError(f"no call like {pattern}: {calls[after:][:20]}")


def _synced(calls: list[str]) -> bool:
    """The write-ahead log was synced with success, begun and ended among these calls."""
    begun: set[str] = set()
    for call in calls:
        thread = call.split()[0]
        if re.search(r"\bf(data)?sync\(\d+<[^>]*ledger\.db-wal>", call):
            begun.add(thread)
        if thread in begun and re.search(r"f(data)?sync.*\)\s+= 0$", call):
            return True
    return False
