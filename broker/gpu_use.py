"""What of a GPU's memory is taken, and by whom, as NVML told it: no job is given what others hold. Pure."""

from dataclasses import dataclass

from broker.protocol.fleet import GpuSample


@dataclass(frozen=True, slots=True)
class GpuUse:
    """MiB."""

    total_mib: int
    used_mib: int
    foreign_mib: int  # of processes that are not ours
    unclear_mib: int  # of what nobody can say whose it is: processes of other containers, memory without a process

    def others_mib(self, planned: float) -> int:
        """What is not ours. `planned`: the share of it that our jobs were given, to which what is unclear belongs as
        far as it goes; infinite where one job has it for itself."""
        return self.foreign_mib + max(0, round(self.unclear_mib - min(1.0, planned) * self.total_mib))


def gpu_use(gpu: GpuSample) -> GpuUse | None:
    """None where it does not tell."""
    if gpu.lost or not gpu.memory_total_mib:
        return None
    if not gpu.processes:
        return GpuUse(gpu.memory_total_mib, gpu.memory_used_mib, 0, gpu.memory_used_mib)
    others = [process for process in gpu.processes if process.job_id is None]
    foreign = sum(process.memory_mib for process in others if process.name)
    unclear = sum(process.memory_mib for process in others if not process.name)
    return GpuUse(gpu.memory_total_mib, gpu.memory_used_mib, foreign, unclear)
