"""Two nodes, and one of them goes away: nothing runs twice, and what can go on elsewhere does."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.job import EndReason, Job, JobState
from tests.containers.dockerd import Dockerd
from tests.flows.daemon import Client, Daemon
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
LEASE_S = 6.0
TRAINER = Path(__file__).with_name("trainer.sh")
SPARE = "spare"


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
        if daemon.alive:
            daemon.kill()
        if left := shared_dockerd.containers(f"label=wyolo.broker={broker_id(daemon)}"):
            shared_dockerd.docker("rm", "--force", "--volumes", *left, check=False)


def broker_id(daemon: Daemon) -> str:
    with closing(sqlite3.connect(daemon.data_dir / "ledger.db")) as ledger:
        return ledger.execute("SELECT value FROM meta WHERE name = 'broker_id'").fetchone()[0]


async def train(client: Client, epochs: int, **metadata: Any) -> Job:
    work = {"kind": "train", "model": "yolov8n.yaml", "args": {"epochs": epochs, "data": "coco8.yaml"}}
    answer = await client.http.post("/jobs", json={"spec": {"work": work, "metadata": metadata}})
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
