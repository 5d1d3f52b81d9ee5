"""A process held by its pidfd: it is signalled as itself or not at all, and its end is an event. Linux."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import Self


class Process:
    """A running process, our child or not. `ended` is set when it has ended (a child is reaped then)."""

    def __init__(self, pid: int, birth: str, descriptor: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.birth = birth  # boot and start time: no later process with this id has the same
        self.ended = asyncio.Event()
        self._descriptor = descriptor
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._on_end)

    @classmethod
    def of(cls, child: subprocess.Popen[bytes]) -> Self:
        return cls(child.pid, birth(child.pid) or "", os.pidfd_open(child.pid), child)

    @classmethod
    def find(cls, pid: int, born: str | None = None) -> Self | None:
        """The running process with this id (and this birth, if given)."""
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return None
        found = birth(pid)  # read after the pidfd was opened: it is this process' and no later one's
        if found is None or (born is not None and found != born):
            os.close(descriptor)
            return None
        return cls(pid, found, descriptor)

    async def end(self, patience_s: float) -> None:
        """Wait; then SIGTERM and wait; then SIGKILL. `patience_s` is each wait."""
        if not await self.gone(patience_s):
            self._send(signal.SIGTERM)
            if not await self.gone(patience_s):
                await self.kill()

    async def kill(self) -> None:
        """SIGKILL. Returns when it has ended, or after 5 s in which the kernel did not let it go."""
        self._send(signal.SIGKILL)
        await self.gone(5.0)

    async def gone(self, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), within_s)
        return self.ended.is_set()

    def let_go(self) -> None:
        """Close the pidfd; the process goes on."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _send(self, number: signal.Signals) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _on_end(self) -> None:
        self.let_go()
        if self._child is not None:
            self._child.wait()  # it has ended: this only reaps it
        self.ended.set()


def birth(pid: int) -> str | None:
    """Boot id and start time of a running process, in clock ticks since that boot; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def listener(socket_path: Path) -> int | None:
    """Process id of who listens on a unix socket, as the kernel knows it: true also of one that is frozen.

    None when nobody of this user does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fsencode(socket_path))
            pid, uid, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
    return pid if uid == os.getuid() and pid > 0 else None
