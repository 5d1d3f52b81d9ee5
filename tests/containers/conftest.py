import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.containers.dockerd import Dockerd, skip_without_docker
from tests.containers.node import Node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.docker)


def _made() -> Iterator[Dockerd]:
    skip_without_docker()
    daemon = Dockerd(Path(tempfile.mkdtemp(prefix="dockerd-")))  # sockets lie deep in it, and their paths have an end
    try:
        daemon.start().import_busybox()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture(scope="session")
def shared_dockerd() -> Iterator[Dockerd]:
    """Nobody ends or freezes this one."""
    yield from _made()


@pytest.fixture
def dockerd() -> Iterator[Dockerd]:
    """For a test that does it harm."""
    yield from _made()


@pytest.fixture
async def node(shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(shared_dockerd, tmp_path / "jobs") as node:
        yield node
    node.clear()
