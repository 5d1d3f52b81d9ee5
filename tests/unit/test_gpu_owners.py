"""Whose a process on a GPU is: ours by its mark or its container, somebody else's, or nobody can tell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from broker import gpu_owners
from broker.gpu_owners import owned
from broker.gpu_use import GpuUse, gpu_use
from broker.protocol.fleet import GpuProcess, GpuSample, HostSample

BROKER = "b" * 32


def reading(*processes: GpuProcess, used: int = 0) -> HostSample:
    gpu = GpuSample(
        index=0, uuid="GPU-0", name="GPU", memory_total_mib=16_000, memory_used_mib=used, utilisation=0.0,
        processes=list(processes),
    )  # fmt: skip
    return HostSample(
        node="local", at=datetime.now(UTC), cpu_percent=0, load1=0, memory_total_mib=1, memory_used_mib=0, gpus=[gpu]
    )


@pytest.fixture
def job() -> Iterator[int]:
    """The pid of a process of job 7."""
    environment = os.environ | {"WYOLO_ATTEMPT": f"{BROKER}/7/2"}
    with subprocess.Popen([sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


def test_a_process_of_a_job_is_known_by_its_mark(job: int) -> None:
    ours = GpuProcess(pid=job, memory_mib=5000, name="python")
    theirs = GpuProcess(pid=os.getpid(), memory_mib=3000, name="python")
    hidden = GpuProcess(pid=4_000_000, memory_mib=700)
    [gpu] = owned(reading(ours, theirs, hidden, used=9000), BROKER, {}).gpus
    assert [process.job_id for process in gpu.processes] == [7, None, None]
    assert gpu_use(gpu) == GpuUse(16_000, 9000, foreign_mib=3000, unclear_mib=700)
    [other] = owned(reading(ours), "c" * 32, {}).gpus
    assert other.processes[0].job_id is None


def test_a_process_in_a_container_is_known_by_the_innermost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox, container = "a" * 64, "d" * 64

    def cgroup(_pid: int) -> str:
        return f"0::/docker/{sandbox}/docker/{container}\n"

    monkeypatch.setattr(gpu_owners, "_cgroup", cgroup)
    process = GpuProcess(pid=os.getpid(), memory_mib=100, name="python")
    [gpu] = owned(reading(process), BROKER, {container: 9}).gpus
    assert gpu.processes[0].job_id == 9


def test_memory_without_a_process_is_of_nobody_knows_whom() -> None:
    assert gpu_use(reading(used=6000).gpus[0]) == GpuUse(16_000, 6000, 0, unclear_mib=6000)
    assert GpuUse(16_000, 6000, 0, 6000).others_mib(planned=0.25) == 2000
    assert GpuUse(16_000, 6000, 500, 6000).others_mib(planned=float("inf")) == 500
    assert gpu_use(reading().gpus[0].model_copy(update={"lost": True})) is None
