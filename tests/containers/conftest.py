import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.containers.dockerd import Dockerd, missing
from tests.containers.node import Node


def _made(directory: Path) -> Iterator[Dockerd]:
    if why := missing():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(why)
        pytest.skip(why)
    daemon = Dockerd(directory)
    try:
        daemon.start().import_busybox()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture(scope="session")
def shared_dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """Nobody ends or freezes this one."""
    yield from _made(tmp_path_factory.mktemp("dockerd"))


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Dockerd]:
    """For a test that does it harm."""
    directory = tmp_path / "dockerd"
    directory.mkdir()
    yield from _made(directory)


@pytest.fixture
async def node(shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(shared_dockerd, tmp_path / "jobs") as node:
        yield node
    node.clear()
