"""What each node has and what of it is taken: the scheduler's view for placement."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.engines.base import Engine, Inventory
from broker.errors import EngineError
from broker.gpu_use import GpuUse
from broker.placement import Occupied, Room
from broker.protocol.job import Attempt, Job
from broker.settings import NodeSettings
from broker.wishes import allowed

_PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong with a node at the moment, as others measured it."""

    closed: str = ""  # "is draining": nothing may start there
    aside: frozenset[str] = frozenset()  # GPUs that fell off the bus
    gpus: Sequence[str] = ()  # all that were measured, those included; none: as the inventory has them
    use: Mapping[str, GpuUse] = field(default_factory=dict[str, GpuUse])  # of GPUs
    load: float = 0.0  # of cores or memory: 0..1


class Rooms:
    """`condition`: of a node, by name."""

    def __init__(
        self,
        nodes: Iterable[NodeSettings],
        engines: Mapping[str, Engine],
        condition: Callable[[str], Condition] = lambda _node: Condition(),
    ) -> None:
        self._settings = {node.name: node for node in nodes}
        self._engines = engines
        self._condition = condition
        self._empty: dict[str, Room] = {}  # nodes that have been reached

    async def look(self) -> None:
        """Ask each node that is not known yet what it has, all at once."""
        await asyncio.gather(*(self.look_at(name) for name in self._settings if name not in self._empty))

    async def look_at(self, name: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                inventory = await self._engines[name].inventory()
        except (EngineError, TimeoutError, OSError) as error:
            _log.warning("node %s cannot be reached: %s", name, error)
        else:
            self._empty[name] = room(self._settings[name], inventory)

    def rooms(self, runs: Iterable[tuple[Job, Attempt]]) -> list[Room]:
        """With what active attempts hold. A node that was never reached is closed."""
        held: dict[str, list[Occupied]] = {name: [] for name in self._settings}
        for job, attempt in runs:
            if attempt.node in held:
                held[attempt.node].append(occupied(job, attempt))
        rooms: list[Room] = []
        for name in self._settings:
            condition = self._condition(name)
            empty = self._empty.get(name)
            if empty is None:
                labels = self._settings[name].labels
                guess = Room(name, 1, 1024, memory_mib=1 << 40, closed="cannot be reached", labels=labels, known=False)
                rooms.append(guess)
            else:
                gpus = tuple(condition.gpus or empty.gpus)
                rooms.append(
                    replace(
                        empty,
                        gpus=gpus,
                        slots=_slots(self._settings[name], gpus),
                        occupied=tuple(held[name]),
                        closed=condition.closed,
                        aside=condition.aside,
                        use=condition.use,
                        load=condition.load,
                    )
                )
        return rooms


def room(settings: NodeSettings, inventory: Inventory) -> Room:
    """What jobs may plan for. The inventory holds only GPUs that the settings give to this node."""
    return Room(
        name=settings.name,
        slots=_slots(settings, inventory.gpu_uuids),
        cpus=settings.cpus or inventory.cpus,
        memory_mib=settings.memory_mib or inventory.memory_mib,
        gpus=tuple(inventory.gpu_uuids),
        max_gpu=settings.max_gpu,
        foreign_mib=settings.foreign_mib,
        labels=settings.labels,
        allowed=allowed(settings),
    )


def _slots(settings: NodeSettings, gpus: Sequence[str]) -> int:
    return settings.slots or max(1, len(gpus))


def occupied(job: Job, attempt: Attempt) -> Occupied:
    """What an active attempt holds."""
    assert job.spec is not None  # runs know their job's spec
    wanted = job.spec.resources
    share = wanted.gpu.memory_fraction if wanted.gpu is not None else None
    return Occupied(job.id, wanted.cpus, wanted.memory_mib, tuple(attempt.gpus), share)
