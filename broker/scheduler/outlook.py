"""What followers are told of the queue: how many, why each waits, and how long it will take."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from broker.bus import Bus
from broker.ledger.ledger import Ledger
from broker.placement import Plan
from broker.protocol.event import QueueChanged
from broker.protocol.job import Attempt, Job
from broker.protocol.states import JobState
from broker.supervisor.run import Run

_NEWEST = 0.2  # weight of the newest job or epoch in a mean


class Pace:
    """Means of what has been seen: seconds for an epoch, and for a command. Pure."""

    def __init__(self) -> None:
        self.epoch_s: float | None = None
        self.command_s: float | None = None

    def epoch(self, seconds: float) -> None:
        self.epoch_s = _mixed(self.epoch_s, seconds)

    def command(self, seconds: float) -> None:
        self.command_s = _mixed(self.command_s, seconds)

    def command_left_s(self, ran_s: float) -> float | None:
        """Seconds that a command still needs which has run for so long; None past the mean: it is another kind."""
        return None if self.command_s is None or ran_s > self.command_s else self.command_s - ran_s

    def left_s(self, job: Job) -> float | None:
        """Seconds of work that a waiting job is; None where nothing like it was seen."""
        if job.kind == "command":
            return self.command_s
        return None if self.epoch_s is None else max(0, job.epochs - job.epoch) * self.epoch_s

    def drain_s(self, running: Sequence[float | None], waiting: Sequence[Job], total: int, slots: int) -> float | None:
        """Seconds until the queue is empty. `running`: what each running job still needs; `waiting`: the first of
        `total` waiting jobs. None: nobody knows, or nothing is left."""
        known = [left for job in waiting if (left := self.left_s(job)) is not None]
        at_work = [left for left in running if left is not None]
        if len(known) < len(waiting) or len(at_work) < len(running) or (total and not known):
            return None
        work = sum(at_work) + (sum(known) / len(known) * total if known else 0.0)
        return max([work / max(1, slots), *at_work]) if work else None


class Outlook:
    INTERVAL_S = 0.5  # between two that are told
    AGAIN_S = 10.0  # an estimate that was told is made again after this long, though nothing has happened
    SHOWN = 200  # waiting jobs that are told why

    def __init__(self, ledger: Ledger, bus: Bus, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        self._pace = Pace()
        self._told: QueueChanged | None = None
        self.changed = asyncio.Event()
        self.waits: dict[int, str] = {}

    def ended(self, job: Job, attempt: Attempt) -> None:
        if job.kind == "command":
            self._pace.command(max(0.0, (self._clock() - attempt.started_at).total_seconds()))

    async def due(self) -> None:
        """Until something has changed, or time has shown that what was told is not so."""
        estimated = self._told is not None and self._told.drain_s is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(self.AGAIN_S if estimated else None):
                await self.changed.wait()
        self.changed.clear()

    async def tell(self, plan: tuple[Sequence[Job], Plan] | None, runs: Iterable[Run], slots: int) -> None:
        """To followers, where it differs from what they were told."""
        seen = await self.look(plan, runs, slots)
        if self._told is None or seen.model_copy(update={"at": self._told.at}) != self._told:
            self._told = seen
            self._bus.publish(seen)

    async def look(self, plan: tuple[Sequence[Job], Plan] | None, runs: Iterable[Run], slots: int) -> QueueChanged:
        """`plan`: the first waiting jobs, and why each of them waits; None where their order is not known."""
        now = self._clock()
        midnight = now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        counts = await self._ledger.counts()
        failed = await self._ledger.failed_since(midnight)
        queued = counts.get(JobState.QUEUED, 0)
        waiting: Sequence[Job] = ()
        if plan is not None:
            waiting, self.waits = plan[0], plan[1].waits
        at_work = list(runs)
        running = [self._left_s(run, now) for run in at_work]
        return QueueChanged(
            at=now,
            counts=counts,
            failed_today=failed,
            waits={**self.waits, **{run.job.id: run.doing for run in at_work if run.doing}},
            drain_s=self._pace.drain_s(running, waiting, queued, slots),
        )

    def _left_s(self, run: Run, now: datetime) -> float | None:
        if run.job.kind == "train":
            if run.hearing.account.epoch_s is not None:
                self._pace.epoch(run.hearing.account.epoch_s)
            return run.hearing.account.eta_s
        return self._pace.command_left_s((now - run.attempt.started_at).total_seconds())


def _mixed(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + _NEWEST * (newest - mean)
