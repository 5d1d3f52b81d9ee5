"""This machine's NVIDIA GPUs through NVML. A GPU that falls off the bus is lost, the others are read as before.

NVML's calls block, and hang where the driver does: call from a thread. The library is loaded with the first reading.
"""

import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from broker.protocol.fleet import GpuProcess, GpuSample

MIB = 1 << 20
RETRY_S = 60.0  # between looks for a driver that was not there

Choice = Literal["all", "none"] | list[str]  # of UUIDs or indexes


class Nvidia:
    """`reason` says why there are no GPUs; "" where there are."""

    reason: str = "not looked yet"

    def __init__(self, choice: Choice = "all") -> None:
        self._choice = choice
        self._nvml: Any = None
        self._next_look = 0.0  # monotonic
        self._known: dict[str, GpuSample] = {}  # by UUID, as last seen well

    def read(self) -> list[GpuSample]:
        """One sample for each GPU that was ever seen, in NVML's order. Blocks."""
        if self._choice == "none":
            self.reason = "switched off in the settings"
            return []
        seen: dict[str, GpuSample] = {}
        if self._ready():
            try:
                for index in range(self._nvml.nvmlDeviceGetCount()):
                    if (sample := self._sample(index)) is not None:
                        seen[sample.uuid] = sample
            except self._nvml.NVMLError as error:
                self._shut(error)
        self._known |= {uuid: sample for uuid, sample in seen.items() if not sample.lost}
        gone = [_lost(sample) for uuid, sample in self._known.items() if uuid not in seen]
        return sorted([*seen.values(), *gone], key=lambda sample: sample.index)

    def _ready(self) -> bool:
        if self._nvml is None:
            if time.monotonic() < self._next_look:
                return False
            self._next_look = time.monotonic() + RETRY_S
            nvml: Any = importlib.import_module("pynvml")
            try:
                nvml.nvmlInit()
            except nvml.NVMLError as error:
                self.reason = f"no NVIDIA driver answers: {error}"
                return False
            self._nvml, self.reason = nvml, ""
        return True

    def _shut(self, error: Exception) -> None:
        """The driver itself is gone: begin anew, soon."""
        self.reason = f"the NVIDIA driver stopped answering: {error}"
        nvml, self._nvml = self._nvml, None
        self._next_look = 0.0
        with suppress(nvml.NVMLError):  # it may be gone already
            nvml.nvmlShutdown()

    def _sample(self, index: int) -> GpuSample | None:
        """None: not chosen, or not ours to see. Raises NVMLError when it is the driver that is gone."""
        nvml = self._nvml
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid: str = nvml.nvmlDeviceGetUUID(device)
            if self._choice != "all" and uuid not in self._choice and str(index) not in self._choice:
                return None
            name: str = nvml.nvmlDeviceGetName(device)
            memory = self._maybe(nvml.nvmlDeviceGetMemoryInfo, device)
            load = self._maybe(nvml.nvmlDeviceGetUtilizationRates, device)
            heat = self._maybe(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU)
            power = self._maybe(nvml.nvmlDeviceGetPowerUsage, device)
            limit = self._maybe(nvml.nvmlDeviceGetEnforcedPowerLimit, device)
            return GpuSample(
                index=index,
                uuid=uuid,
                name=name,
                memory_total_mib=memory.total // MIB if memory else 0,
                memory_used_mib=memory.used // MIB if memory else 0,
                utilisation=float(load.gpu) if load else 0.0,
                temperature_c=heat,
                power_w=None if power is None else power / 1000,
                power_limit_w=None if limit is None else limit / 1000,
                processes=self._processes(device),
            )
        except nvml.NVMLError as error:
            if error.value in {nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
                raise
            if error.value == nvml.NVML_ERROR_NO_PERMISSION:
                return None
            return self._lost_at(index)

    def _maybe(self, read: Callable[..., Any], *args: Any) -> Any:
        """None for what this GPU does not tell. Raises NVMLError when the GPU or the driver is gone."""
        nvml = self._nvml
        try:
            return read(*args)
        except nvml.NVMLError as error:
            if error.value in {
                nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.NVML_ERROR_NO_PERMISSION,
                nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
                nvml.NVML_ERROR_NO_DATA,
            }:
                return None
            raise

    def _processes(self, device: Any) -> list[GpuProcess]:
        nvml = self._nvml
        found: dict[int, GpuProcess] = {}
        for read in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            processes: list[Any] = self._maybe(read, device) or []
            for process in processes:
                pid: int = process.pid
                used: int = (process.usedGpuMemory or 0) // MIB
                if pid not in found or found[pid].memory_mib < used:
                    found[pid] = GpuProcess(pid=pid, memory_mib=used, name=_name(pid))
        return sorted(found.values(), key=lambda process: -process.memory_mib)

    def _lost_at(self, index: int) -> GpuSample | None:
        """Lost; with the identity it had, if it was ever seen. None where it was not chosen."""
        for sample in self._known.values():
            if sample.index == index:
                return _lost(sample)
        if self._choice != "all" and str(index) not in self._choice:
            return None
        unknown = GpuSample(
            index=index, uuid=f"lost-{index}", name="GPU", memory_total_mib=0, memory_used_mib=0, utilisation=0.0
        )
        return _lost(unknown)


def _lost(sample: GpuSample) -> GpuSample:
    return GpuSample(
        index=sample.index,
        uuid=sample.uuid,
        name=sample.name,
        memory_total_mib=sample.memory_total_mib,
        memory_used_mib=0,
        utilisation=0.0,
        lost=True,
    )


def _name(pid: int) -> str:
    """As the kernel knows it; "" for a process of another container."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
