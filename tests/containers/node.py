"""A DockerEngine on a real daemon and what tests ask of it, without a broker around it."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from broker.engines.base import AttemptRef, Exit, Launch
from broker.engines.container import Template
from broker.engines.docker import DockerEngine
from broker.engines.docker_attempt import DockerAttempt
from broker.engines.docker_link import Link
from broker.engines.docker_probe import Probe
from broker.engines.docker_usage import Usage
from tests.containers.dockerd import IMAGE, Dockerd


class Node:
    """`renew` is what another broker on the same directory sees."""

    def __init__(
        self,
        dockerd: Dockerd,
        jobs: Path,
        link: Callable[[], Link] | None = None,
        *,
        probed: Literal["all"] | Sequence[str] = (),
        **template: Any,
    ) -> None:
        """`probed`: GPUs that a probe there measures."""
        self.dockerd = dockerd
        self._probed = probed
        self.jobs = jobs
        self._link = link or (lambda: Link("box", dockerd.url))
        self.broker_id = secrets.token_hex(8)
        self._template: dict[str, Any] = {"image": IMAGE, "user": "65534:65534", "shm_mib": 16, **template}
        self._jobs = secrets.randbelow(10**9)  # names are one daemon's, for all brokers
        self.engine = self._engine()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()

    async def renew(self) -> None:
        await self.engine.close()
        self.engine = self._engine()

    def shell(self, script: str, **more: Any) -> Launch:
        """An attempt of a new job that runs a script."""
        self._jobs += 1
        directory = self.jobs / str(self._jobs) / "1"
        directory.mkdir(parents=True, mode=0o700)
        argv = ("/bin/sh", "-c", script)
        return Launch(AttemptRef(self.broker_id, self._jobs, 1), argv, {}, directory, directory, **more)

    async def run(self, script: str, **more: Any) -> tuple[Exit, list[str]]:
        """To its end: how, and what it said."""
        attempt = await self.engine.launch(self.shell(script, **more))
        return await attempt.wait(), await said(attempt)

    async def attach(self, launch: Launch, engine_ref: str = "") -> DockerAttempt:
        return await self.engine.attach(launch.ref, launch.directory, engine_ref)

    def containers(self) -> Sequence[str]:
        return self.dockerd.containers(f"label=wyolo.broker={self.broker_id}")

    def clear(self) -> None:
        if left := self.containers():
            self.dockerd.docker("rm", "--force", "--volumes", *left, check=False)

    def _engine(self) -> DockerEngine:
        link = self._link()
        template = Template(**self._template)
        probe = Probe(link, self.broker_id, template, self._probed) if self._probed else None
        return DockerEngine(self.broker_id, link, template, jobs_dir=self.jobs, usage=Usage(link, probe=probe))


async def said(attempt: DockerAttempt, offset: int = 0) -> list[str]:
    """Everything from `offset` on, to the end."""
    return [line.data.decode() async for batch in attempt.lines(offset) for line in batch]


async def piped(attempt: DockerAttempt, argv: Sequence[str], data: bytes) -> tuple[int, bytes]:
    """`data` through a program beside an attempt, to the end of both: its exit code, and what it made of that."""
    shell = await attempt.enter(argv, "", tty=False, hears=True)

    async def give() -> None:
        for begin in range(0, len(data), 60_000):
            await shell.write(data[begin : begin + 60_000])
        await shell.end_input()

    giving = asyncio.create_task(give())
    made = bytearray()
    try:
        while (said := await shell.read()) is not None:
            made += said[1]
        await giving
        return await shell.exit_code(), bytes(made)
    finally:
        giving.cancel()
        await shell.close()
