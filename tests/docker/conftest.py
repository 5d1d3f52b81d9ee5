"""A Docker daemon for these tests, one for all of them; skipped, with the reason, where none can be raised."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from dind import sandboxes
from dind.engine import Engine, connected, silent
from dind.home import Home
from tests.docker.daemon import SANDBOX_BASE, HostDaemon, why_not
from tests.docker.tree import pack_busybox, pack_sandbox

ROOM = 8 * 2**30  # bytes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.docker)


def _folder() -> Path:
    """In memory where there is room: unpacking images is all waiting for the disk."""
    memory = Path("/dev/shm")
    room = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) if memory.is_dir() else 0
    return Path(tempfile.mkdtemp(prefix="docker-host-", dir=memory if room > ROOM else None))


@pytest.fixture(scope="session")
def host() -> Iterator[HostDaemon]:
    """With the image busybox."""
    if reason := why_not():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    daemon = HostDaemon(_folder())
    try:
        daemon.start()
        daemon.import_tree(pack_busybox(daemon.folder / "busybox.tar"), "busybox")
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(daemon.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox_base(host: HostDaemon) -> str:
    """The image that sandboxes are built on."""
    packed = pack_sandbox(host.folder / "base.tar")
    host.import_tree(packed, SANDBOX_BASE)
    packed.unlink()
    return SANDBOX_BASE


@pytest.fixture
async def engine(host: HostDaemon) -> AsyncIterator[Engine]:
    async with connected(host.url) as engine:
        yield engine


@pytest.fixture
async def home(engine: Engine, tmp_path: Path) -> AsyncIterator[Home]:
    """A data directory; what was raised from it is removed after the test."""
    home = Home(tmp_path / "data")
    yield home
    await sandboxes.down(engine, home, [home.sandbox(name) for name in home.names()], silent, force=True, volumes=True)
