"""`broker`: a client of a daemon that the tests of a file share. `daemon`: one of a test's own, to be killed."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.flows.daemon import Client, Daemon

QUIET = "Traceback (most recent call last)"  # what no broker may have said


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("broker") / "data")
    try:
        yield daemon.start()
        assert daemon.stop() == 0, daemon.said()[-2000:]
        assert QUIET not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()


@pytest.fixture
async def broker(shared_daemon: Daemon) -> AsyncIterator[Client]:
    async with shared_daemon.client() as client:
        yield client
        await client.end_all()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """Not started yet. What it started is ended with it."""
    daemon = Daemon(tmp_path / "data")
    try:
        yield daemon
        if (tmp_path / "data" / "ledger.db").exists():
            if not daemon.alive:
                daemon.start()
            async with daemon.client() as client:
                await client.end_all()
            assert daemon.stop() == 0, daemon.said()[-2000:]
        assert QUIET not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()
