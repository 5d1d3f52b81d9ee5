"""Two nodes, and one of them goes away: nothing runs twice, and what can go on elsewhere does."""

import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.job import Job
from broker.protocol.states import EndReason, JobState
from tests.containers.dockerd import Dockerd
from tests.flows.daemon import Client, Daemon
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
LEASE_S = 6.0
TRAINER = Path(__file__).with_name("trainer.sh")
SPARE = "spare"
PATIENCE_S = 10.0  # with a node that does not answer


@pytest.fixture
async def broker(dockerd: Dockerd, shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Nodes `box`, the first choice, on a daemon of the test's own, and `spare`."""
    common = {"engine": "docker", "image": "busybox", "slots": 8, "gpus": "none", "cpus": 64, "memory_mib": 65536}
    common |= {"shm_mib": 16, "python": str(TRAINER), "reads": [str(TRAINER.parent)], "self_fencing_s": LEASE_S}
    nodes = [{**common, "name": "box", "url": dockerd.url}, {**common, "name": SPARE, "url": shared_dockerd.url}]
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps(nodes), "WYOLO_PREFLIGHT": "false"})
    try:
        yield daemon
        assert "Traceback (most recent call last)" not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()
        if left := shared_dockerd.containers(f"label=wyolo.broker={broker_id(daemon)}"):
            shared_dockerd.docker("rm", "--force", "--volumes", *left, check=False)


def broker_id(daemon: Daemon) -> str:
    with closing(sqlite3.connect(daemon.data_dir / "ledger.db")) as ledger:
        return ledger.execute("SELECT value FROM meta WHERE name = 'broker_id'").fetchone()[0]


async def train(client: Client, epochs: int, **args: Any) -> Job:
    work = {"kind": "train", "model": "yolov8n.yaml", "args": {"epochs": epochs, "data": "coco8.yaml", **args}}
    answer = await client.http.post("/jobs", json={"spec": {"work": work}})
    assert answer.status_code == 201, answer.text
    return Job.model_validate_json(answer.content)


async def reaches_epoch(client: Client, job_id: int, epoch: int) -> Job:
    while (job := await client.job(job_id)).epoch < epoch:
        assert job.state in {JobState.QUEUED, JobState.STARTING, JobState.RUNNING}, job
    return job


def lived(broker: Daemon, job_id: int, fence: int) -> list[int]:
    """Instants of an attempt, in hundredths of a second."""
    text = (broker.data_dir / "jobs" / str(job_id) / str(fence) / "diary").read_text()
    return [int(line) for line in text.split()]


async def test_a_training_out_of_reach_leaves_by_itself_and_goes_on_elsewhere(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await train(client, epochs=40)
        command = await client.lasting(set={"resources.node": "box"})
        await reaches_epoch(client, job.id, 3)
        dockerd.freeze()
        await client.reaches(command.id, JobState.UNKNOWN, timeout=60)
        await until(lambda: (broker.data_dir / "jobs" / str(job.id) / "2" / "diary").exists(), 30, "a second attempt")
        moved = await client.reaches(job.id, JobState.RUNNING)
        assert (moved.node, moved.fence) == (SPARE, 2)
        assert lived(broker, job.id, 1)[-1] < lived(broker, job.id, 2)[0]
        attempts = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
        assert attempts[0]["reason"] == EndReason.NODE_LOST, attempts
        done = await client.reaches(job.id, timeout=60)
        assert (done.state, done.epoch) == (JobState.COMPLETED, 40)
        table = (await client.http.get(f"/jobs/{job.id}/metrics")).json()
        assert table["epochs"] == list(range(1, 41))
        assert (await client.job(command.id)).state is JobState.UNKNOWN  # a command cannot leave by itself
        dockerd.thaw()
        await client.reaches(command.id, JobState.RUNNING, timeout=60)
        await client.verb(command.id, "kill")
        await client.reaches(command.id)
        await until(lambda: not dockerd.containers(), 60, "the containers to be removed")


async def test_a_frozen_node_holds_up_no_other_when_a_broker_starts(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        here = await client.lasting(set={"resources.node": "box"})
        there = await client.shell("while [ ! -e go ]; do sleep 0.1; done", set={"resources.node": SPARE})
        await client.reaches(there.id, JobState.RUNNING)
        broker.kill()
    dockerd.freeze()
    began = time.monotonic()
    async with broker.start().client() as client:
        new = await client.shell("echo hello")
        (broker.data_dir / "jobs" / str(there.id) / "1" / "go").touch()
        for job in (new, there):
            assert (await client.reaches(job.id)).state is JobState.COMPLETED
        assert time.monotonic() - began < PATIENCE_S
        await client.reaches(here.id, JobState.UNKNOWN, timeout=60)
        dockerd.thaw()
        await client.verb(here.id, "kill")
        await client.reaches(here.id, timeout=60)


async def test_what_needs_more_memory_than_it_has_fails_by_the_engines_own_word(broker: Daemon) -> None:
    async with broker.start().client() as client:
        job = await client.shell("a=x; while :; do a=$a$a; done", set={"resources.memory": "32MiB"})
        ended = await client.reaches(job.id, timeout=60)
        assert (ended.state, ended.reason) == (JobState.FAILED, EndReason.OOM_HOST), ended
        assert "memory" in ended.message


async def test_a_training_that_does_not_hear_is_killed_and_its_last_checkpoint_kept(broker: Daemon) -> None:
    async with broker.start().client() as client:
        job = await train(client, epochs=1000, seed=137)  # deaf
        await reaches_epoch(client, job.id, 3)
        await client.verb(job.id, "stop", grace_s=1)
        ended = await client.reaches(job.id, timeout=60)
        assert (ended.state, ended.reason) == (JobState.STOPPED, EndReason.USER_STOP), ended
        [attempt] = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
        assert attempt["exit_code"] == 137
        kept = (await client.http.get(f"/jobs/{job.id}/checkpoints")).json()
        assert kept[0]["epoch"] == ended.epoch >= 3
        resumed = await client.verb(job.id, "resume")
        assert f"goes on after epoch {ended.epoch}" in resumed.message
        assert (await reaches_epoch(client, job.id, ended.epoch + 1)).fence == 2
        await client.verb(job.id, "kill")
        await client.reaches(job.id)
