"""NVML samples of the GPUs that this process may use. `python -m trainer.gpu` prints them, a JSON line each time.

Never in the way of a training: a machine without an NVIDIA driver has no GPUs, and a GPU that is lost says so.
"""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from broker.protocol.fleet import GpuProcess, GpuSample
from broker.protocol.training import GpuReading
from trainer.emit import Emitter, now

EVERY_S = 5.0
_MIB = 1 << 20


class Nvml:
    """An open NVML library. `gpus` is empty where there is none."""

    def __init__(self) -> None:
        self._lib: Any = None
        self._handles: list[tuple[int, str, Any]] = []
        lib: Any = import_module("pynvml")
        try:
            lib.nvmlInit()
        except lib.NVMLError:
            return
        self._lib = lib
        known: list[tuple[int, str, Any]] = []
        for index in range(lib.nvmlDeviceGetCount()):
            with suppress(lib.NVMLError):  # lost before we came: nothing here can use it
                handle = lib.nvmlDeviceGetHandleByIndex(index)
                known.append((index, _text(lib.nvmlDeviceGetUUID(handle)), handle))
        chosen = visible([(index, uuid) for index, uuid, _ in known], os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._handles = [entry for entry in known if entry[0] in chosen]

    def __len__(self) -> int:
        return len(self._handles)

    def read(self) -> list[GpuSample]:
        return [self._sample(index, uuid, handle) for index, uuid, handle in self._handles]

    def _sample(self, index: int, uuid: str, handle: Any) -> GpuSample:
        lib = self._lib
        try:
            memory = lib.nvmlDeviceGetMemoryInfo(handle)
            return GpuSample(
                index=index,
                uuid=uuid,
                name=_text(lib.nvmlDeviceGetName(handle)),
                memory_total_mib=int(memory.total) // _MIB,
                memory_used_mib=int(memory.used) // _MIB,
                utilisation=float(self._ask("nvmlDeviceGetUtilizationRates", handle, "gpu") or 0.0),
                temperature_c=self._ask("nvmlDeviceGetTemperature", handle, None, lib.NVML_TEMPERATURE_GPU),
                power_w=_watts(self._ask("nvmlDeviceGetPowerUsage", handle)),
                power_limit_w=_watts(self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
                processes=[
                    GpuProcess(pid=int(process.pid), memory_mib=int(process.usedGpuMemory or 0) // _MIB)
                    for process in self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
                ],
            )
        except lib.NVMLError:
            return GpuSample(
                index=index, uuid=uuid, name="", memory_total_mib=0, memory_used_mib=0, utilisation=0.0, lost=True
            )

    def _ask(self, name: str, handle: Any, attribute: str | None = None, *more: Any) -> Any:
        """None where this GPU does not say."""
        lib = self._lib
        try:
            answer = getattr(lib, name)(handle, *more)
        except (lib.NVMLError_NotSupported, lib.NVMLError_NoPermission, lib.NVMLError_FunctionNotFound):
            return None
        return getattr(answer, attribute) if attribute else answer


def visible(gpus: list[tuple[int, str]], setting: str | None) -> set[int]:
    """The indexes that CUDA_VISIBLE_DEVICES leaves of (index, UUID) pairs, as CUDA reads it."""
    if setting is None:
        return {index for index, _ in gpus}
    chosen: set[int] = set()
    for word in (part.strip() for part in setting.split(",")):
        found = [i for i, uuid in gpus if word and (word == str(i) or (not word.isdigit() and uuid.startswith(word)))]
        if len(found) != 1:
            break  # CUDA ignores everything after a word that names no GPU
        chosen.add(found[0])
    return chosen


class Sampler:
    """Emits a GpuReading every few seconds, from a thread of its own, where there are GPUs."""

    def __init__(self, emitter: Emitter, every_s: float = EVERY_S) -> None:
        self._emitter = emitter
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="gpu", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Nothing is emitted afterwards."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(self._every_s)

    def _sample(self) -> None:
        nvml = Nvml()
        while len(nvml) and not self._ended.is_set():
            with suppress(OSError):  # a full disk ends the training, not this thread
                self._emitter.emit(GpuReading(at=now(), gpus=[gpu.model_dump() for gpu in nvml.read()]))
            self._ended.wait(self._every_s)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else float(milliwatts) / 1000


def main() -> int:
    """A node's probe: one line now and every few seconds. 1 where there are no GPUs."""
    nvml = Nvml()
    if not len(nvml):
        print("no NVIDIA GPU is visible here", file=sys.stderr)
        return 1
    while True:
        line = json.dumps({"at": now().isoformat(), "gpus": [gpu.model_dump() for gpu in nvml.read()]})
        print(line, flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
