"""What this machine has and how busy it is: CPU, memory, /dev/shm, the data directory's disk, GPUs.

In a container its limits count, not the host's size. A sample costs about a millisecond without GPUs; one that hangs
in a driver holds up neither the broker nor its end.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil

from broker import cgroup
from broker.cgroup import MIB
from broker.errors import EngineUnreachable
from broker.nvidia import Choice, Nvidia
from broker.protocol.fleet import HostSample

T = TypeVar("T")
PATIENCE_S = 3.0  # that a sample waits for drivers and disks


class Gauges:
    """GPUs are known after the first sample."""

    def __init__(
        self, node: str, data_dir: Path, gpus: Choice = "all", *, cpus: float = 0.0, memory_mib: int = 0
    ) -> None:
        """`cpus` and `memory_mib` are what jobs may plan for where that is less than the machine has; 0: all of it."""
        self._node = node
        self._data_dir = data_dir
        self._nvidia = Nvidia(gpus)
        self.gpu_uuids: tuple[str, ...] = ()  # of those that work
        total = psutil.virtual_memory().total
        self._cpu_limit = cgroup.cpu_limit()
        self._memory_limit = cgroup.memory_limit(total)
        self._memory_bytes = int(self._memory_limit.amount) if self._memory_limit else total
        here = min(float(len(os.sched_getaffinity(0))), self._cpu_limit.amount if self._cpu_limit else float("inf"))
        self.cpus: float = min(cpus, here) if cpus else here
        self.memory_mib: int = min(memory_mib or self._memory_bytes // MIB, self._memory_bytes // MIB)
        self._busy = self._busy_s()
        self._cpu_percent = 0.0
        self._reading: asyncio.Future[HostSample] | None = None
        self._last: HostSample | None = None

    @property
    def no_gpus(self) -> str:
        """Why there are none; '' where there are."""
        return self._nvidia.reason

    async def sample(self) -> HostSample:
        """The newest reading: one of a while ago (see `at`) while a driver or disk hangs.

        Raises EngineUnreachable when it hangs before there was any.
        """
        if self._reading is None or self._reading.done():
            self._reading = _in_thread(self.read)
        await asyncio.wait({self._reading}, timeout=PATIENCE_S)
        if self._reading.done():
            self._last = self._reading.result()
        if self._last is None:
            raise EngineUnreachable(
                f"{self._node}: GPU driver and disk of {self._data_dir} did not answer within {PATIENCE_S:g} s. "
                "Nothing is placed there until they do; see whether nvidia-smi and df answer."
            )
        return self._last

    def read(self) -> HostSample:
        """Blocks. One thread at a time."""
        gpus = self._nvidia.read()
        self.gpu_uuids = tuple(gpu.uuid for gpu in gpus if not gpu.lost)
        shm_total, shm_used = _disk(Path("/dev/shm"))
        disk_total, disk_used = _disk(self._data_dir)
        return HostSample(
            node=self._node,
            at=datetime.now(UTC),
            cpu_percent=self._percent(),
            load1=os.getloadavg()[0],
            memory_total_mib=self._memory_bytes // MIB,
            memory_used_mib=self._memory_used() // MIB,
            shm_total_mib=shm_total // MIB,
            shm_used_mib=shm_used // MIB,
            disk_total_mib=disk_total // MIB,
            disk_used_mib=disk_used // MIB,
            gpus=gpus,
        )

    def _memory_used(self) -> int:
        if self._memory_limit is not None:
            return self._memory_limit.used_bytes()
        memory = psutil.virtual_memory()
        return memory.total - memory.available

    def _busy_s(self) -> tuple[float, float]:
        """Seconds of CPU used and seconds there were to use, both since some beginning."""
        if self._cpu_limit is not None:
            return self._cpu_limit.used_cpu_s(), time.monotonic() * self._cpu_limit.amount
        times = psutil.cpu_times()
        whole = sum(times[:8])  # guest times are part of user and nice
        return whole - times.idle - times.iowait, whole

    def _percent(self) -> float:
        """Since the last sample; that one's where the clocks have not ticked since."""
        before, self._busy = self._busy, self._busy_s()
        used, there = self._busy[0] - before[0], self._busy[1] - before[1]
        if there > 0:
            self._cpu_percent = min(100.0, max(0.0, 100 * used / there))
        return self._cpu_percent


def _disk(path: Path) -> tuple[int, int]:
    """Bytes there are and bytes in use; zeros where it cannot be told."""
    try:
        usage = psutil.disk_usage(str(path))
    except OSError:
        return 0, 0
    return usage.total, usage.used


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """As asyncio.to_thread, but a call that never returns keeps neither a pool's thread nor the program from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)  # pyright: ignore[reportArgumentType]

    def run() -> None:
        value, failed = None, None
        try:
            value = call()
        except Exception as error:  # whoever awaits the answer gets it
            failed = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, failed)

    threading.Thread(target=run, name="gauges", daemon=True).start()
    return answer
