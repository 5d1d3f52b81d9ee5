"""A small disk that a test can fill: a tmpfs of its own, which only root may mount."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, mib: int) -> Generator[Path]:
    """Skips, with the reason, where it cannot be mounted; fails there under WYOLO_CI=1."""
    path.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        why = f"a full disk needs a tmpfs, and mounting one is refused here: {made.stderr.strip()}"
        pytest.fail(why) if os.environ.get("WYOLO_CI") == "1" else pytest.skip(why)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@contextmanager
def full(disk: Path) -> Generator[None]:
    """Not a byte is free on it inside this block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()
