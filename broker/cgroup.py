"""What a container lets this process use, and what it has used: CPU and memory of cgroup v1 and v2. Only reads.

A limit counts at any level from our own group up to the top: the tightest is the one that is felt.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limit:
    amount: float  # cores, or bytes
    group: Path  # the directory that sets it
    version: int  # 1 or 2
    account: Path  # the directory that counts its CPU time: v1 keeps that in a hierarchy of its own

    def used_bytes(self) -> int:
        """Memory in use, without what the kernel would give back at once."""
        usage = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        idle = "inactive_file" if self.version == 2 else "total_inactive_file"
        return max(0, _number(self.group / usage, 0) - _field(self.group / "memory.stat", idle))

    def used_cpu_s(self) -> float:
        """Seconds of CPU since the group began."""
        if self.version == 2:
            return _field(self.account / "cpu.stat", "usage_usec") / 1e6
        return _number(self.account / "cpuacct.usage", 0) / 1e9


def cpu_limit(proc: Path = Path("/proc/self")) -> Limit | None:
    return _tightest(proc, "cpu", _quota)


def memory_limit(machine_bytes: int, proc: Path = Path("/proc/self")) -> Limit | None:
    """None where it is no less than the machine has."""
    found = _tightest(proc, "memory", _memory)
    return found if found is not None and found.amount < machine_bytes else None


def _tightest(proc: Path, controller: str, read: Callable[[Path, int], float | None]) -> Limit | None:
    groups = list(_groups(proc, controller))
    accounts = list(_groups(proc, "cpuacct")) if groups and groups[0][1] == 1 else groups
    limits = [
        Limit(amount, group, version, account)
        for (group, version), (account, _) in zip(groups, accounts or groups, strict=False)
        if (amount := read(group, version)) is not None
    ]
    return min(limits, key=lambda limit: limit.amount, default=None)


def _groups(proc: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Our group's directory for a controller and those above it, as far as they are mounted here."""
    try:
        memberships = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split(" - ", 1) for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return
    ours = {name: path for _, names, path in memberships for name in names.split(",")}  # v2 has the name ""
    version = 1 if controller in ours else 2
    path = ours.get(controller) or ours.get("")
    if path is None:
        return
    for left, right in mounts:
        kind, _, options = right.split(" ", 2)
        if kind != ("cgroup" if version == 1 else "cgroup2"):
            continue
        if version == 1 and controller not in options.split(","):
            continue
        shown, place = left.split(" ")[3:5]  # what of the hierarchy is mounted, and where
        top = Path(place.replace("\\040", " "))
        inside = Path(path).relative_to(shown) if Path(path).is_relative_to(shown) else Path()
        group = top / inside
        while group != top:
            yield group, version
            group = group.parent
        yield top, version
        return


def _quota(group: Path, version: int) -> float | None:
    """Cores."""
    if version == 2:
        words = _words(group / "cpu.max")
        if len(words) == 2 and words[0].isdecimal() and int(words[1]) > 0:
            return int(words[0]) / int(words[1])
        return None
    quota, period = _number(group / "cpu.cfs_quota_us", -1), _number(group / "cpu.cfs_period_us", 0)
    return quota / period if quota > 0 and period > 0 else None


def _memory(group: Path, version: int) -> float | None:
    """Bytes."""
    limit = _number(group / ("memory.max" if version == 2 else "memory.limit_in_bytes"), -1)
    return limit if limit > 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path, otherwise: int) -> int:
    words = _words(path)
    return int(words[0]) if words and words[0].lstrip("-").isdecimal() else otherwise


def _field(path: Path, name: str) -> int:
    words = _words(path)
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values.get(name, 0))
