"""How busy a node is, as its daemon tells of our containers; where the broker runs on it, its own gauges know more."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from broker.engines.docker_errors import Refused
from broker.engines.docker_link import Link
from broker.engines.docker_probe import Probe
from broker.errors import EngineUnreachable
from broker.protocol.fleet import HostSample

INFO_S = 60.0  # between looks at what the node has
_MIB = 1024 * 1024


class Gauging(Protocol):
    """A machine's own gauges."""

    @property
    def gpu_uuids(self) -> Sequence[str]: ...
    async def sample(self) -> HostSample: ...


class Usage:
    """`gauges`: of the machine that the node is on, where they can be read. `gpus`: UUIDs, where they cannot, and
    `probe`: what reads them there."""

    def __init__(
        self, link: Link, gauges: Gauging | None = None, gpus: Sequence[str] = (), probe: Probe | None = None
    ) -> None:
        self._link = link
        self._gauges = gauges
        self._probe = probe
        self._gpus = tuple(gpus)
        self._cpus, self._memory_mib = 0, 0
        self._informed_at = float("-inf")
        self._before: dict[str, tuple[float, float]] = {}  # container -> CPU seconds, at

    @property
    def gpu_uuids(self) -> Sequence[str]:
        if self._gauges is not None:
            return self._gauges.gpu_uuids
        return (self._probe.gpu_uuids if self._probe is not None else ()) or self._gpus

    async def close(self) -> None:
        if self._probe is not None:
            await self._probe.close()

    async def sample(self, containers: Sequence[str]) -> HostSample:
        """Raises EngineUnreachable."""
        if self._gauges is not None:
            await self._link.ping()
            return await self._gauges.sample()
        await self._inform()
        stats = await asyncio.gather(*(self._stats(each) for each in containers))
        used = dict(zip(containers, stats, strict=True))
        busy = sum(self._cores(each, found) for each, found in used.items())
        self._before = {each: self._before[each] for each in containers if each in self._before}
        gpus = await self._probe.read() if self._probe is not None else []
        return HostSample(
            node=self._link.node,
            at=datetime.now(UTC),
            cpu_percent=min(100.0, 100 * busy / max(1, self._cpus)),
            load1=round(busy, 2),
            memory_total_mib=self._memory_mib,
            memory_used_mib=sum(map(_memory_mib, stats)),
            gpus=gpus,
            trouble=self._probe.trouble if self._probe is not None else "",
        )

    async def _inform(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._informed_at < INFO_S:
            return await self._link.ping()
        info = await self._link.info()
        self._cpus, self._memory_mib = int(info["NCPU"]), int(info["MemTotal"]) // _MIB
        self._informed_at = now

    async def _stats(self, container: str) -> Mapping[str, Any]:
        """Empty of one that has just ended, or is slow to tell."""
        try:
            return await self._link.get(f"containers/{container}/stats", {"stream": "0", "one-shot": "1"})
        except (Refused, EngineUnreachable):
            return {}

    def _cores(self, container: str, stats: Mapping[str, Any]) -> float:
        """Since the last sample."""
        used = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        if used is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        before = self._before.get(container)
        self._before[container] = (used / 1e9, now)
        return max(0.0, (used / 1e9 - before[0]) / (now - before[1])) if before and now > before[1] else 0.0


def _memory_mib(stats: Mapping[str, Any]) -> int:
    """Without what the kernel only keeps for files."""
    memory = stats.get("memory_stats", {})
    detail = memory.get("stats", {})
    cached = detail.get("total_inactive_file", detail.get("inactive_file", 0))
    return max(0, memory.get("usage", 0) - cached) // _MIB
