"""What this process may use: Ultralytics asks the whole machine, and a container or a cgroup grants less."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2**63


def cpus(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Cores by affinity and cgroup quota, at least 1."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder in _folders(root, membership):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not period:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            allowed = min(allowed, int(quota) / int(period))
    return max(1, math.ceil(allowed))


def memory(root: Path = _ROOT, membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that are left under the tightest cgroup limit; None where there is no limit."""
    left: int | None = None
    for folder in _folders(root, membership):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, used = _read(folder / limit), _read(folder / usage)
            if most.isdigit() and int(most) < _UNLIMITED:
                here = int(most) - (int(used) if used.isdigit() else 0)
                left = here if left is None else min(left, here)
    return left


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """This process' cgroup directories and those above them, which limit it too."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if not controllers:
            base = root
        elif "cpu" in names or "memory" in names:
            base = root / ("cpu" if "cpu" in names else "memory")
        else:
            continue
        folder = base
        yield folder
        for part in filter(None, path.split("/")):
            folder /= part
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
