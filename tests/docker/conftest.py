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
from tests.docker.daemon import SANDBOX_BASE, HostDaemon, debian_tree, why_not

ROOM = 8 * 2**30  # bytes


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:  # one worker for all of them: the images are made once
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.xdist_group("docker"))


def _folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """In memory where there is room: unpacking images is all waiting for the disk."""
    memory = Path("/dev/shm")
    room = min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) if memory.is_dir() else 0
    if room > ROOM:
        return Path(tempfile.mkdtemp(prefix=f"docker-{name}-", dir=memory))
    return tmp_path_factory.mktemp(name)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostDaemon]:
    """With the image busybox."""
    if reason := why_not():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    daemon = HostDaemon(_folder(tmp_path_factory, "host"))
    try:
        daemon.start()
        daemon.import_busybox()
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(daemon.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def debian(host: HostDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tree of a Debian with dockerd on it."""
    folder = _folder(tmp_path_factory, "debian")
    try:
        yield debian_tree(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox_base(host: HostDaemon, debian: Path) -> str:
    """The image that sandboxes are built on."""
    host.import_tree(debian, SANDBOX_BASE)
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
