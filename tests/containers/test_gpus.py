"""Which GPUs a container is given, by a daemon that finds an NVIDIA hook (one that only ends well)."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.engines.base import Exit
from tests.containers.dockerd import Dockerd, skip_without_docker
from tests.containers.node import Node

VISIBLE = "echo $NVIDIA_VISIBLE_DEVICES; echo $CUDA_VISIBLE_DEVICES"


@pytest.fixture
def with_gpus() -> Iterator[Dockerd]:
    skip_without_docker()
    directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
    hook = directory / "programs" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    daemon = Dockerd(directory, path=str(hook.parent))
    try:
        daemon.start().import_busybox()
        yield daemon
    finally:
        daemon.remove()


async def test_a_job_is_given_its_gpus_and_no_others(with_gpus: Dockerd, tmp_path: Path) -> None:
    async with Node(with_gpus, tmp_path / "jobs") as node:
        assert await node.run(VISIBLE, gpus=("GPU-a", "GPU-b")) == (Exit(0), ["GPU-a,GPU-b", "GPU-a,GPU-b"])
        assert await node.run(VISIBLE) == (Exit(0), ["void", ""])
