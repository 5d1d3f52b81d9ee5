"""The nodes: measured every two seconds, remembered for four minutes, and told to followers; and what people said of
them, which the ledger keeps. A pause that is over ends by itself."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from broker.bus import Bus
from broker.engines.base import Engine
from broker.errors import EngineError, LedgerFull, NotFound
from broker.gpu_owners import owned
from broker.gpu_use import GpuUse, gpu_use
from broker.ledger.ledger import Ledger
from broker.ledger.records import ActiveJob, NodeNote
from broker.protocol.event import NodeChanged, Sampled
from broker.protocol.findings import near
from broker.protocol.fleet import HostSample, Node, NodeState, Withheld
from broker.settings import NodeSettings

SAMPLE_S = 2.0
PATIENCE_S = 10.0  # an engine that has not answered for so long is unreachable
HISTORY = 120  # samples
LOOK_S = 30.0  # between looks at pauses, at most: the clock may be set

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    settings: NodeSettings
    engine: Engine
    cpus: float = 0.0
    memory_mib: int = 0
    gpus: Sequence[str] = ()  # UUIDs in the order of their indexes, those that are lost too
    seen: NodeState = NodeState.UP
    message: str = ""
    withheld: Withheld | None = None
    history: deque[HostSample] = field(default_factory=lambda: deque[HostSample](maxlen=HISTORY))

    @property
    def slots(self) -> int:
        return self.settings.slots or max(1, len(self.gpus))

    @property
    def state(self) -> NodeState:
        if self.withheld is None or self.seen is NodeState.UNREACHABLE:
            return self.seen
        return self.withheld.state

    def kept_from(self, now: datetime) -> str:
        """What people said, in words, while it holds; ''."""
        return "" if self.withheld is None or self.withheld.over(now) else self.withheld.words(now)


class Measured(NamedTuple):
    """Of a node, for placement."""

    closed: str  # why nothing may start there; '' where it may
    aside: frozenset[str]  # GPUs that fell off the bus
    gpus: Sequence[str]  # all of its GPUs
    use: Mapping[str, GpuUse] = {}
    load: float = 0.0  # of its cores or its memory, whichever is more taken


class Fleet:
    """`changed`: called when a node has become one that jobs may start on, or ceased to be one."""

    def __init__(
        self,
        engines: Iterable[tuple[NodeSettings, Engine]],
        ledger: Ledger,
        bus: Bus,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._nodes = {settings.name: _Watched(settings, engine) for settings, engine in engines}
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._doubted: dict[str, float] = {}  # node -> since when, by the loop's clock
        self._met = {name: asyncio.Event() for name in self._nodes}
        self._said = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None

    async def recall(self) -> None:
        """What was seen and said of the nodes before this broker."""
        for name, record in (await self._ledger.nodes()).items():
            if (node := self._nodes.get(name)) is not None:
                node.seen, node.message, node.withheld = record.seen, record.message, record.withheld

    async def watch(self) -> None:
        """Runs for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._end_pauses(), name="pauses")
            for name, node in self._nodes.items():
                tasks.create_task(self._watch(node), name=f"sample {name}")

    async def nodes(self) -> list[Node]:
        """In the order of the settings, without history."""
        active = await self._ledger.active()
        return [self._shown(node, active) for node in self._nodes.values()]

    async def node(self, name: str, history: bool = True) -> Node:
        """Raises NotFound."""
        node = self._called(name)
        shown = self._shown(node, await self._ledger.active())
        if history:
            shown.history = list(node.history)
        return shown

    def states(self) -> dict[str, str]:
        """For health: 'up', 'unreachable: why', 'paused until 15:00 by ann'."""
        now = self._clock()
        return {
            name: (f"{node.seen}: {node.message}" if node.message else "") or node.kept_from(now) or str(node.seen)
            for name, node in self._nodes.items()
        }

    def troubles(self) -> list[str]:
        """What somebody should see to. A node that a person withholds is none."""
        return [
            f"{name} is {node.seen}" + (f": {node.message}" if node.message else "")
            for name, node in self._nodes.items()
            if node.seen is not NodeState.UP
        ]

    async def withhold(self, name: str, said: Withheld | None, note: NodeNote) -> Node:
        """A person's word that nothing may start there, or that it may again. Raises NotFound, LedgerFull."""
        node = self._called(name)
        await self._ledger.note_node(name, note)
        node.withheld = said
        _log.info("node %s: %s %s", name, note.verb, note.message)
        self._said.set()
        self.changed()
        shown = self._shown(node, await self._ledger.active())
        self._bus.publish(NodeChanged(at=self._clock(), node=shown))
        return shown

    def condition(self, name: str) -> "Measured":
        node = self._nodes[name]
        lost = {gpu.uuid for gpu in node.history[-1].gpus if gpu.lost} if node.history else set[str]()
        kept = node.kept_from(self._clock())
        away = node.seen is NodeState.UNREACHABLE or name in self._doubted
        closed = "cannot be reached" if away else f"is {kept}" if kept else ""
        if not node.history:
            return Measured(closed, frozenset(lost), node.gpus)
        sample = node.history[-1]
        uses = {gpu.uuid: use for gpu in sample.gpus if (use := gpu_use(gpu)) is not None}
        memory = sample.memory_used_mib / sample.memory_total_mib if sample.memory_total_mib else 0.0
        return Measured(closed, frozenset(lost), node.gpus, uses, max(sample.cpu_percent / 100, memory))

    async def met(self, name: str) -> None:
        """Until it was measured once, or could not be."""
        await self._met[name].wait()

    def doubt(self, name: str) -> None:
        """Somebody had no answer of it: until it gives one, nothing starts there."""
        self._doubted[name] = asyncio.get_running_loop().time()

    def _called(self, name: str) -> _Watched:
        if name not in self._nodes:
            known = ", ".join(self._nodes)
            raise NotFound(f"no node is called {name}: {near(name, self._nodes) or f'there are {known}'}")
        return self._nodes[name]

    async def _end_pauses(self) -> None:
        while True:
            self._said.clear()
            now = self._clock()
            for name, node in self._nodes.items():
                if node.withheld is not None and node.withheld.over(now):
                    await self._end_pause(name)
            ends = [node.withheld.until for node in self._nodes.values() if node.withheld and node.withheld.until]
            left = [(end - now).total_seconds() for end in ends]
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, min([LOOK_S, *left]))):
                    await self._said.wait()

    async def _end_pause(self, name: str) -> None:
        """Jobs may start there already; this is for the record, and tried again where that has no room."""
        try:
            await self.withhold(name, None, NodeNote("resume", "the pause is over", withheld=None))
        except LedgerFull as error:
            _log.warning("the end of the pause of %s is written down later: %s", name, error)

    async def _watch(self, node: _Watched) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    sample = await self._owned(await node.engine.sample())
                    if not node.cpus:
                        found = await node.engine.inventory()
                        node.cpus, node.memory_mib = found.cpus, found.memory_mib
            except (EngineError, TimeoutError, OSError) as error:
                said = str(error) or f"did not answer for {PATIENCE_S:.0f} s"
                await self._turn(node, NodeState.UNREACHABLE, said)
            else:
                if self._doubted.get(node.settings.name, float("inf")) <= began:
                    del self._doubted[node.settings.name]
                    self.changed()
                node.history.append(sample)
                node.gpus = [gpu.uuid for gpu in sample.gpus]  # a driver may come late, a GPU may come back
                self._bus.publish(Sampled(at=sample.at, sample=sample))
                lost = [gpu.index for gpu in sample.gpus if gpu.lost]
                message = f"GPU {', '.join(map(str, lost))} fell off the bus and is set aside" if lost else ""
                message = message or sample.trouble
                await self._turn(node, NodeState.DEGRADED if message else NodeState.UP, message)
            self._met[node.settings.name].set()
            await asyncio.sleep(max(0.1, SAMPLE_S - (loop.time() - began)))

    async def _owned(self, sample: HostSample) -> HostSample:
        """With the jobs of what runs on its GPUs."""
        if not any(gpu.processes for gpu in sample.gpus):
            return sample
        active = await self._ledger.active()
        containers = {job.attempt.engine_ref.partition("@")[0]: job.job.id for job in active}
        return await asyncio.to_thread(owned, sample, self._ledger.broker_id, containers)

    async def _turn(self, node: _Watched, seen: NodeState, message: str) -> None:
        if (node.seen, node.message) == (seen, message):
            return
        before, node.seen, node.message = node.seen, seen, message
        name = node.settings.name
        _log.warning("node %s is %s %s", name, seen, message)
        self.changed()
        if before is not seen:  # that it cannot be reached for another reason now is no news
            try:
                await self._ledger.note_node(name, NodeNote(seen.value, message, seen=seen))
            except LedgerFull as error:
                _log.warning("that node %s is %s is not in the ledger: %s", name, seen, error)
        shown = self._shown(node, await self._ledger.active())
        self._bus.publish(NodeChanged(at=self._clock(), node=shown))

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
            withheld=node.withheld,
        )
