"""A sandbox is killed: its host says so, and what ran in it goes on in another, from its last good checkpoint."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.protocol.states import EndReason, JobState
from dind.engine import Engine
from tests.containers.test_recovery import TRAINER, lived, reaches_epoch, train
from tests.docker.daemon import HostDaemon
from tests.docker.fleet import Fleet
from tests.docker.tree import pack_busybox
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
KILLED_TO_RUNNING_S = 5.0  # without the backoff, which is 0.1 s here
SLACK_S = 5.0  # for a machine with other work


@pytest.fixture
async def fleet(host: HostDaemon, engine: Engine, sandbox_base: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(host, engine, tmp_path, ("api", "media"))
    try:
        await fleet.raise_([TRAINER.parent])
        fleet.load(pack_busybox(host.folder / "busybox.tar"), "busybox")
        yield fleet
    finally:
        await fleet.remove()


async def test_a_killed_sandboxs_training_goes_on_in_another(fleet: Fleet) -> None:
    limits = {"slots": 4, "cpus": 64, "memory_mib": 65536, "shm_mib": 16}
    nodes = fleet.nodes(image="busybox", python=str(TRAINER), **limits)
    broker = fleet.broker(nodes, WYOLO_PREFLIGHT="false")
    try:
        async with broker.start().client() as client:
            job = await train(client, epochs=60)
            assert (await reaches_epoch(client, job.id, 3)).node == "dind_api"

            fleet.host.docker("kill", "dind_api")
            again = broker.data_dir / "jobs" / str(job.id) / "2" / "diary"
            await until(again.exists, 60, "a second attempt")
            first, second = lived(broker, job.id, 1), lived(broker, job.id, 2)
            assert 0 < second[0] - first[-1] < 100 * (KILLED_TO_RUNNING_S + SLACK_S)

            fleet.host.docker("start", "dind_api")
            done = await client.reaches(job.id, timeout=60)
            assert (done.state, done.node, done.epoch, done.fence) == (JobState.COMPLETED, "dind_media", 60, 2)
            attempts = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
            assert attempts[0]["reason"] == EndReason.INTERRUPTED, attempts
            table = (await client.http.get(f"/jobs/{job.id}/metrics")).json()
            assert table["epochs"] == list(range(1, 61))
            await until(
                lambda: not fleet.docker("api", "ps", "--all", "--quiet"), 60, "what ended with it to be removed"
            )
        assert "Traceback (most recent call last)" not in broker.said(), broker.said()[-4000:]
    finally:
        broker.clear()
