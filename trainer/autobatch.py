"""The batch size: a number as it is, a share of the GPU's memory resolved once and then kept for later attempts."""

from dataclasses import dataclass
from typing import Any

from broker.protocol.states import EndReason
from trainer.failures import TrainingError

CPU_BATCH = 16  # what Ultralytics takes where there is no GPU memory to measure
SHARE = 0.6  # of the free memory, for batch -1


@dataclass(frozen=True, slots=True)
class GpuMemory:
    total: int  # bytes
    free: int  # bytes


def batch(wanted: Any, resolved: int | None, gpu: GpuMemory | None, limit: float | None) -> tuple[float, str]:
    """(what Ultralytics is given, a note or ""). `resolved` is an earlier attempt's, `limit` the share we may use.

    A whole number from 1 is a batch size; -1 and shares between 0 and 1 are resolved by Ultralytics on the GPU.
    """
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted == 0 or wanted < -1:
        raise _refused(wanted)
    if wanted >= 1:
        if wanted != int(wanted):
            raise _refused(wanted)
        return int(wanted), ""
    if resolved is not None:
        return resolved, f"batch {resolved} as in the attempt before (train.batch is {wanted:g})"
    if gpu is None:
        return CPU_BATCH, f"train.batch {wanted:g} asks for a share of GPU memory: on the CPU it is {CPU_BATCH}"
    share = SHARE if wanted < 0 else float(wanted)
    return share * usable(gpu, limit), ""


def usable(gpu: GpuMemory, limit: float | None) -> float:
    """The part of the free memory that we may use, 0..1: Ultralytics measures what is free and knows no limit."""
    if limit is None or gpu.free <= 0:
        return 1.0
    return min(1.0, limit * gpu.total / gpu.free)


def _refused(wanted: Any) -> TrainingError:
    return TrainingError(
        EndReason.BAD_CONFIG,
        f"train.batch is {wanted!r}",
        "give a whole number of images, -1, or a share of GPU memory such as 0.7",
    )
