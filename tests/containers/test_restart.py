"""A node's Docker daemon ends, by SIGTERM or SIGKILL, and is started again: with live-restore its containers go on, and
without it what ran is interrupted."""

import json
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.protocol.states import EndReason, JobState
from tests.containers.dockerd import Dockerd, skip_without_docker
from tests.containers.test_recovery import TRAINER, lived, reaches_epoch, train
from tests.flows.daemon import Daemon
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
COUNTING = "i=0; while [ ! -e go ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo $i >count"
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@pytest.fixture
def dockerd(request: pytest.FixtureRequest) -> Iterator[Dockerd]:
    """With the flags that the test asks for."""
    skip_without_docker()
    daemon = Dockerd(Path(tempfile.mkdtemp(prefix="dockerd-")), *request.param)
    try:
        daemon.start().import_busybox()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
async def broker(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Daemon]:
    node = {"name": "box", "engine": "docker", "url": dockerd.url, "image": "busybox", "slots": 8, "gpus": "none"}
    node |= {"cpus": 64, "memory_mib": 65536, "shm_mib": 16, "python": str(TRAINER), "reads": [str(TRAINER.parent)]}
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps([node]), "WYOLO_PREFLIGHT": "false"})
    try:
        yield daemon.start()
        assert "Traceback (most recent call last)" not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()


@pytest.mark.parametrize("dockerd", [["--live-restore"]], indirect=True)
async def test_with_live_restore_a_container_goes_on_and_its_log_is_read_on(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.client() as client:
        job = await client.shell(COUNTING)
        await client.says(job.id, "line 10")
        for number in SIGNALS:
            dockerd.signal(number)
            await client.reaches(job.id, JobState.UNKNOWN, timeout=60)
            dockerd.restore()
            found = await client.reaches(job.id, JobState.RUNNING, timeout=60)
            assert found.fence == 1
        [*_, last] = await client.lines(job.id)
        await client.says(job.id, f"line {int(last.split()[1]) + 10}")
        directory = broker.data_dir / "jobs" / str(job.id) / "1"
        (directory / "go").touch()
        ended = await client.reaches(job.id, timeout=60)
        assert (ended.state, ended.fence) == (JobState.COMPLETED, 1)
        count = int((directory / "count").read_text())
        assert await client.lines(job.id) == [f"line {number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("dockerd", [[]], indirect=True)
async def test_without_it_a_training_is_interrupted_and_goes_on_from_its_last_checkpoint(
    broker: Daemon, dockerd: Dockerd
) -> None:
    async with broker.client() as client:
        job = await train(client, epochs=20)
        epoch = 0
        for fence, number in enumerate(SIGNALS, start=1):
            assert (await reaches_epoch(client, job.id, epoch + 3)).fence == fence
            dockerd.signal(number)
            await client.reaches(job.id, JobState.UNKNOWN, JobState.QUEUED, timeout=60)
            dockerd.restore()
            later = broker.data_dir / "jobs" / str(job.id) / str(fence + 1) / "diary"
            await until(later.exists, 60, "another attempt")
            epoch = (await client.job(job.id)).epoch
            assert lived(broker, job.id, fence)[-1] < lived(broker, job.id, fence + 1)[0]
        ended = await client.reaches(job.id, timeout=60)
        assert (ended.state, ended.epoch) == (JobState.COMPLETED, 20)
        attempts = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
        assert [attempt["reason"] for attempt in attempts] == [
            EndReason.INTERRUPTED,
            EndReason.INTERRUPTED,
            EndReason.COMPLETED,
        ]
        table = (await client.http.get(f"/jobs/{job.id}/metrics")).json()
        assert table["epochs"] == list(range(1, 21))
        assert set(table["attempts"]) == {1, 2, 3}
