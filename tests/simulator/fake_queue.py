"""Redis as the broker may meet it: slow, gone, forgetful, and remembering what was asked before its answer was lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from broker.errors import QueueDown
from broker.protocol.states import Priority
from broker.queue import Entry, Lease, Queue
from tests.simulator.loop import VirtualLoop

T = TypeVar("T")
SLOW_S = 2.0  # at most, for one way
_ORDER = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}


@dataclass(slots=True)
class Redis:
    """The server: outlives brokers. `flush` is FLUSHALL, `restart` a new start with its data."""

    ready: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    leases: dict[int, int] = field(default_factory=dict[int, int])
    results: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    generation: str = ""
    run_id: int = 1
    down: bool = False
    slow: bool = False
    forgetful: float = 0.0  # how likely the answer of something done is lost
    stale: float = 0.0  # how likely `head` answers as it did before
    flushes: int = 0
    last_head: list[int] = field(default_factory=list[int])

    def flush(self) -> None:
        self.ready.clear()
        self.leases.clear()
        self.results.clear()
        self.generation = ""
        self.flushes += 1

    def restart(self) -> None:
        self.run_id += 1

    def in_order(self) -> list[int]:
        return sorted(self.ready, key=lambda job_id: (*self.ready[job_id], job_id))


class FakeQueue(Queue):
    """What one broker sees of the server."""

    _tokens = count(1)

    def __init__(self, server: Redis, loop: VirtualLoop, alive: Callable[[], bool]) -> None:
        self._server = server
        self._loop = loop
        self._alive = alive  # whether the broker is
        self._filled = ""
        self._filled_run = 0

    async def _ask(self, act: Callable[[], T]) -> T:
        if not self._alive():
            raise asyncio.CancelledError
        await self._travel()
        if self._server.down:
            raise QueueDown("the simulated Redis does not answer")
        value = act()
        await self._travel()
        if self._server.down or self._loop.random.random() < self._server.forgetful:
            raise QueueDown("the simulated Redis did it, and its answer was lost")
        return value

    async def _travel(self) -> None:
        slow_s = self._loop.random.random() * SLOW_S if self._server.slow else 0.0
        await asyncio.sleep(self._loop.latency() + slow_s)

    async def close(self) -> None:
        return

    async def ping(self) -> None:
        await self._ask(lambda: None)

    async def put(self, entries: Sequence[Entry]) -> None:
        ready = {job_id: (_ORDER[priority], rank) for job_id, priority, rank in entries}
        await self._ask(lambda: self._server.ready.update(ready))

    async def drop(self, job_ids: Sequence[int]) -> None:
        await self._ask(lambda: [self._server.ready.pop(job_id, None) for job_id in job_ids])

    async def head(self, count: int) -> list[int]:
        def look() -> list[int]:
            if self._loop.random.random() >= self._server.stale:
                self._server.last_head = self._server.in_order()
            return self._server.last_head[:count]

        return await self._ask(look)

    async def length(self) -> int:
        return await self._ask(lambda: len(self._server.ready))

    async def lost(self) -> bool:
        held, run = await self._ask(lambda: (self._server.generation, self._server.run_id))
        return not self._filled or held != self._filled or run != self._filled_run

    async def rebuild(self, entries: AsyncIterator[Sequence[Entry]]) -> int:
        token = f"generation {next(self._tokens)}"
        self._filled = ""

        def begin() -> int:
            self._server.ready.clear()
            self._server.generation = f"rebuilding {token}"
            return self._server.run_id

        def finish() -> bool:
            if self._server.generation != f"rebuilding {token}":
                return False
            self._server.generation = token
            return True

        run = await self._ask(begin)
        total = 0
        async for batch in entries:
            await self.put(batch)
            total += len(batch)
        if not await self._ask(finish):
            raise QueueDown("the simulated Redis lost its data while it was being filled")
        self._filled, self._filled_run = token, run
        return total

    async def claim(self, claims: Sequence[Lease], ttl_s: float) -> None:
        def lease() -> None:
            for job_id, fence in claims:
                self._server.ready.pop(job_id, None)
                self._server.leases[job_id] = max(fence, self._server.leases.get(job_id, 0))

        await self._ask(lease)

    async def release(self, leases: Sequence[Lease]) -> None:
        def release() -> None:
            for job_id, fence in leases:
                if self._server.leases.get(job_id) == fence:
                    del self._server.leases[job_id]

        await self._ask(release)

    async def progress(self, task_id: str, fields: Mapping[str, str]) -> None:
        await self._ask(lambda: None)

    async def tail(self, task_id: str, lines: Sequence[str]) -> None:
        await self._ask(lambda: None)

    async def results(self, entries: Sequence[Mapping[str, str]]) -> None:
        await self._ask(lambda: self._server.results.extend(entries))
