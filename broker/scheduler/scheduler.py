"""The loop: outbox -> Redis -> placement -> STARTING in the ledger -> lease -> supervisor. Nothing else starts a job.

Redis says in which order, the ledger whether: a job starts only by its change from QUEUED, so a stale word of Redis
starts nothing twice. While Redis does not answer nothing is started, and what runs goes on.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from broker.bus import Bus
from broker.crashpoint import crash_here
from broker.engines.base import Engine
from broker.errors import Conflict, LedgerFull, NotFound, QueueDown
from broker.ledger.ledger import Ledger
from broker.ledger.records import AttemptStart, Change
from broker.placement import Assignment, Plan, Waiting, place
from broker.protocol.event import QueueChanged
from broker.protocol.job import Attempt, Job, JobSpec, JobState
from broker.queue import Queue
from broker.scheduler.outlook import Outlook
from broker.scheduler.relay import Relay
from broker.scheduler.rooms import Condition, Rooms
from broker.settings import Settings
from broker.supervisor.supervisor import Supervisor, jobs_directory

TICK_S = 1.0  # between looks without a reason: waiting times that have passed, a Redis that lost its data
LEASE_S, RENEW_S = 60.0, 20.0
RECONCILE_S = 10.0
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
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`supervisor` tells this scheduler when an attempt ends."""
        self._ledger = ledger
        self._queue = queue
        self._supervisor = supervisor
        self._directory = jobs_directory(settings)
        self._clock = clock
        self._relay = Relay(ledger, queue)
        self._rooms = Rooms(settings.nodes, engines, condition)
        self._outlook = Outlook(ledger, bus, clock)
        self._wake = asyncio.Event()
        self._known: dict[int, Job] = {}  # waiting jobs as they were read, for a tick
        self._aside = 0  # jobs at the head of the queue that could not be considered
        self._released: list[tuple[int, int]] = []
        self._looked_at = float("-inf")
        self._full: LedgerFull | None = None
        self._broken = False
        self.redis: Literal["ok", "down", "rebuilding"] = "rebuilding"
        self.redis_message = ""
        supervisor.on_end = self._ended

    def wake(self) -> None:
        """Something has changed that may let a job start, or stop it from waiting."""
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        await self._rooms.look()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._place_for_ever(), name="placement")
            tasks.create_task(self._tell_for_ever(), name="outlook")
            tasks.create_task(self._reconcile_for_ever(), name="reconcile")

    # --- what others ask ---

    def waits_for(self, job_id: int) -> str:
        """Why a queued job waits, in words; '' when nobody has looked yet."""
        return self._outlook.waits.get(job_id, "")

    async def outlook(self) -> QueueChanged:
        """The queue as it is now."""
        return await self._outlook.look(await self._plan_ahead(), self._supervisor.runs.values(), self._slots())

    def forecast(self, spec: JobSpec) -> str:
        """Where and when a job would start if it were submitted now."""
        ahead = self._outlook.queued
        if ahead:
            return f"after {ahead} waiting job{'s' if ahead > 1 else ''}"
        rooms = self._rooms.rooms(self._held())
        plan = place([Waiting(0, spec.resources)], rooms, self._clock())
        if not plan.assignments:
            return plan.waits[0]
        [found] = plan.assignments
        gpus = next(room.gpus for room in rooms if room.name == found.node)
        named = ", ".join(str(list(gpus).index(uuid)) for uuid in found.gpus)
        return f"now on {found.node}" + (f":GPU {named}" if named else "")

    # --- starting ---

    async def round(self) -> None:
        """Relay what the ledger decided, then start what fits. Raises QueueDown, LedgerFull."""
        if self._broken:  # a job may have been claimed and not started
            await self._supervisor.adopt()
            self._broken = False
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= TICK_S or self.redis != "ok":
            await self._look_after_redis()
            self._known.clear()
            self._looked_at = now
        touched = await self._relay.run()
        for job_id in touched:
            self._known.pop(job_id, None)
        started = await self._start_what_fits()
        await self._settle()
        if touched or started:
            self._outlook.changed.set()
        if self._full is not None:
            full, self._full = self._full, None
            raise full

    async def _look_after_redis(self) -> None:
        if await self._queue.lost():
            self.redis = "rebuilding"
            count = await self._relay.rebuild()
            _log.info("Redis was filled again from the ledger: %d jobs wait", count)
        if self.redis != "ok":
            self.redis, self.redis_message = "ok", ""
            self._outlook.changed.set()

    async def _start_what_fits(self) -> int:
        rooms = self._rooms.rooms(self._held())
        free = sum(max(0, room.slots - len(room.occupied)) for room in rooms if not room.closed)
        if not free:
            return 0
        waiting = await self._head(WINDOW + free + self._aside)
        plan = place(map(_waiting, waiting), rooms, self._clock(), explain=False)
        self._aside = sum(not why.startswith("waits for ") for why in plan.waits.values())
        if not plan.assignments:
            return 0
        claimed = await asyncio.gather(*(self._claim(each) for each in plan.assignments))
        starting = {job.id: (job, each) for job, each in zip(claimed, plan.assignments, strict=True) if job is not None}
        if not starting:
            return 0
        crash_here("after-starting-commit")
        specs, _ = await asyncio.gather(self._ledger.specs(list(starting)), self._lease(list(starting.values())))
        crash_here("after-claim")
        for job in specs:
            _, assignment = starting[job.id]
            self._known.pop(job.id, None)
            self._supervisor.start(job, self._attempt(job, assignment))
        return len(specs)

    async def _claim(self, assignment: Assignment) -> Job | None:
        """The one step that decides: QUEUED -> STARTING. None when somebody was faster."""
        start = AttemptStart(assignment.node, assignment.gpus, self._directory)
        change = Change(
            assignment.job_id, "place", to=JobState.STARTING, expect=frozenset({JobState.QUEUED}), start=start
        )
        try:
            return await self._ledger.advance(change)
        except (Conflict, NotFound) as error:
            _log.debug("not started: %s", error)
            self._known.pop(assignment.job_id, None)
        except LedgerFull as error:
            self._full = error
        return None

    async def _lease(self, starting: Sequence[tuple[Job, Assignment]]) -> None:
        """Out of the ready sets. Without Redis the ledger's word is enough: the rebuild leaves them out."""
        try:
            await self._queue.claim([(job.id, job.fence) for job, _ in starting], LEASE_S)
        except QueueDown as error:
            _log.warning("started without a lease: %s", error)

    def _attempt(self, job: Job, assignment: Assignment) -> Attempt:
        return Attempt(
            job_id=job.id,
            fence=job.fence,
            node=assignment.node,
            gpus=list(assignment.gpus),
            directory=str(self._directory / str(job.id) / str(job.fence)),
            started_at=self._clock(),
        )

    async def _head(self, count: int) -> list[Job]:
        """The first waiting jobs in order. Ids that Redis should not have any more are dropped there."""
        ids = await self._queue.head(count)
        unknown = [job_id for job_id in ids if job_id not in self._known]
        if unknown:
            self._known.update((job.id, job) for job in await self._ledger.specs(unknown))
        waiting = [self._known[i] for i in ids if i in self._known and self._known[i].state is JobState.QUEUED]
        if len(waiting) < len(ids):
            there = {job.id for job in waiting}
            stale = [job_id for job_id in ids if job_id not in there]
            await self._queue.drop(stale)
            for job_id in stale:
                self._known.pop(job_id, None)
        return waiting

    async def _settle(self) -> None:
        released, self._released = self._released, []
        if released:
            await self._queue.release(released)
        await self._relay.settle()

    def _held(self) -> list[tuple[Job, Attempt]]:
        return [(run.job, run.attempt) for run in self._supervisor.runs.values()]

    def _slots(self) -> int:
        return sum(room.slots for room in self._rooms.rooms([]))

    def _ended(self, job: Job, attempt: Attempt) -> None:
        self._released.append((job.id, attempt.fence))
        self._outlook.ended(job, attempt)
        self._outlook.changed.set()
        self.wake()

    # --- for ever ---

    async def _place_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.round()
            except QueueDown as error:
                if self.redis != "down":
                    _log.warning("nothing is started until Redis answers: %s", error)
                self.redis, self.redis_message = "down", str(error)
                await asyncio.sleep(TICK_S)
            except LedgerFull as error:
                _log.warning("nothing is started until there is room: %s", error)
                await asyncio.sleep(TICK_S)
            except Exception:
                _log.exception("a round of placement broke; the next one follows")
                self._broken = True
                await asyncio.sleep(TICK_S)

    async def _tell_for_ever(self) -> None:
        while True:
            await self._outlook.changed.wait()
            self._outlook.changed.clear()
            try:
                await self._outlook.tell(await self._plan_ahead(), self._supervisor.runs.values(), self._slots())
            except Exception:
                _log.exception("the queue's outlook broke")
            await asyncio.sleep(self._outlook.INTERVAL_S)

    async def _plan_ahead(self) -> tuple[Sequence[Job], Plan] | None:
        """The first waiting jobs, and why each of them waits. None while Redis does not answer."""
        try:
            waiting = await self._ahead(self._outlook.SHOWN)
        except QueueDown:
            return None
        return waiting, place(map(_waiting, waiting), self._rooms.rooms(self._held()), self._clock())

    async def _ahead(self, count: int) -> list[Job]:
        """As `_head`, but only to look."""
        jobs = await self._ledger.specs(await self._queue.head(count))
        return [job for job in jobs if job.state is JobState.QUEUED]

    async def _reconcile_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                await self._supervisor.reconcile()
                await self._rooms.look()
                if loop.time() - renewed >= RENEW_S:
                    renewed = loop.time()
                    await self._queue.renew([(job.id, attempt.fence) for job, attempt in self._held()], LEASE_S)
            except QueueDown:
                pass  # placement says it
            except Exception:
                _log.exception("reconciling broke; it is tried again")
            self.wake()


def _waiting(job: Job) -> Waiting:
    assert job.spec is not None  # `Ledger.specs` reads it
    return Waiting(job.id, job.spec.resources, job.not_before)
