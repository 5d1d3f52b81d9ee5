"""Nodes as a broker may meet them: slow, out of reach, frozen, or silent about what they did. They and what runs on
them outlive every broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from broker.engines.base import AttemptRef, Exit, Handle, Inventory, Launch, RawLine, Remnant
from broker.errors import AlreadyLaunched, AttemptGone, EngineError, EngineUnreachable
from broker.protocol.fleet import HostSample
from tests.simulator.loop import VirtualLoop
from tests.simulator.process import Mood, Process

T = TypeVar("T")
PATIENCE_S = 10.0  # of a broker with an engine that does not answer
SLOW_S = 7.0  # at most, for one way
NOTICED_S = 2.0  # until a node that is out of reach is known to be


class Node:
    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        mood: Mood,
        damaged: set[str],
        witness: Callable[[Process], None],
        *,
        slots: int,
        gpus: Sequence[str] = (),
    ) -> None:
        """`witness` is shown each process that begins to do something."""
        self.name, self.slots, self.gpus = name, slots, gpus
        self.processes: dict[AttemptRef, Process] = {}
        self.refused: set[AttemptRef] = set()  # never started, and never to be
        self.down = False
        self.slow = False
        self.forgetful = 0.0  # how likely the answer of something done is lost
        self._frozen = False  # what arrives meanwhile is done later, not lost
        self._arrived: list[Callable[[], None]] = []
        self._down_since = 0.0
        self._loop, self._mood, self._damaged, self._witness = loop, mood, damaged, witness
        self.on_their_way: set[AttemptRef] = set()  # launches that were asked for and not done yet

    # --- faults ---

    def lose(self, frozen: bool) -> None:
        if not self.down:
            self.down, self._frozen, self._down_since = True, frozen, self._loop.time()
            for process in self.processes.values():
                process.bell.ring()

    def find(self) -> None:
        self.down = self._frozen = False
        arrived, self._arrived = self._arrived, []
        self._loop.random.shuffle(arrived)
        for act in arrived:
            self._loop.call_soon(act)

    def cut_power(self) -> None:
        for process in self.processes.values():
            process.meet("die")
        self.lose(frozen=False)

    @property
    def known_lost(self) -> bool:
        return self.down and self._loop.time() - self._down_since > NOTICED_S

    # --- requests ---

    def request(self, act: Callable[[], T], launch: AttemptRef | None = None) -> "asyncio.Future[T]":
        """It is on its way: done (or lost) whether or not the one who asked still lives."""
        answer: asyncio.Future[T] = self._loop.create_future()
        answer.add_done_callback(_looked_at)
        if launch is not None:
            self.on_their_way.add(launch)

        def arrive() -> None:
            if self.down and self._frozen:
                self._arrived.append(arrive)
                return
            if launch is not None:
                self.on_their_way.discard(launch)
            if self.down:
                return later(EngineUnreachable(f"{self.name} is out of reach"))
            try:
                value = act()
            except (EngineError, FileNotFoundError) as error:
                later(error)
            else:
                self._loop.call_later(self._latency(), tell, value)

        def later(error: Exception) -> None:
            self._loop.call_later(self._latency(), fail, error)

        def fail(error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)

        def tell(value: T) -> None:
            if self.down or self._loop.random.random() < self.forgetful:
                fail(EngineUnreachable(f"{self.name} did it, and its answer was lost"))
            elif not answer.done():
                answer.set_result(value)

        self._loop.call_later(self._latency(), arrive)
        return answer

    def _latency(self) -> float:
        return self._loop.latency() + (self._loop.random.random() * SLOW_S if self.slow else 0.0)

    def start(self, launch: Launch) -> Process:
        if launch.ref in self.processes:
            raise AlreadyLaunched(f"{launch.ref.name} was started before")
        if launch.ref in self.refused:
            raise EngineError(f"{launch.ref.name} may not start any more")
        process = Process(self._loop, launch, self._mood, self._damaged, self._witness)
        self.processes[launch.ref] = process
        process.start()
        return process

    def look(self, ref: AttemptRef) -> Process:
        if ref not in self.processes:
            self.refused.add(ref)
            raise AttemptGone(f"{ref.name} never started on {self.name}, and cannot any more")
        return self.processes[ref]

    def alive(self) -> list[AttemptRef]:
        return [ref for ref, process in self.processes.items() if process.alive]


class _Link:
    """One broker's way to a node."""

    def __init__(self, node: Node, alive: Callable[[], bool]) -> None:
        self.node = node
        self._alive = alive

    async def ask(self, act: Callable[[], T], launch: AttemptRef | None = None) -> T:
        if not self._alive():
            raise asyncio.CancelledError
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.node.request(act, launch)
        except TimeoutError:
            raise EngineUnreachable(f"{self.node.name} does not answer") from None

    def check(self) -> None:
        if not self._alive():
            raise asyncio.CancelledError
        if self.node.down:
            raise EngineUnreachable(f"the connection to {self.node.name} broke")


class FakeEngine:
    def __init__(self, node: Node, alive: Callable[[], bool]) -> None:
        """`alive`: whether the broker is that uses it."""
        self._link = _Link(node, alive)

    @property
    def node(self) -> str:
        return self._link.node.name

    async def inventory(self) -> Inventory:
        node = self._link.node
        return Inventory(node.name, 16, 1 << 20, node.gpus, await self._link.ask(node.alive))

    async def sample(self) -> HostSample:
        raise AssertionError("nobody asks")

    async def contact(self) -> None:
        await self._link.ask(lambda: None)

    async def launch(self, launch: Launch) -> Handle:
        node = self._link.node
        return _FakeHandle(await self._link.ask(lambda: node.start(launch), launch.ref), self._link)

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> Handle:
        node = self._link.node
        return _FakeHandle(await self._link.ask(lambda: node.look(ref)), self._link)

    async def remnants(self) -> Sequence[Remnant]:
        raise AssertionError("nobody asks")

    async def discard(self, remnant: Remnant) -> None:
        raise AssertionError("nobody asks")

    async def close(self) -> None:
        return


class _FakeHandle:
    def __init__(self, process: Process, link: _Link) -> None:
        self._process = process
        self._link = link

    image = ""

    @property
    def engine_ref(self) -> str:
        return f"process of {self._process.ref.name}"

    async def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        process = self._process
        while True:
            self._link.check()
            text = bytes(process.output[offset:])
            if text:
                batch: list[RawLine] = []
                for line in text.splitlines(keepends=True):
                    batch.append(RawLine(offset, offset + len(line), line[:-1]))
                    offset += len(line)
                yield batch
                await asyncio.sleep(0)
            elif not process.alive:
                return
            else:
                await process.bell

    async def stop(self) -> None:
        await self._link.ask(self._process.terminate)

    async def kill(self) -> None:
        await self._link.ask(self._process.kill)

    async def wait(self) -> Exit:
        while True:
            self._link.check()
            if self._process.exit is not None:
                return self._process.exit
            await self._process.bell

    async def fetch(self, name: str, last: int | None = None) -> bytes:
        def read() -> bytes:
            if name not in self._process.files:
                raise FileNotFoundError(name)
            return self._process.files[name]

        return await self._link.ask(read)


def _looked_at(answer: "asyncio.Future[Any]") -> None:
    """Nobody may be left to hear it."""
    if not answer.cancelled():
        answer.exception()
