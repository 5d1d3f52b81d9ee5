"""A job hurts the files of its own attempt: the broker answers all the same, and the job runs once, even if the broker
is killed meanwhile."""

from pathlib import Path

import pytest

from broker.engines import claim
from broker.protocol.job import Job
from broker.protocol.states import JobState
from tests.faults.oracle import no_strangers
from tests.faults.scene import LONG_S, Scene, ended, healthy
from tests.flows.daemon import Client
from tests.waiting import until

pytestmark = pytest.mark.faults

# Most run where they are put, the others where the broker keeps its files.
HURT = ["rm -rf *", "cd ..; echo $$ > 1.claim", "cd ..; echo 0 >> 1.claim", "cd ..; rm -rf *",
        "cd ..; rm 1.log 1.claim; mkfifo 1.log 1.times 1.claim"]  # fmt: skip


async def hurt(client: Client, folder: Path) -> list[Job]:
    """A job for each, which writes down that it runs, and goes on when `go` is there."""
    jobs: list[Job] = []
    for number, damage in enumerate(HURT):
        wait = f"until [ -e {folder}/go ]; do sleep 0.05; done"
        jobs.append(await client.shell(f"{damage}; echo x >> {folder}/ran-{number}; echo said; {wait}; exit 4"))
        await ended(client, jobs[-1].id, JobState.RUNNING)
        await until((folder / f"ran-{number}").exists, LONG_S)
    return jobs


async def ran_once(client: Client, folder: Path, jobs: list[Job]) -> None:
    for number, job in enumerate(jobs):
        done = await ended(client, job.id)
        assert (done.state, done.reason, done.fence) == (JobState.FAILED, "exit_code", 1), HURT[number]
        assert (folder / f"ran-{number}").read_text() == "x\n"
    await no_strangers(client)


SLOTS = {"WYOLO_NODES": '[{"slots": 8, "cpus": 64, "gpus": "none"}]'}


async def test_jobs_that_hurt_their_files_are_adopted(scene: Scene) -> None:
    scene.daemon.start(env=SLOTS)
    async with scene.daemon.client() as client:
        jobs = await hurt(client, scene.folder)
        assert await healthy(client)
    scene.daemon.kill()
    scene.daemon.start(env=SLOTS)
    async with scene.daemon.client() as client:
        assert [(await client.job(job.id)).state for job in jobs] == [JobState.RUNNING] * len(jobs)
        (scene.folder / "go").touch()
        await ran_once(client, scene.folder, jobs)


async def test_jobs_that_hurt_their_files_and_end_while_no_broker_runs_tell_how(scene: Scene) -> None:
    scene.daemon.start(env=SLOTS)
    async with scene.daemon.client() as client:
        jobs = await hurt(client, scene.folder)
    scene.daemon.kill()
    (scene.folder / "go").touch()
    attempts = [scene.daemon.data_dir / "jobs" / str(job.id) / "1" for job in jobs]
    await until(lambda: None not in [claim.exit_code(each, None) for each in attempts], LONG_S, "all of them to end")
    scene.daemon.start(env=SLOTS)
    async with scene.daemon.client() as client:
        await ran_once(client, scene.folder, jobs)
