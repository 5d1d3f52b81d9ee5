"""A training dies, or is stopped at a bad moment: it goes on from its last good checkpoint, each epoch once."""

import hashlib
import os
import signal
from pathlib import Path

import pytest

from broker.protocol.job import Checkpoint
from broker.protocol.states import JobState
from tests.faults.oracle import ended_well, no_strangers, sound
from tests.faults.scene import Scene, ended, runs, train
from tests.flows.daemon import Client

pytestmark = pytest.mark.faults

BACKOFF_S = 0.6


async def checkpoints(client: Client, job_id: int) -> list[Checkpoint]:
    """Newest first."""
    answer = (await client.http.get(f"/jobs/{job_id}/checkpoints")).json()
    return [Checkpoint.model_validate(each) for each in answer]


async def test_a_killed_training_waits_and_goes_on_from_its_last_good_checkpoint(scene: Scene) -> None:
    env = scene.trainer(gates=[4])
    scene.daemon.start(env=env | {"WYOLO_BACKOFF_S": str(BACKOFF_S)})
    async with scene.daemon.client() as client:
        job = await train(client, epochs=6)
        await scene.noted(job.id, "epoch", 3)
        kept = await client.reaches(job.id, JobState.RUNNING)
        assert kept.fence == 1
        newest = (await _saved(client, job.id, 3))[0]
        Path(newest.path).write_bytes(b"half of it is miss")
        scene.go(job.id, "go", 4)
        scene.trainer()  # the next attempt waits for nothing
        first = scene.diary(job.id)
        os.kill(first[0].pid, signal.SIGKILL)
        done = await ended(client, job.id)
        assert (done.state, done.fence, done.epoch) == (JobState.COMPLETED, 2, 6), done
        again = await scene.noted(job.id, "start", fence=2)
        assert (again.at - scene.diary(job.id)[len(first) - 1].at) / 1e9 > 0.8 * BACKOFF_S
        assert (await scene.noted(job.id, "first", fence=2)).number in {3, 4}
        [requeued] = [event for event in await client.events(job.id) if event.verb == "requeue"]
        assert "SIGKILL" in requeued.message and "goes on after epoch" in requeued.message
        await ended_well(client, scene.diaries, [job.id], needed="whatever")


async def _saved(client: Client, job_id: int, epoch: int) -> list[Checkpoint]:
    found = await checkpoints(client, job_id)
    while not found or found[0].epoch < epoch:
        found = await checkpoints(client, job_id)
    return found


async def test_three_deaths_in_a_row_wait_for_a_person_and_resume_is_another_try(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(gates=[1]) | {"WYOLO_BACKOFF_S": "0.05"})
    async with scene.daemon.client() as client:
        job = await train(client, epochs=3)
        for fence in (1, 2, 3):
            os.kill((await scene.noted(job.id, "first", fence=fence)).pid, signal.SIGKILL)
        dead = await ended(client, job.id)
        assert (dead.state, dead.reason, dead.infra_deaths) == (JobState.FAILED, "dead_letter", 3), dead
        assert f"wyolo resume {job.id}" in dead.message
        await sound(client, scene.diaries, job.id)
        scene.go(job.id, "go", 1)
        await client.verb(job.id, "resume")
        await ended(client, job.id, JobState.COMPLETED)
        await sound(client, scene.diaries, job.id)


async def test_a_stop_amid_a_checkpoint_leaves_a_whole_one(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(slow=[2]))
    async with scene.daemon.client() as client:
        job = await train(client, epochs=5)
        await scene.noted(job.id, "writing", 2)
        await client.verb(job.id, "stop", grace_s=30)
        await ended(client, job.id, JobState.RUNNING)
        scene.go(job.id, "written", 2)
        stopped = await ended(client, job.id)
        assert (stopped.state, stopped.reason, stopped.epoch) == (JobState.STOPPED, "user_stop", 2), stopped
        assert "the checkpoint of epoch 2 is kept" in stopped.message
        assert _is_whole(await checkpoints(client, job.id))
        await client.verb(job.id, "resume")
        await ended(client, job.id, JobState.COMPLETED)
        assert (await scene.noted(job.id, "first", fence=2)).number == 3
        await sound(client, scene.diaries, job.id)


def _is_whole(kept: list[Checkpoint]) -> bool:
    return hashlib.sha256(Path(kept[0].path).read_bytes()).hexdigest() == kept[0].sha256


async def test_who_does_not_hear_sigterm_is_killed_after_the_grace(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(gates=[3], deaf=True))
    async with scene.daemon.client() as client:
        job = await train(client, epochs=5)
        pid = (await scene.noted(job.id, "epoch", 2)).pid
        await client.verb(job.id, "stop", grace_s=0.3)
        stopped = await ended(client, job.id)
        assert (stopped.state, stopped.reason) == (JobState.STOPPED, "user_stop")
        assert "the checkpoint of epoch 2 is kept" in stopped.message
        assert not runs(pid)
        await sound(client, scene.diaries, job.id)


async def test_a_stop_that_a_dying_broker_did_not_finish_is_finished_by_the_next(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(gates=[2], deaf=True))
    async with scene.daemon.client() as client:
        job = await train(client, epochs=5)
        pid = (await scene.noted(job.id, "epoch", 1)).pid
        await client.verb(job.id, "stop", grace_s=1.0)
    scene.daemon.kill()
    assert runs(pid)
    scene.daemon.start()
    async with scene.daemon.client() as client:
        stopped = await ended(client, job.id)
        assert (stopped.state, stopped.reason, stopped.fence) == (JobState.STOPPED, "user_stop", 1), stopped
        await sound(client, scene.diaries, job.id)
        await no_strangers(client)
