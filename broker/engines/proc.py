"""What /proc says about processes, so that a recycled pid is never taken for one of ours. Linux only.

A process is known by pid, start time and boot, and by the attempt it carries in its environment, which is inherited
by all that it starts, in whatever session they are.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

MARK = "WYOLO_ATTEMPT"  # <broker id>/<job>/<fence>, in the environment of every process of an attempt

_FEW = 400  # pids


@dataclass(frozen=True, slots=True)
class Identity:
    """A process of this boot: a pid alone would be anyone's."""

    pid: int
    start: int  # clock ticks since boot


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    state: str  # R, S, D, Z ...
    parent: int
    session: int
    start: int  # clock ticks since boot

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start)

    @property
    def dead(self) -> bool:
        return self.state in "ZX"


@cache
def boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def process(pid: int) -> Process | None:
    """None when there is no such process."""
    try:
        stat = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name in brackets may hold anything, brackets too
    return Process(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def lives(known: Process | Identity) -> bool:
    """Whether that process, and no later one with its pid, is still there."""
    now = process(known.pid)
    return now is not None and not now.dead and now.start == known.start


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - a third of the time


def since(pid: int) -> Iterator[int] | None:
    """Every pid given out after `pid`, in order, those given out while we look included: a child has a later pid than
    its parent, so one that forks and ends before our eyes cannot hide its child. None when they are too many to ask
    one by one, or began anew: then `pids` is the better way."""
    if not 0 <= _last_pid() - pid <= _FEW:
        return None

    def ascending() -> Iterator[int]:
        seen = pid
        while seen < (last := _last_pid()):
            yield from range(seen + 1, last + 1)
            seen = last

    return ascending()


def mark(pid: int) -> str | None:
    """The attempt that a process says it belongs to. None: it says nothing, is gone, or is not ours to ask."""
    return variable(pid, MARK)


def variable(pid: int, name: str) -> str | None:
    """Of a process' environment, as `mark`."""
    prefix = f"{name}=".encode()
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in _read(f"/proc/{pid}/environ").split(b"\0"):
            if entry.startswith(prefix):
                return entry[len(prefix) :].decode(errors="replace")
    return None


def send(target: Process | Identity, signum: int) -> bool:
    """Signal exactly this process: a pid that was recycled meanwhile is left alone. False when it is gone."""
    try:
        handle = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return False
    try:
        now = process(target.pid)
        if now is None or now.start != target.start:
            return False
        signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def out_of_memory_kills() -> int:
    """How often the kernel has killed for lack of memory since boot."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


def _last_pid() -> int:
    return int(_read("/proc/loadavg").split()[-1])


def _read(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(handle, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)
