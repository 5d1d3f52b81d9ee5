"""Which GPUs a container is given, by a daemon that finds an NVIDIA hook (one that only ends well); and how those of a
node elsewhere are measured, by a real NVML binding with a small library behind it."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainer
from broker.engines import docker_probe
from broker.engines.base import Exit
from broker.protocol.fleet import GpuSample
from tests.containers.dockerd import Dockerd, skip_without_docker
from tests.containers.node import Node
from tests.docker.fleet import SYSTEM, installed
from tests.docker.tree import pack_installed
from tests.nvml import library
from tests.waiting import until, until_awaited

VISIBLE = "echo $NVIDIA_VISIBLE_DEVICES; echo $CUDA_VISIBLE_DEVICES"


@pytest.fixture(scope="module")
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


EIGHT = "wyolo-test-eight-gpus"
PROBES = ("--filter", "label=wyolo.probe=box")


@pytest.fixture
async def eight(with_gpus: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose image sees eight GPUs, to which happens what the file `state` says."""
    monkeypatch.setattr(docker_probe, "AGAIN_S", (0.1, 0.1))
    library.built(tmp_path)
    (tmp_path / "state").touch()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    project = Path(trainer.__file__).parent.parent
    environment = {"LD_LIBRARY_PATH": tmp_path, "WYOLO_NVML_GPUS": 8, "WYOLO_NVML_STATE": tmp_path / "state"}
    changes = [f"--change=ENV {name}={value}" for name, value in (environment | {"PYTHONPATH": project}).items()]
    with_gpus.docker("import", *changes, str(pack_installed(tmp_path / "image.tar", SYSTEM)), EIGHT)
    reads = (*installed(), project, tmp_path)
    return Node(with_gpus, tmp_path / "jobs", image=EIGHT, python=sys.executable, reads=reads, probed="all")


async def test_a_probe_measures_the_gpus_of_a_node_and_tells_which_of_them_is_lost(eight: Node, tmp_path: Path) -> None:
    async with eight as node:

        async def gpus(lost: bool) -> list[GpuSample]:
            found = (await node.engine.sample()).gpus
            return found if found and any(gpu.lost for gpu in found) == lost else []

        seen = await until_awaited(lambda: gpus(lost=False), 60, "eight GPUs")
        assert [gpu.index for gpu in seen] == list(range(8))
        assert seen[0].memory_total_mib > 0
        (tmp_path / "state").write_text("lost5")
        seen = await until_awaited(lambda: gpus(lost=True), 30, "one that fell off the bus")
        assert [gpu.index for gpu in seen if gpu.lost] == [5]
        assert seen[5].name
        assert len((await node.engine.inventory()).gpu_uuids) == 7

        [probe] = node.dockerd.docker("ps", "-q", *PROBES).split()
        node.dockerd.docker("kill", probe)
        await until(lambda: node.dockerd.docker("ps", "-q", *PROBES) not in {"", probe}, 30, "another probe")
        await node.renew()  # a broker that ends takes it along
        assert not node.dockerd.docker("ps", "-aq", *PROBES)


async def test_a_node_that_cannot_give_out_its_gpus_says_so_and_measures_the_rest(
    shared_dockerd: Dockerd, tmp_path: Path
) -> None:
    async with Node(shared_dockerd, tmp_path / "jobs", probed=["GPU-1"]) as node:
        sample = await node.engine.sample()
        assert sample.gpus == []
        assert sample.memory_total_mib > 0
        assert "NVIDIA container toolkit" in sample.trouble
