"""A Docker daemon for these tests, one for all of them; skipped, with the reason, where none can be raised."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.daemon import SANDBOX_BASE, HostDaemon, debian_tree, why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:  # one worker for all of them: the images are made once
            item.add_marker(pytest.mark.xdist_group("docker"))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostDaemon]:
    """With the image busybox."""
    if reason := why_not():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    daemon = HostDaemon(tmp_path_factory.mktemp("host"))
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
    folder = tmp_path_factory.mktemp("debian")
    try:
        yield debian_tree(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox_base(host: HostDaemon, debian: Path) -> str:
    """The image that sandboxes are built on."""
    host.import_tree(debian, SANDBOX_BASE)
    return SANDBOX_BASE
