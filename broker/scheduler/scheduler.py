"""Two loops side by side: outbox and leases -> Redis, and Redis' order -> placement -> STARTING in the ledger ->
supervisor. Nothing else starts a job.

Redis says in which order, the ledger whether: a job starts only by its change from QUEUED, so a stale word of Redis
starts nothing twice. While Redis does not answer nothing is started, and what runs goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from broker.bus import Bus
from broker.engines.base import Engine
from broker.errors import LedgerFull, QueueDown
from broker.ledger.ledger import Ledger
from broker.placement import Plan, Room, Waiting, place
from broker.protocol.event import QueueChanged
from broker.protocol.job import Attempt, Job, JobSpec
from broker.protocol.states import JobState
from broker.queue import Lease, Queue
from broker.scheduler.order import Order
from broker.scheduler.outlook import Outlook
from broker.scheduler.relay import Relay
from broker.scheduler.rooms import Condition, Rooms
from broker.scheduler.starts import Starts
from broker.settings import Policy, Settings
from broker.supervisor.run import Run
from broker.supervisor.supervisor import Supervisor, jobs_directory

TICK_S = 1.0  # between looks without a reason: waiting times that have passed
RECONCILE_S = 10.0
TOGETHER_S = 1.0  # that those nodes which answer at once wait for one another before anything is given away
WINDOW = 64  # waiting jobs, beyond those that could start, among which gaps are filled
_log = logging.getLogger(__name__)


class Scheduler:
    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        supervisor: Supervisor,
        *,
        bus: Bus,
        settings: Settings,
        engines: Mapping[str, Engine],
        condition: Callable[[str], Condition] = lambda _node: Condition(),
        met: Callable[[str], Awaitable[None]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`supervisor` tells this scheduler when an attempt ends. `met`: until a node was measured, by name."""
        self._ledger = ledger
        self._queue = queue
        self._supervisor = supervisor
        self._clock = clock
        self._policy: Policy = settings.placement
        self._relay = Relay(ledger, queue, held=self._leases, changed=self._order_changed)
        self._order = Order(ledger, queue, self._relay.stale)
        self._engines = engines
        self._met = met
        self._rooms = Rooms(settings.nodes, engines, condition)
        self._outlook = Outlook(ledger, bus, clock)
        self._room = asyncio.Event()  # or a job that may take it
        self._starts = Starts(ledger, jobs_directory(settings), clock, started=self._started, refused=self._refused)
        self._aside = 0  # jobs at the head of the queue that could not be considered
        self._broken = False
        supervisor.on_room = self._room.set
        supervisor.on_end = self._ended
        supervisor.on_told = self._outlook.changed.set

    def wake(self) -> None:
        """Something has changed that may let a job start, or stop it from waiting."""
        self._relay.wake()
        self._room.set()

    def reconsider(self) -> None:
        """A node has become one that jobs may start on, or ceased to be one."""
        self._room.set()
        self._outlook.changed.set()

    @property
    def redis(self) -> Literal["ok", "down", "rebuilding"]:
        return self._relay.redis

    @property
    def redis_message(self) -> str:
        """Why it is down."""
        return self._relay.message

    async def run(self) -> None:
        """For ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                meetings = [tasks.create_task(self._meet(name), name=f"meet {name}") for name in self._engines]
                if meetings:
                    await asyncio.wait(meetings, timeout=TOGETHER_S)
                tasks.create_task(self._relay.run(), name="relay")
                tasks.create_task(self._order.run(), name="order")
                tasks.create_task(self._place_for_ever(), name="placement")
                tasks.create_task(self._tell_for_ever(), name="outlook")
                tasks.create_task(self._reconcile_for_ever(), name="reconcile")
        finally:
            await self._starts.cancel()

    # --- what others ask ---

    def waits_for(self, job_id: int) -> str:
        """Why a queued job waits, in words; '' when nobody has looked yet."""
        return self._outlook.waits.get(job_id, "")

    def rooms(self) -> list[Room]:
        """What each node has, were nothing of it taken."""
        return self._rooms.rooms([])

    async def outlook(self) -> QueueChanged:
        """The queue as it is now."""
        return await self._outlook.look(await self._plan_ahead(), self._supervisor.runs.values(), self._slots())

    async def forecast(self, spec: JobSpec) -> str:
        """Where and when a job would start if it were submitted now."""
        ahead = (await self._ledger.counts()).get(JobState.QUEUED, 0)
        if ahead:
            return f"after {ahead} waiting job{'s' if ahead > 1 else ''}"
        rooms = self._rooms.rooms(self._held())
        plan = place([Waiting(0, spec.resources)], rooms, self._clock(), self._policy)
        if not plan.assignments:
            return plan.waits[0]
        [found] = plan.assignments
        gpus = next(room.gpus for room in rooms if room.name == found.node)
        named = ", ".join(str(list(gpus).index(uuid)) for uuid in found.gpus)
        return f"now on {found.node}" + (f":GPU {named}" if named else "")

    # --- starting ---

    async def round(self) -> None:
        """Start what fits. Raises QueueDown, LedgerFull."""
        self._starts.check()
        if self._broken:  # a job may be STARTING in the ledger, and nobody's here
            await self._starts.settle()
            await self._supervisor.take_up()
            self._broken = False
        rooms = self._rooms.rooms(self._held())
        free = sum(max(0, room.slots - len(room.occupied)) for room in rooms if not room.closed)
        if not free:
            return
        await self._relay.caught_up()  # with what was decided before there was room
        if self.redis != "ok":
            return
        first = await self._order.first(WINDOW + free + self._aside)
        waiting: dict[int, Job] = {}  # as far as the plan looks

        def each() -> Iterator[Waiting]:
            for job in first:
                if job.id not in self._starts:
                    waiting[job.id] = job
                    yield _waiting(job)

        plan = place(each(), rooms, self._clock(), self._policy, explain=False)
        self._aside = sum(not why.startswith("waits for ") for why in plan.waits.values())
        for assignment in plan.assignments:
            self._order.take(assignment.job_id)
            self._starts.begin(waiting[assignment.job_id], assignment)

    def _started(self, job: Job, attempt: Attempt) -> None:
        self._relay.started((job.id, attempt.fence))
        self._supervisor.start(job, attempt)
        self._outlook.changed.set()

    def _refused(self, job_id: int) -> None:
        self._order.changed([job_id])
        self._room.set()

    def _held(self) -> list[tuple[Job, Attempt]]:
        return [*self._starts.held, *((run.job, run.attempt) for run in self._at_work())]

    def _leases(self) -> list[Lease]:
        return [(run.job.id, run.attempt.fence) for run in self._at_work()]

    def _at_work(self) -> list[Run]:
        return [run for run in self._supervisor.runs.values() if not run.over]

    def _slots(self) -> int:
        return sum(room.slots for room in self._rooms.rooms([]))

    def _order_changed(self, job_ids: Collection[int]) -> None:
        self._order.changed(job_ids)
        self._outlook.changed.set()
        self._room.set()

    def _ended(self, job: Job, attempt: Attempt) -> None:
        self._relay.ended((job.id, attempt.fence))
        self._outlook.ended(job, attempt)
        self._outlook.changed.set()
        self._room.set()

    # --- for ever ---

    async def _meet(self, node: str) -> None:
        if self._met is not None:
            await self._met(node)
        await self._rooms.look_at(node)
        self._room.set()

    async def _place_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._room.wait()
            except TimeoutError:
                self._order.changed(())
            await asyncio.sleep(0)  # whoever else has just ended: one round for all of them
            self._room.clear()
            try:
                await self.round()
            except QueueDown:
                await asyncio.sleep(TICK_S)  # the relay says it
            except LedgerFull as error:
                _log.warning("nothing is started until there is room: %s", error)
                await asyncio.sleep(TICK_S)
                self._order.changed(())  # what was not started waits still
            except Exception:
                _log.exception("a round of placement broke; the next one follows")
                self._broken = True
                await asyncio.sleep(TICK_S)
                self._order.changed(())

    async def _tell_for_ever(self) -> None:
        while True:
            await self._outlook.due()
            try:
                await self._outlook.tell(await self._plan_ahead(), self._supervisor.runs.values(), self._slots())
            except Exception:
                _log.exception("the queue's outlook broke")
            await asyncio.sleep(self._outlook.INTERVAL_S)

    async def _plan_ahead(self) -> tuple[Sequence[Job], Plan] | None:
        """The first waiting jobs, and why each of them waits. None while Redis does not answer."""
        try:
            waiting = await self._order.first(self._outlook.SHOWN)
        except QueueDown:
            return None
        return waiting, place(map(_waiting, waiting), self._rooms.rooms(self._held()), self._clock(), self._policy)

    async def _reconcile_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                await self._supervisor.reconcile()
                await self._rooms.look()
            except Exception:
                _log.exception("reconciling broke; it is tried again")
            self._room.set()


def _waiting(job: Job) -> Waiting:
    assert job.spec is not None  # `Ledger.specs` reads it
    return Waiting(job.id, job.spec.resources, job.not_before)
