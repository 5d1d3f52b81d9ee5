"""The GPU probe against a small NVML library of our own: two GPUs, one of which falls off the bus."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from broker.protocol.fleet import GpuSample

LIBRARY = r"""
#include <stdint.h>
#include <string.h>
typedef uintptr_t device;
static int lost(device d) { return d == 2 ? 15 : 0; }  /* NVML_ERROR_GPU_IS_LOST */
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, device *d) { *d = i + 1; return i == 2 ? 15 : 0; }
int nvmlDeviceGetUUID(device d, char *s, unsigned n) { strcpy(s, d == 1 ? "GPU-aaaa" : "GPU-bbbb"); return 0; }
int nvmlDeviceGetName(device d, char *s, unsigned n) { strcpy(s, "NVIDIA Small"); return lost(d); }
int nvmlDeviceGetMemoryInfo(device d, uint64_t *m) {
    m[0] = 8ull << 30; m[1] = 6ull << 30; m[2] = 2ull << 30; return lost(d);
}
int nvmlDeviceGetUtilizationRates(device d, unsigned *u) { u[0] = 87; u[1] = 20; return lost(d); }
int nvmlDeviceGetTemperature(device d, int kind, unsigned *t) { *t = 61; return lost(d); }
int nvmlDeviceGetPowerUsage(device d, unsigned *w) { *w = 123456; return lost(d); }
int nvmlDeviceGetEnforcedPowerLimit(device d, unsigned *w) { return 3; }  /* NVML_ERROR_NOT_SUPPORTED */
int nvmlDeviceGetComputeRunningProcesses_v3(device d, unsigned *n, void *list) {
    struct { unsigned pid; uint64_t memory; unsigned a, b; } *p = list;
    if (!list) { *n = 1; return 7; }  /* NVML_ERROR_INSUFFICIENT_SIZE */
    *n = 1; p[0].pid = 4242; p[0].memory = 512ull << 20; return 0;
}
const char *nvmlErrorString(int e) { return "error"; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(LIBRARY, encoding="ascii")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", "nvml.c"], cwd=folder, check=True)
    return folder


def probe(library: Path, visible: str | None) -> tuple[list[GpuSample], str]:
    """The first line of the probe, or why there was none."""
    env = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(library)}
    if visible is not None:
        env["CUDA_VISIBLE_DEVICES"] = visible
    with subprocess.Popen(
        [sys.executable, "-m", "trainer.gpu"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        process.kill()
        said = process.stderr.read()
    return [GpuSample.model_validate(gpu) for gpu in json.loads(line)["gpus"]] if line else [], said


def test_a_gpu_is_sampled_with_its_memory_load_and_processes(library: Path) -> None:
    gpus, said = probe(library, None)
    gpu = gpus[0]
    assert (gpu.index, gpu.uuid, gpu.name) == (0, "GPU-aaaa", "NVIDIA Small"), said
    assert (gpu.memory_total_mib, gpu.memory_used_mib, gpu.utilisation) == (8192, 2048, 87)
    assert (gpu.temperature_c, gpu.power_w, gpu.power_limit_w) == (61, 123.456, None)
    assert [(process.pid, process.memory_mib) for process in gpu.processes] == [(4242, 512)]
    assert not gpu.lost


def test_a_gpu_that_fell_off_the_bus_says_so_and_the_others_go_on(library: Path) -> None:
    gpus, _ = probe(library, None)
    assert [(gpu.uuid, gpu.lost) for gpu in gpus] == [("GPU-aaaa", False), ("GPU-bbbb", True)]


def test_only_the_gpus_that_were_given_are_sampled(library: Path) -> None:
    gpus, _ = probe(library, "GPU-aaaa")
    assert [gpu.uuid for gpu in gpus] == ["GPU-aaaa"]
    assert probe(library, "") == ([], "no NVIDIA GPU is visible here\n")


def test_without_a_driver_there_are_no_gpus(tmp_path: Path) -> None:
    broken = tmp_path / "libnvidia-ml.so.1"
    broken.write_bytes(b"no library")
    assert probe(tmp_path, None) == ([], "no NVIDIA GPU is visible here\n")
