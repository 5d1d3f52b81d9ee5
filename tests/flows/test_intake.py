"""training_queue: what other programs put into Redis becomes a job once, or goes to the dead with the reason."""

import json
import os
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis

from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited


class Sender:
    """Another program at the broker's own Redis."""

    def __init__(self, daemon: Daemon) -> None:
        self._redis: Any = redis_of(daemon)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def send(self, **fields: str) -> None:
        await self._redis.xadd("training_queue", fields)

    async def waiting(self) -> int:
        return await self._redis.xlen("training_queue")

    async def dead(self) -> list[str]:
        """All that is said of each dead message."""
        return [" ".join(fields.values()) for _, fields in await self._redis.xrange("training_queue:dead")]


def redis_of(daemon: Daemon) -> Redis:
    config = (daemon.data_dir / "redis" / "redis.conf").read_text()
    [socket] = [line.split()[1].strip('"') for line in config.splitlines() if line.startswith("unixsocket ")]
    return Redis(unix_socket_path=socket, decode_responses=True)


async def job_named(broker: Client, name: str) -> int:
    async def there() -> int:
        found = await broker.jobs(f"name:{name}")
        return found[0].id if found else 0

    return await until_awaited(there, what=f"a job called {name}")


async def test_a_message_becomes_a_job_and_is_acknowledged(shared_daemon: Daemon, broker: Client) -> None:
    async with Sender(shared_daemon) as other:
        await other.send(
            config="name: streamed\ncommand: echo hello\n",
            user_code="ana",
            priority="medium",
            task_id="task-7",
            trial_number="3",
        )
        job = await broker.reaches(await job_named(broker, "streamed"))
        assert (job.state, job.user, job.priority, job.task_id) == (JobState.COMPLETED, "ana", "normal", "task-7")
        assert job.spec is not None and job.spec.trial_number == 3
        assert (await broker.http.get("/jobs/task-7")).json()["id"] == job.id

        async def taken() -> bool:
            return await other.waiting() == 0

        await until_awaited(taken, what="the message is gone")


async def test_a_configuration_can_be_named_by_its_path(shared_daemon: Daemon, broker: Client, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: by-path\ncommand: ./run.sh\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "run.sh").chmod(0o755)
    async with Sender(shared_daemon) as other:
        await other.send(config_path=str(tmp_path / "job.yaml"))
    job = await broker.reaches(await job_named(broker, "by-path"))
    assert await broker.lines(job.id) == ["here"]


async def test_a_message_of_no_use_goes_to_the_dead_with_the_reason(shared_daemon: Daemon, broker: Client) -> None:
    bad = [
        ({"config": "name: [1"}, "line"),
        ({"config_path": "/nowhere.yaml"}, "cannot be read"),
        ({"config_path": "relative.yaml"}, "relative path"),
        ({"user_code": "ana"}, "neither `config` nor `config_path`"),
        ({"config": "command: true\n", "priority": "urgent"}, "priority"),
        ({"config": "command: echo x\n", "trial_number": "three"}, "trial_number"),
    ]
    async with Sender(shared_daemon) as other:
        for fields, _ in bad:
            await other.send(**fields)

        async def buried() -> bool:
            return len(await other.dead()) == len(bad)

        await until_awaited(buried, what="all are buried")
        reasons = await other.dead()
        assert await other.waiting() == 0
    for _, said in bad:
        assert any(said in reason for reason in reasons), (said, reasons)
    assert await broker.jobs("state:waiting,active") == []


async def test_no_message_keeps_those_behind_it_from_being_read(daemon: Daemon, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    bad = [
        ({"config": f"command: {'word ' * 5000}\n"}, "5,000 words"),
        ({"config_path": "/tmp/a\0b"}, "null byte"),
        ({"json": json.dumps({"config": "name: \ud800\ncommand: 'true'\n"})}, "`config` is not Unicode"),
        ({"json": json.dumps({"config_path": "/tmp/\udcff.yaml"})}, "`config_path` is not Unicode"),
        ({"config_path": str(tmp_path / "pipe")}, "no regular file"),
        ({"config_path": "/" + "x" * 300}, "cannot be read"),
    ]
    daemon.start()
    async with Sender(daemon) as other, daemon.client() as broker:
        for fields, _ in bad:
            await other.send(**fields)
        await other.send(config="name: behind\ncommand: 'true'\n")
        await broker.reaches(await job_named(broker, "behind"))
        reasons = await other.dead()
        assert await other.waiting() == 0
    assert len(reasons) == len(bad)
    for _, said in bad:
        assert any(said in reason for reason in reasons), (said, reasons)
    assert daemon.stop() == 0


async def test_a_message_read_again_after_a_crash_is_done_with_though_its_file_is_gone(
    daemon: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: once\ncommand: 'true'\n")
    daemon.start({"WYOLO_CRASH_AT": "after-submit-commit"})
    async with Sender(daemon) as other:
        await other.send(config_path=str(file))
        daemon.ended()
        file.unlink()
        daemon.start()
        async with daemon.client() as broker:

            async def taken() -> bool:
                return await other.waiting() == 0

            await until_awaited(taken, what="the message is gone")
            assert await other.dead() == []
            assert [job.name for job in await broker.jobs()] == ["once"]


async def test_what_was_sent_while_the_broker_was_away_is_taken_once(daemon: Daemon) -> None:
    daemon.start()
    async with daemon.client() as broker:
        await broker.reaches((await broker.submit("true")).id)
    daemon.kill()
    async with Sender(daemon) as other:  # Redis outlives a broker that is killed
        for n in range(5):
            await other.send(config=f"name: late-{n}\ncommand: 'true'\n")
    daemon.start()
    async with daemon.client() as broker:
        for n in range(5):
            await broker.reaches(await job_named(broker, f"late-{n}"))
    daemon.kill()
    daemon.start()
    async with daemon.client() as broker:
        assert len(await broker.jobs("late")) == 5
