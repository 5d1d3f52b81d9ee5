"""The broker ends, asked or killed: what runs goes on, the next one finds all of it, and learns how the rest ended."""

import asyncio
import fcntl
import json
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.engines import proc
from broker.protocol.states import JobState
from tests.faults.oracle import ended_well, marks, no_strangers
from tests.faults.scene import LONG_S, Scene, ended
from tests.redis_fixtures import frozen
from tests.waiting import until, until_awaited

pytestmark = pytest.mark.faults


async def test_asked_to_end_it_leaves_jobs_running_and_the_next_adopts_them(scene: Scene) -> None:
    gate = scene.folder / "gate"
    scene.daemon.start()
    async with scene.daemon.client() as client:
        jobs = [await client.submit(*scene.lines(f"job-{n}", 10, 0.0, gate), name=f"job-{n}") for n in range(3)]
        for job in jobs:
            await scene.noted(job.name, "said", 10)
            await ended(client, job.id, JobState.RUNNING)
    assert scene.daemon.stop() == 0
    for job in jobs:
        assert proc.mark(scene.diary(job.name)[0].pid) is not None
    assert not scene.daemon.redis_pid
    scene.daemon.start()
    async with scene.daemon.client() as client:
        for job in jobs:
            assert (await client.job(job.id)).state is JobState.RUNNING
        gate.touch()
        for job in jobs:
            await ended(client, job.id)
        await ended_well(client, scene.diaries, [job.id for job in jobs])


async def test_a_second_ctrl_c_does_not_wait_for_anything(scene: Scene) -> None:
    scene.daemon.start()
    with frozen(scene.daemon.redis_pid):  # ending it takes seconds
        scene.daemon.signal(signal.SIGINT)
        await until(lambda: "ending: running jobs go on" in scene.daemon.said(), LONG_S, "the first Ctrl-C")
        scene.daemon.signal(signal.SIGINT)
        assert scene.daemon.ended() == 1
    assert not (scene.daemon.data_dir / "broker.json").exists()


@contextmanager
def closed(gate: Path) -> Generator[None]:
    """Who runs `flock GATE` waits until this block is left."""
    with gate.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_fifty_running_jobs_are_adopted_and_those_that_ended_meanwhile_tell_how(scene: Scene) -> None:
    nodes = json.dumps([{"slots": 50, "cpus": 64, "gpus": "none"}])
    early, late = scene.folder / "early", scene.folder / "late"
    scene.daemon.start(env={"WYOLO_NODES": nodes})
    with closed(late):
        with closed(early):
            async with scene.daemon.client() as client:
                broker_id: str = (await client.http.get("/version")).json()["broker_id"]
                gates = [early if n % 2 else late for n in range(50)]
                jobs = await asyncio.gather(
                    *(client.shell(f"flock {gate} true; exit {n}") for n, gate in enumerate(gates))
                )
                for job in jobs:
                    await ended(client, job.id, JobState.RUNNING)
            scene.daemon.kill()
            assert len(set(marks(broker_id).values())) == 50
        await until(lambda: len(set(marks(broker_id).values())) == 25, LONG_S, "half of them to end")
        scene.daemon.start(env={"WYOLO_NODES": nodes})
        async with scene.daemon.client() as client:

            async def half() -> bool:
                return len(await client.jobs("state:active")) == 25

            await until_awaited(half, LONG_S, "half of them adopted, half judged")
            for number, job in enumerate(jobs):
                now = await client.job(job.id)
                assert now.fence == 1
                assert now.state is (JobState.FAILED if number % 2 else JobState.RUNNING)
            await no_strangers(client)
    async with scene.daemon.client() as client:
        for number, job in enumerate(jobs):
            await ended(client, job.id)
            [attempt] = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
            assert attempt["exit_code"] == number
        await no_strangers(client)
