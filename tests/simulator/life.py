"""One broker, put together as the daemon does it, from its start until it ends or is killed."""

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from broker.admission.admission import Admission
from broker.bus import Bus
from broker.control import Control
from broker.engines.base import Engine
from broker.ledger import schema
from broker.ledger.ballast import SIZE, Ballast
from broker.ledger.ledger import Ledger
from broker.ledger.readers import Readers
from broker.ledger.writer import Transaction, Writer
from broker.protocol.event import JobChanged, JobRemoved
from broker.protocol.job import Job
from broker.scheduler.rooms import Condition
from broker.scheduler.scheduler import Scheduler
from broker.settings import Settings
from broker.supervisor.supervisor import Supervisor, jobs_directory
from tests.simulator.fake_engine import FakeEngine, Node
from tests.simulator.fake_queue import FakeQueue, Redis
from tests.simulator.loop import InOrder, VirtualLoop

T = TypeVar("T")
LEDGER = "ledger.db"
LEAVING_S = 60.0  # virtual
SPARE_COMMITS = 40


@dataclass(slots=True)
class Disk:
    """Where the ledger lies."""

    full: bool = False
    spare: int = 0  # commits that the ballast's space allows still


class _Ballast(Ballast):
    """Takes up no space."""

    def __init__(self, ledger: Path, disk: Disk) -> None:
        super().__init__(ledger)
        self._disk = disk
        self._there = True

    def restore(self) -> bool:
        self._there = self._there or not self._disk.full
        return not self._disk.full

    def drop(self) -> bool:
        there, self._there = self._there, False
        self._disk.spare += SPARE_COMMITS if there else 0
        return there


class SteppedWriter(Writer):
    """The ledger's writer, with the event loop for its thread. `abandon` is kill -9: what was committed stays."""

    def __init__(self, db: sqlite3.Connection, path: Path, bus: Bus, *, loop: VirtualLoop, disk: Disk) -> None:
        self._disk = disk
        self._turns, self._answers = InOrder(loop), InOrder(loop)
        self._abandoned = False
        super().__init__(db, path, bus, loop.utc)
        self._ballast = _Ballast(path, disk)

    def put(
        self, work: Callable[[Transaction], T], vital: bool = False, about: int | None = None
    ) -> "asyncio.Future[T]":
        if self._abandoned:
            raise asyncio.CancelledError
        return super().put(work, vital, about)

    def _hand_over(self) -> None:
        super()._hand_over()
        self._turns.call(self._turn)

    async def close(self) -> None:
        self._turns.call(self._turn)
        await super().close()

    def abandon(self) -> None:
        self._abandoned = True
        self._db.close()

    def _run(self) -> None:
        return

    def _commit(self, group: Sequence[Any]) -> list[Any]:
        if group and self._disk.full:
            if not self._disk.spare:
                error = sqlite3.OperationalError("the simulated disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            self._disk.spare -= 1
        return super()._commit(group)

    def _turn(self) -> None:
        if self._abandoned or self._items.empty():
            return
        group, going = self._next_group()
        if group:
            self._answer_all(group)
        if not going:
            self._db.close()
            self._later(self._stopped.set)

    def _later(self, callback: Callable[..., object], *args: Any) -> None:
        self._answers.call(callback, *args)


class Life:
    def __init__(
        self, settings: Settings, loop: VirtualLoop, disk: Disk, redis: Redis, nodes: Mapping[str, Node]
    ) -> None:
        self._settings, self._loop, self._disk, self._redis, self._nodes = settings, loop, disk, redis, nodes
        self._dead = False
        self._writer: SteppedWriter | None = None
        self._readers = Readers(settings.data_dir / LEDGER)
        self._control: asyncio.Future[Control] = loop.create_future()
        self._task = loop.create_task(self._live(), name="broker")
        self.requests: set[asyncio.Task[None]] = set()
        self.followed: dict[int, Job] = {}  # as a follower sees it
        self.waits_for: Callable[[int], str] = lambda _: ""

    @property
    def alive(self) -> bool:
        return not self._dead

    async def _live(self) -> None:
        settings, bus = self._settings, Bus()
        following = self._loop.create_task(self._follow(bus), name="follower")
        path = settings.data_dir / LEDGER
        async with AsyncExitStack() as stack:
            stack.callback(following.cancel)
            db, broker_id = schema.open_ledger(path)
            self._writer = SteppedWriter(db, path, bus, loop=self._loop, disk=self._disk)
            ledger = Ledger(self._writer, self._readers, broker_id)
            stack.push_async_callback(ledger.close)
            queue = FakeQueue(self._redis, self._loop, lambda: self.alive)
            engines: dict[str, Engine] = {
                name: FakeEngine(node, lambda: self.alive) for name, node in self._nodes.items()
            }
            supervisor = await stack.enter_async_context(
                Supervisor(ledger, queue, bus=bus, settings=settings, engines=engines, clock=self._loop.utc)
            )
            scheduler = Scheduler(
                ledger, queue, supervisor,
                bus=bus, settings=settings, engines=engines, condition=self._condition, clock=self._loop.utc,
            )  # fmt: skip
            admission = Admission(settings)
            stack.callback(admission.close)
            control = Control(
                ledger=ledger, admission=admission, supervisor=supervisor, wake=scheduler.wake,
                jobs_dir=jobs_directory(settings), forecast=scheduler.forecast,
            )  # fmt: skip
            self.waits_for = scheduler.waits_for
            self._control.set_result(control)
            await supervisor.adopt()
            await scheduler.run()

    async def _follow(self, bus: Bus) -> None:
        seq = 0
        async for event in bus.subscribe(capacity=1 << 20):
            if event.seq:
                assert event.seq > seq, f"event {event.seq} was told after {seq}"
                seq = event.seq
            if isinstance(event, JobChanged):
                self.followed[event.job.id] = event.job
            elif isinstance(event, JobRemoved):
                self.followed.pop(event.job_id, None)

    def _condition(self, name: str) -> Condition:
        return Condition("cannot be reached" if self._nodes[name].known_lost else "")

    def ask(self, name: str, request: Callable[[Control], Awaitable[None]]) -> None:
        """As a request that comes in through the API."""

        async def answer() -> None:
            await request(await asyncio.shield(self._control))

        task = self._loop.create_task(answer(), name=name)
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)

    def check(self) -> None:
        """Raises what broke it."""
        if self._task.done() and not self._dead:
            self._task.result()
            raise AssertionError("the broker ended by itself")

    def kill(self) -> None:
        """kill -9: nothing that it would still do is done."""
        self._dead = True
        if self._writer is not None:
            self._writer.abandon()
        self._discard()

    def leave(self) -> None:
        """As after SIGTERM."""
        for task in list(self.requests):
            task.cancel()
        self._task.cancel()
        patience = self._loop.time() + LEAVING_S
        while not self._task.done():
            assert self._loop.time() < patience, "the broker does not end"
            self._loop.step()
        self._dead = True
        self._discard()
        if not self._task.cancelled():
            self._task.result()

    def _discard(self) -> None:
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.step()
        self._loop.run_until_complete(self._readers.close())


def new_home(home: Path, template: Path) -> None:
    """A data directory with an empty ledger."""
    shutil.copy(template, home / LEDGER)
    with (home / "ballast").open("wb") as file:
        file.truncate(SIZE)


def make_template(path: Path) -> None:
    schema.open_ledger(path)[0].close()
