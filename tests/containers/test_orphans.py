"""What is left on a node without a job, by our labels, is listed, ended and removed; what is another broker's is not
touched."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.engines.container import BROKER_LABEL, FENCE_LABEL, JOB_LABEL
from broker.protocol.api import Orphans
from broker.protocol.states import JobState
from tests.containers.dockerd import IMAGE, Dockerd
from tests.containers.test_recovery import broker_id
from tests.flows.command import Wyolo
from tests.flows.daemon import Daemon
from tests.waiting import until, until_awaited

NOBODYS = 4711  # the number of a job that there never was
LASTS, ENDS = ("sleep", "1000"), ("true",)


@pytest.fixture
async def broker(shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Daemon]:
    node = {"name": "box", "engine": "docker", "url": shared_dockerd.url, "image": IMAGE, "slots": 8, "gpus": "none"}
    nodes = [{**node, "cpus": 64, "memory_mib": 65536, "shm_mib": 16}]
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps(nodes)})
    try:
        yield daemon.start()
        assert "Traceback (most recent call last)" not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()
        for label in (broker_id(daemon), "another"):
            if left := shared_dockerd.containers(f"label={BROKER_LABEL}={label}"):
                shared_dockerd.docker("rm", "--force", "--volumes", *left, check=False)


def labels(broker: str, job_id: object, fence: int) -> list[str]:
    values = {BROKER_LABEL: broker, JOB_LABEL: job_id, FENCE_LABEL: fence}
    return [part for name, value in values.items() for part in ("--label", f"{name}={value}")]


def names(dockerd: Dockerd, *flags: str) -> set[str]:
    return set(dockerd.docker("ps", "--format", "{{.Names}}", *flags).split())


async def test_what_no_job_has_is_listed_and_removed_and_another_brokers_is_not(
    broker: Daemon, shared_dockerd: Dockerd, tmp_path: Path
) -> None:
    docker, ours = shared_dockerd.docker, broker_id(broker)
    async with broker.client() as client:
        ended = await client.shell("echo kept")
        await client.reaches(ended.id)
        running = await client.lasting()

        nobodys, old_fence, anothers = f"wyolo-{NOBODYS}-1", f"wyolo-{ended.id}-7", f"wyolo-{NOBODYS}-3"
        left = {
            nobodys: [*labels(ours, NOBODYS, 1), IMAGE, *LASTS],
            f"wyolo-{NOBODYS}-2": [*labels(ours, NOBODYS, 2), IMAGE, *ENDS],
            old_fence: [*labels(ours, ended.id, 7), IMAGE, *LASTS],
            "copied": [*labels(ours, NOBODYS, 5), IMAGE, *LASTS],
        }
        not_ours = {
            anothers: [*labels("another", NOBODYS, 3), IMAGE, *LASTS],
            f"wyolo-{ended.id}-9": [*labels("another", ended.id, 9), IMAGE, *ENDS],
            "strangers": [IMAGE, *LASTS],
            "no-attempts": [*labels(ours, "none", 1), IMAGE, *LASTS],
        }
        for name, rest in not_ours.items():
            docker("run", "--detach", "--network", "none", "--name", name, *rest)
        docker("volume", "create", *labels("another", NOBODYS, 3), "anothers")
        try:

            async def all_are_listed() -> bool:
                """Those that the broker has removed by itself meanwhile are there again."""
                for name in left.keys() - names(shared_dockerd, "--all"):
                    docker("run", "--detach", "--network", "none", "--name", name, *left[name])
                docker("volume", "create", *labels(ours, NOBODYS, 4), "volume")
                found = Orphans.model_validate_json((await client.http.get("/orphans")).content)
                listed = {orphan.name for orphan in found.orphans if orphan.node == "box"}
                assert listed <= {*left, "volume"}, listed
                return listed == {*left, "volume"}

            await until_awaited(all_are_listed, 60, "everything of ours to be listed")
            await Wyolo(broker.data_dir, tmp_path)("doctor", "--orphans", "--remove")
            assert not names(shared_dockerd, "--all") & left.keys()
            assert docker("volume", "ls", "--quiet").split() == ["anothers"]
            assert not_ours.keys() <= names(shared_dockerd, "--all")
            assert {anothers, "strangers", "no-attempts"} <= names(shared_dockerd)
            assert (await Wyolo(broker.data_dir, tmp_path)("doctor", "--orphans")).out.startswith("nothing is left")

            for name in (nobodys, old_fence, "copied"):
                docker("run", "--detach", "--network", "none", "--name", name, *left[name])
            await until(
                lambda: not names(shared_dockerd) & {nobodys, old_fence}, 60, "what runs without a job to be ended"
            )
            assert {anothers, "strangers", "no-attempts", "copied"} <= names(shared_dockerd)
            assert f"wyolo-{NOBODYS}-5" not in broker.said()  # it is not told that it is ended, either
            assert (await client.job(running.id)).state is JobState.RUNNING
            assert await client.lines(ended.id) == ["kept"]
        finally:
            docker("rm", "--force", *not_ours, *(left.keys() & names(shared_dockerd, "--all")), check=False)
            docker("volume", "rm", "--force", "anothers", "volume", check=False)
        await client.verb(running.id, "kill")
        await client.reaches(running.id)
