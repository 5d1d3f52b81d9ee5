import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.daemon import SANDBOX_BASE, HostDaemon, debian_tree, why_not


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostDaemon]:
    """A host's Docker daemon, with busybox on it."""
    if why := why_not():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(why)
        pytest.skip(why)
    daemon = HostDaemon(tmp_path_factory.mktemp("host"))
    daemon.start()
    try:
        daemon.import_busybox()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture(scope="session")
def sandbox_base(host: HostDaemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that sandboxes are built on."""
    folder: Path = debian_tree(tmp_path_factory.mktemp("base") / "debian")
    host.import_tree(folder, SANDBOX_BASE)
    return SANDBOX_BASE
