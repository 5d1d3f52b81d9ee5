"""Builds nvml.c, a libnvidia-ml.so.1 for machines without a GPU, and runs programs with it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml.c")


def built(directory: Path) -> Path:
    """The directory that has the library, for LD_LIBRARY_PATH. Skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the NVML library for this test with")
    library = directory / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE], check=True)
    return directory


def environment(directory: Path, gpus: int, state: Path) -> dict[str, str]:
    """Of a program that sees `gpus` GPUs; what is written into `state` happens to them (see nvml.c)."""
    return os.environ | {
        "LD_LIBRARY_PATH": str(directory),
        "WYOLO_NVML_GPUS": str(gpus),
        "WYOLO_NVML_STATE": str(state),
    }
