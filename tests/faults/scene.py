"""A broker, its Redis and its jobs, each with the means to hurt it."""

import json
import re
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from broker.engines import proc
from broker.protocol.job import Job
from broker.protocol.states import JobState
from tests.faults.oracle import Entry, diary
from tests.flows.daemon import Client, Daemon
from tests.waiting import until

PROGRAM = Path(__file__).with_name("program.py")
PYTHON = (sys.executable, "-E", "-S")
LONG_S = 60.0  # that anything may take on a machine with other work


class Scene:
    def __init__(self, folder: Path, daemon: Daemon) -> None:
        self.daemon = daemon
        self.folder = folder
        self.diaries = folder / f"{daemon.data_dir.name}.diaries"
        self.diaries.mkdir()

    # jobs

    def lines(self, name: str, count: int, pause_s: float = 0.0, gate: Path | None = None) -> list[str]:
        """The command of a job that prints `count` lines; it is to be submitted under this name."""
        argv = [*PYTHON, str(PROGRAM), "lines", str(self.diaries / f"{name}.diary"), str(count), str(pause_s)]
        return argv if gate is None else [*argv, str(gate)]

    def trainer(self, **plan: Any) -> dict[str, str]:
        """The environment of a broker whose trainings are `program.py train`. Called again it changes the plan."""
        path = self.folder / "plan.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"folder": str(self.diaries), **plan}))
        part.replace(path)
        wrapper = self.folder / "python"
        if not wrapper.exists():
            wrapper.write_text(f'#!/bin/sh\nexec {" ".join(PYTHON)} {PROGRAM} train {path} "$3"\n')
            wrapper.chmod(0o755)
        return {"WYOLO_TRAINER_PYTHON": str(wrapper)}

    def diary(self, name: str | int) -> list[Entry]:
        return diary(self.diaries / f"{name}.diary")

    async def noted(self, name: str | int, what: str, number: int | None = None, fence: int | None = None) -> Entry:
        """That entry of a job's diary, once it is there."""

        def there() -> Entry | None:
            for entry in self.diary(name):
                if entry.what == what and number in (None, entry.number) and fence in (None, entry.fence):
                    return entry
            return None

        found = await until(there, LONG_S, f"{what} {number or ''} in the diary of {name}")
        assert found is not None
        return found

    def go(self, job_id: int, what: str, epoch: int) -> None:
        (self.diaries / f"{job_id}.{what}.{epoch}").touch()

    # Redis

    @property
    def redis_directory(self) -> Path:
        return self.daemon.data_dir / "redis"

    @contextmanager
    def nothing_left(self) -> Generator[None]:
        """Whatever happens inside, broker and Redis do not outlive it."""
        try:
            yield
        finally:
            self.daemon.clear()

    @asynccontextmanager
    async def redis(self) -> AsyncGenerator[Any]:
        """Another program's client: `await ask("XADD", ...)`, replies as they are."""
        text = (self.redis_directory / "redis.conf").read_text()
        found = re.search(r'^unixsocket "(.*)"', text, re.MULTILINE)
        assert found is not None
        client: Any = cast(Any, Redis)(unix_socket_path=found[1], decode_responses=True, protocol=2)
        client.response_callbacks.clear()
        try:
            yield client.execute_command
        finally:
            await client.aclose()


async def train(client: Client, epochs: int, **more: Any) -> Job:
    """Submits a training for `program.py train`."""
    work = {"kind": "train", "model": "yolov8n.yaml", "args": {"epochs": epochs, "data": "coco8.yaml"}}
    answer = await client.http.post("/jobs", json={"spec": {"work": work, **more}})
    assert answer.status_code == 201, answer.text
    return Job.model_validate_json(answer.content)


async def ended(client: Client, job_id: int, *states: JobState) -> Job:
    return await client.reaches(job_id, *states, timeout=LONG_S)


async def healthy(client: Client) -> bool:
    return (await client.http.get("/health")).json()["status"] == "ok"


def runs(pid: int) -> bool:
    found = proc.process(pid)
    return found is not None and not found.dead
