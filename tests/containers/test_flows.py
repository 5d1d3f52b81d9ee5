"""The whole broker with a Docker node: nothing is lost, run twice or left, whatever goes away in between."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.protocol.states import JobState
from tests.containers.dockerd import Dockerd
from tests.flows.daemon import Daemon
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
COUNTING = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.01; done"
LASTING = "echo begun; while :; do sleep 0.1; done"
QUIET = "Traceback (most recent call last)"


@pytest.fixture
async def broker(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Daemon]:
    """With one node, on a daemon of the test's own. Not started yet."""
    node = {"name": "box", "engine": "docker", "url": dockerd.url, "image": "busybox", "slots": 8, "gpus": "none"}
    nodes = [{**node, "cpus": 64, "memory_mib": 65536, "shm_mib": 16}]
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps(nodes)})
    try:
        yield daemon
        assert QUIET not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()


async def test_a_command_runs_in_a_container_and_completes_with_its_log(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await client.shell("echo hello; id -u")
        ended = await client.reaches(job.id)
        assert (ended.state, ended.node) == (JobState.COMPLETED, "box")
        assert await client.lines(job.id) == ["hello", "65534"]
        failing = await client.shell("exit 9")
        assert (await client.reaches(failing.id)).state is JobState.FAILED
    await until(lambda: not dockerd.containers(), what="the containers to be removed")


async def test_stop_and_kill_reach_into_the_container(broker: Daemon) -> None:
    async with broker.start().client() as client:
        polite = await client.shell("trap 'echo bye; exit 0' TERM; echo begun; while :; do sleep 0.05; done")
        stubborn = await client.shell(f"trap '' TERM; {LASTING}")
        for job in (polite, stubborn):
            await client.says(job.id, "begun")
        await client.verb(polite.id, "stop")
        await client.verb(stubborn.id, "kill")
        assert (await client.reaches(polite.id)).state is JobState.STOPPED
        assert (await client.reaches(stubborn.id)).state is JobState.STOPPED
        assert await client.lines(polite.id) == ["begun", "bye"]


async def test_a_killed_brokers_containers_are_adopted_with_complete_logs(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        jobs = [await client.shell(COUNTING) for _ in range(5)]
        for job in jobs:
            await client.says(job.id, "line 50")
    for _ in range(2):
        broker.kill()
        broker.start()
    async with broker.client() as client:
        for job in jobs:
            assert (await client.reaches(job.id, timeout=60)).state is JobState.COMPLETED
            assert await client.lines(job.id) == [f"line {number}" for number in range(1, 401)]
            assert (await client.job(job.id)).fence == 1
    await until(lambda: not dockerd.containers())


async def test_a_frozen_daemons_jobs_are_unknown_and_go_on_when_it_is_back(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await client.shell(f"{COUNTING}; while [ ! -e enough ]; do sleep 0.1; done; echo done")
        await client.says(job.id, "line 10")
        dockerd.freeze()
        await client.reaches(job.id, JobState.UNKNOWN, timeout=60)
        stopped = await client.verb(job.id, "stop")
        assert stopped.state is JobState.UNKNOWN  # nobody can say yet
        dockerd.thaw()
        ended = await client.reaches(job.id, timeout=60)
        assert (ended.state, ended.fence) == (JobState.STOPPED, 1)
        lines = await client.lines(job.id)
        assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    await until(lambda: not dockerd.containers())


async def test_a_daemon_that_ends_interrupts_its_jobs_and_they_run_again(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await client.lasting()
        dockerd.end()
        await client.reaches(job.id, JobState.UNKNOWN, JobState.QUEUED, timeout=60)
        dockerd.start()
        await until(lambda: f"wyolo-{job.id}-2" in dockerd.containers(), 60, "a second attempt")
        await client.verb(job.id, "kill")
        await client.reaches(job.id)


async def test_a_daemon_that_lost_its_data_is_not_believed(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await client.lasting()
        dockerd.end()
        await client.reaches(job.id, JobState.UNKNOWN, timeout=60)
        dockerd.start("other-data").import_busybox()

        another = await client.shell("echo here")
        assert (await client.reaches(another.id, timeout=60)).state is JobState.COMPLETED  # new jobs may use it
        assert (await client.job(job.id)).state is JobState.UNKNOWN
        dockerd.end()
        dockerd.start()
        await until(lambda: f"wyolo-{job.id}-2" in dockerd.containers(), 60, "a second attempt")
        await client.verb(job.id, "kill")
        await client.reaches(job.id)


async def test_a_removed_container_is_interrupted_and_runs_again(broker: Daemon, dockerd: Dockerd) -> None:
    async with broker.start().client() as client:
        job = await client.lasting()
        dockerd.docker("rm", "--force", f"wyolo-{job.id}-1")

        await until(lambda: f"wyolo-{job.id}-2" in dockerd.containers(), what="a second attempt")
        await client.verb(job.id, "kill")
        await client.reaches(job.id)


async def test_the_broker_starts_while_the_daemon_is_away_and_waits_for_it(broker: Daemon, dockerd: Dockerd) -> None:
    dockerd.end()
    async with broker.start().client() as client:
        job = await client.shell("echo hello")
        dockerd.start()
        assert (await client.reaches(job.id, timeout=60)).state is JobState.COMPLETED
