"""A real training by Ultralytics in a container in a sandbox: by nobody, without a network, resumed on another node.

What is laid over the image's base is what `wyolo images build` lays there; Python and Ultralytics themselves are not
installed into it, which is several GB, but mounted read-only from this machine.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.protocol.api import MetricTable
from broker.protocol.states import EndReason, JobState
from dind.engine import Engine
from tests.docker.daemon import HostDaemon
from tests.docker.fleet import Fleet, installed
from tests.flows.conftest import QUIET
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited
from wyolo_tui import shapes

pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]
SLOW_S = 180.0  # a machine that is busy with other tests
EPOCHS = 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return shapes.make(tmp_path / "shapes", "detect", images=8, val=4, size=64)


@pytest.fixture
async def fleet(
    host: HostDaemon, sandbox_base: str, engine: Engine, data: Path, tmp_path: Path
) -> AsyncIterator[Fleet]:
    fleet = Fleet(host, engine, tmp_path, ("environment", "media"))
    try:
        await fleet.raise_(reads=[data.parent, *installed()])
        await fleet.with_trainer()
        yield fleet
    finally:
        await fleet.remove()


@pytest.fixture
def broker(fleet: Fleet) -> Iterator[Daemon]:
    daemon = fleet.broker(fleet.nodes(python=sys.executable, slots=1))
    try:
        yield daemon.start()
        assert QUIET not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()


async def submitted(client: Client, data: Path, *, node: str = "") -> int:
    resources = f"{{gpus: 0, node: {node}}}" if node else "{gpus: 0}"
    train = f"{{data: {data}, epochs: {EPOCHS}, imgsz: 64, batch: 4, workers: 0, plots: false, amp: false}}"
    text = f"name: boxed\nmodel: yolov8n.yaml\nresources: {resources}\ntrain: {train}\n"
    answer = await client.http.post("/jobs", json={"config": text})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def metrics(client: Client, job_id: int) -> MetricTable:
    return MetricTable.model_validate_json((await client.http.get(f"/jobs/{job_id}/metrics")).content)


async def filled(client: Client, node: str) -> int:
    """A job that takes the one place of a node until it is ended."""
    work = {"kind": "command", "argv": ["/bin/sh", "-c", "echo begun; while :; do sleep 0.1; done"]}
    answer = await client.http.post("/jobs", json={"spec": {"work": work, "resources": {"node": node}}})
    assert answer.status_code == 201, answer.text
    await client.says(answer.json()["id"], "begun")
    return answer.json()["id"]


async def test_a_training_runs_in_a_sandbox_to_its_end_with_its_metrics(
    broker: Daemon, fleet: Fleet, data: Path
) -> None:
    async with broker.client() as client:
        job_id = await submitted(client, data, node="dind_environment")
        done = await client.reaches(job_id, timeout=SLOW_S)
        assert (done.state, done.node, done.epoch) == (JobState.COMPLETED, "dind_environment", EPOCHS), done.message
        table = await metrics(client, job_id)
        assert table.epochs == list(range(1, EPOCHS + 1))
        assert None not in table.columns["metrics/mAP50(B)"]
    assert not fleet.docker("environment", "ps", "-aq", "--filter", "label=wyolo.job")


async def test_a_training_in_a_sandbox_is_stopped_and_goes_on_at_the_next_epoch_in_another(
    broker: Daemon, fleet: Fleet, data: Path
) -> None:
    async with broker.client() as client:
        elsewhere = await filled(client, "dind_media")
        job_id = await submitted(client, data)

        async def an_epoch() -> bool:
            job = await client.job(job_id)
            assert not job.ended_at, job.message
            return job.epoch >= 1

        await until_awaited(an_epoch, SLOW_S, "an epoch")
        assert (await client.job(job_id)).node == "dind_environment"
        name = f"wyolo-{job_id}-1"
        container = json.loads(fleet.docker("environment", "inspect", name))[0]
        assert (container["HostConfig"]["NetworkMode"], container["Config"]["User"]) == ("none", "65534:65534")
        assert fleet.docker("environment", "exec", name, "id", "-u") == "65534\n"
        assert fleet.docker("environment", "exec", name, "ls", "/sys/class/net") == "lo\n"
        await client.verb(job_id, "stop")
        stopped = await client.reaches(job_id, timeout=60)
        assert (stopped.state, stopped.reason) == (JobState.STOPPED, EndReason.USER_STOP), stopped.message
        assert 1 <= stopped.epoch < EPOCHS
        before = await metrics(client, job_id)

        await filled(client, "dind_environment")
        await client.verb(elsewhere, "kill")
        await client.verb(job_id, "resume")
        done = await client.reaches(job_id, timeout=SLOW_S)
        assert (done.state, done.epoch, done.fence) == (JobState.COMPLETED, EPOCHS, 2), done.message
        assert done.node == "dind_media"
        after = await metrics(client, job_id)
        assert after.epochs == list(range(1, EPOCHS + 1))
        assert after.attempts == [1] * stopped.epoch + [2] * (EPOCHS - stopped.epoch)
        losses = after.columns["train/box_loss"]
        assert None not in losses
        assert losses[: stopped.epoch] == before.columns["train/box_loss"], "what was measured before the stop stays"
        await client.end_all()
