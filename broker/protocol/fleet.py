"""Nodes, their GPUs and what was measured on them. Memory in MiB, power in watts, temperature in Celsius."""

from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Literal

from pydantic import Field

from broker.protocol.job import Lenient


class NodeState(StrEnum):
    """The first three are seen, the others are said by people; out of reach goes before what was said."""

    UP = "up"
    DEGRADED = "degraded"
    UNREACHABLE = "unreachable"
    DRAINING = "draining"  # nothing new starts, what runs goes on to its end
    PAUSED = "paused"  # the same, for a time: its owner takes it back


class Withheld(Lenient):
    """A person's word that nothing may start on a node."""

    state: Literal[NodeState.DRAINING, NodeState.PAUSED]
    since: datetime  # UTC
    until: datetime | None = None  # UTC; None: until somebody says resume
    by: str = ""

    def over(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    def words(self, now: datetime, zone: tzinfo | None = None) -> str:
        """'paused until 15:00 by ann'; with the day where that is another one. `zone`: None is the machine's."""
        until = ""
        if self.until is not None:
            end, today = self.until.astimezone(zone), now.astimezone(zone).date()
            until = f" until {end:%H:%M}" if end.date() == today else f" until {end:%d %b %H:%M}"
        return f"{self.state.value}{until}" + (f" by {self.by}" if self.by else "")


class GpuProcess(Lenient):
    pid: int
    memory_mib: int
    name: str = ""
    job_id: int | None = None  # None: not ours


class GpuSample(Lenient):
    """One reading of one GPU."""

    index: int
    uuid: str
    name: str
    memory_total_mib: int
    memory_used_mib: int
    utilisation: float  # 0..100 %
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    processes: list[GpuProcess] = Field(default_factory=list[GpuProcess])
    lost: bool = False  # fell off the bus: set aside


class HostSample(Lenient):
    """One reading of one node."""

    node: str
    at: datetime  # UTC
    cpu_percent: float  # 0..100 over all cores
    load1: float
    memory_total_mib: int
    memory_used_mib: int
    shm_total_mib: int = 0
    shm_used_mib: int = 0
    disk_total_mib: int = 0
    disk_used_mib: int = 0
    gpus: list[GpuSample] = Field(default_factory=list[GpuSample])
    trouble: str = ""  # what could not be measured, and why


class Node(Lenient):
    """One engine as the cockpit shows it."""

    name: str
    engine: str  # "local", "docker", "swarm"
    state: NodeState = NodeState.UP
    message: str = ""
    slots: int
    slots_used: int = 0
    cpus: float
    memory_mib: int
    jobs: list[int] = Field(default_factory=list[int])
    gpu_jobs: dict[str, list[int]] = Field(default_factory=dict[str, list[int]])  # GPU uuid -> job ids
    sample: HostSample | None = None
    history: list[HostSample] = Field(default_factory=list[HostSample])  # at most 120, oldest first
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    withheld: Withheld | None = None
