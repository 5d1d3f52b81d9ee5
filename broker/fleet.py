"""The nodes: measured every two seconds, remembered for four minutes, and told to followers."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from broker.bus import Bus
from broker.engines.base import Engine
from broker.errors import EngineError, NotFound
from broker.ledger.ledger import Ledger
from broker.ledger.records import ActiveJob
from broker.protocol.event import NodeChanged, Sampled
from broker.protocol.findings import near
from broker.protocol.fleet import HostSample, Node, NodeState
from broker.settings import NodeSettings

SAMPLE_S = 2.0
PATIENCE_S = 10.0  # an engine that has not answered for so long is unreachable
HISTORY = 120  # samples

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    settings: NodeSettings
    engine: Engine
    cpus: float = 0.0
    memory_mib: int = 0
    gpus: Sequence[str] = ()  # UUIDs in the order of their indexes, those that are lost too
    state: NodeState = NodeState.UP
    message: str = ""
    history: deque[HostSample] = field(default_factory=lambda: deque[HostSample](maxlen=HISTORY))

    @property
    def slots(self) -> int:
        return self.settings.slots or max(1, len(self.gpus))


class Fleet:
    def __init__(self, engines: Iterable[tuple[NodeSettings, Engine]], ledger: Ledger, bus: Bus) -> None:
        self._nodes = {settings.name: _Watched(settings, engine) for settings, engine in engines}
        self._ledger = ledger
        self._bus = bus
        self._unseen = set(self._nodes)
        self.seen = asyncio.Event()  # every node was measured once, or could not be

    async def watch(self) -> None:
        """Runs for ever."""
        async with asyncio.TaskGroup() as tasks:
            for name, node in self._nodes.items():
                tasks.create_task(self._watch(node), name=f"sample {name}")

    async def nodes(self) -> list[Node]:
        """In the order of the settings, without history."""
        active = await self._ledger.active()
        return [self._shown(node, active) for node in self._nodes.values()]

    async def node(self, name: str) -> Node:
        """With its history. Raises NotFound."""
        if name not in self._nodes:
            known = ", ".join(self._nodes)
            raise NotFound(f"no node is called {name}: {near(name, self._nodes) or f'there are {known}'}")
        node = self._nodes[name]
        shown = self._shown(node, await self._ledger.active())
        shown.history = list(node.history)
        return shown

    def states(self) -> dict[str, str]:
        """For health: 'up', or 'unreachable: why'."""
        return {
            name: f"{node.state}: {node.message}" if node.message else str(node.state)
            for name, node in self._nodes.items()
        }

    def condition(self, name: str) -> tuple[str, frozenset[str], Sequence[str]]:
        """Why nothing may start on a node ('' where it may), its GPUs that are set aside, and all of its GPUs."""
        node = self._nodes[name]
        lost = {gpu.uuid for gpu in node.history[-1].gpus if gpu.lost} if node.history else set[str]()
        return "cannot be reached" if node.state is NodeState.UNREACHABLE else "", frozenset(lost), node.gpus

    async def _watch(self, node: _Watched) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    sample = await node.engine.sample()
                    if not node.cpus:
                        found = await node.engine.inventory()
                        node.cpus, node.memory_mib = found.cpus, found.memory_mib
            except (EngineError, TimeoutError, OSError) as error:
                said = str(error) or f"did not answer for {PATIENCE_S:.0f} s"
                await self._turn(node, NodeState.UNREACHABLE, said)
            else:
                node.history.append(sample)
                node.gpus = [gpu.uuid for gpu in sample.gpus]  # a driver may come late, a GPU may come back
                self._bus.publish(Sampled(at=sample.at, sample=sample))
                lost = [gpu.index for gpu in sample.gpus if gpu.lost]
                message = f"GPU {', '.join(map(str, lost))} fell off the bus and is set aside" if lost else ""
                message = message or sample.trouble
                await self._turn(node, NodeState.DEGRADED if message else NodeState.UP, message)
            self._unseen.discard(node.settings.name)
            if not self._unseen:
                self.seen.set()
            await asyncio.sleep(max(0.1, SAMPLE_S - (loop.time() - began)))

    async def _turn(self, node: _Watched, state: NodeState, message: str) -> None:
        if (node.state, node.message) == (state, message):
            return
        node.state, node.message = state, message
        log.warning("node %s is %s %s", node.settings.name, state, message)
        if node.history:
            shown = self._shown(node, await self._ledger.active())
            self._bus.publish(NodeChanged(at=node.history[-1].at, node=shown))

    def _shown(self, node: _Watched, active: Sequence[ActiveJob]) -> Node:
        mine = [job for job in active if job.attempt.node == node.settings.name]
        gpu_jobs: dict[str, list[int]] = {uuid: [] for uuid in node.gpus}
        for job in mine:
            for uuid in job.attempt.gpus:
                gpu_jobs.setdefault(uuid, []).append(job.job.id)
        return Node(
            name=node.settings.name,
            engine=node.settings.engine,
            state=node.state,
            message=node.message,
            slots=node.slots,
            slots_used=len(mine),
            cpus=node.settings.cpus or node.cpus,
            memory_mib=node.settings.memory_mib or node.memory_mib,
            jobs=[job.job.id for job in mine],
            gpu_jobs=gpu_jobs,
            sample=node.history[-1] if node.history else None,
            labels=node.settings.labels,
        )
