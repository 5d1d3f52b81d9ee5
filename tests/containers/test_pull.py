"""An image that a node lacks is fetched from the registry that its name says, or why it is not."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.engines import docker_pull
from broker.engines.base import Exit
from broker.errors import AttemptGone, EngineError
from broker.protocol.states import JobState
from tests.containers import registry
from tests.containers.dockerd import Dockerd
from tests.containers.node import Node, said
from tests.flows.daemon import Daemon
from tests.waiting import until, until_awaited

HELLO = "echo hello"


@pytest.fixture
async def pulling(shared_dockerd: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(docker_pull, "AGAIN_S", 0.05)
    monkeypatch.setattr(docker_pull, "TOLD_S", 0.05)
    async with Node(shared_dockerd, tmp_path / "jobs", pull=True) as node:
        yield node
    node.clear()


async def test_a_missing_image_is_pulled_told_in_bytes_and_its_digest_is_known(pulling: Node) -> None:
    words: list[str] = []

    async def tell(what: str) -> None:
        words.append(what)

    with registry.serving(pulling.dockerd, cuts=2, pause=0.05) as image:
        launch = replace(pulling.shell(HELLO), image=f"{image}:1", tell=tell)
        attempt = await pulling.engine.launch(launch)
        assert await attempt.wait() == Exit(0)
    assert await said(attempt) == ["hello"]
    assert words[0] == f"box has no image {image}:1: it is pulled"
    assert any("broke off and is tried again" in each for each in words)  # a daemon tries once more by itself
    assert any(each.startswith(f"pulling {image}:1: ") and " MB of 5." in each for each in words), words
    [known] = json.loads(pulling.dockerd.docker("image", "inspect", f"{image}:1", "-f", "{{json .RepoDigests}}"))
    assert attempt.image == f"{image}:1@{known.partition('@')[2]}"
    own = await pulling.engine.launch(pulling.shell(HELLO))
    assert own.image.startswith("busybox@sha256:")
    await own.wait()


@pytest.mark.parametrize(
    ("cuts", "tag", "remedy"),
    [(99, "1", "the pull broke off 2 times.*reaches the registry"), (0, "none", "registry has none.*correct the name")],
)
async def test_an_image_that_cannot_be_had_says_why_and_what_to_do(
    pulling: Node, cuts: int, tag: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_pull, "TRIES", 2)
    with registry.serving(pulling.dockerd, cuts) as image, pytest.raises(EngineError, match=remedy):
        await pulling.engine.launch(replace(pulling.shell(HELLO), image=f"{image}:{tag}"))
    assert not pulling.containers()


async def test_nothing_is_pulled_for_a_name_without_a_registry_or_where_the_operator_says_so(pulling: Node) -> None:
    with pytest.raises(EngineError, match="wyolo images push"):
        await pulling.engine.launch(replace(pulling.shell(HELLO), image="nothing:1"))
    async with Node(pulling.dockerd, pulling.jobs, pull=False) as closed:
        with (
            registry.serving(pulling.dockerd) as image,
            pytest.raises(EngineError, match="wyolo images push"),
        ):
            await closed.engine.launch(replace(closed.shell(HELLO), image=image))


async def test_a_pull_that_nobody_wants_any_more_ends_and_nothing_starts(pulling: Node) -> None:
    async def tell(what: str) -> None:
        if " MB of " in what:
            raise AttemptGone("not wanted")

    with registry.serving(pulling.dockerd, pause=0.2) as image, pytest.raises(AttemptGone):
        await pulling.engine.launch(replace(pulling.shell(HELLO), image=image, tell=tell))
    assert not pulling.containers()


async def test_a_job_shows_the_pull_can_be_stopped_in_it_and_keeps_its_image_in_the_attempt(
    shared_dockerd: Dockerd, tmp_path: Path
) -> None:
    node = {"name": "box", "engine": "docker", "url": shared_dockerd.url, "image": "busybox", "gpus": "none"}
    nodes = [{**node, "cpus": 64, "memory_mib": 65536, "shm_mib": 16, "images": ["127.0.0.1:*/us/*"]}]
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps(nodes)})
    with registry.serving(shared_dockerd, pause=0.3) as image:
        try:
            async with daemon.start().client() as client:
                job = await client.shell(HELLO, set={"extras.image": image})

                async def shown() -> bool:
                    now = await client.job(job.id)
                    return now.state is JobState.STARTING and " MB of 5." in now.waits_for

                await until_awaited(shown, 30, "the pull, in bytes")
                assert (await client.job(job.id)).message == f"box has no image {image}: it is pulled"
                await client.verb(job.id, "stop")
                assert (await client.reaches(job.id)).state is JobState.STOPPED
                await client.verb(job.id, "resume")
                assert (await client.reaches(job.id, timeout=60)).state is JobState.COMPLETED
                first, second = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
                assert first["image"] == ""
                assert second["image"].startswith(f"{image}@sha256:")
        finally:
            daemon.clear()
    await until(lambda: not shared_dockerd.containers(f"name=wyolo-{job.id}-2"))
