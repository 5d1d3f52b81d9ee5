"""The head of the queue as Redis told it last, with each job as the ledger had it then: asked again when either may
have changed, or when it runs short. Hints: only the ledger decides whether a job starts."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

from broker.errors import QueueDown
from broker.ledger.ledger import Ledger
from broker.protocol.job import Job
from broker.protocol.states import JobState
from broker.queue import Queue

AHEAD = 256  # jobs more than are wanted at the moment
_SHORT = AHEAD // 2  # when so many are left of them, the next are read before anybody has to wait for that
_log = logging.getLogger(__name__)


class Order:
    def __init__(self, ledger: Ledger, queue: Queue, stale: Callable[[Iterable[int]], None]) -> None:
        """`stale` is told of jobs that stand in Redis' order though they do not wait."""
        self._ledger = ledger
        self._queue = queue
        self._stale = stale
        self._wanted = 0  # at the last time
        self._enough = 0.0  # so many can be wanted without asking again
        self._known: dict[int, Job] = {}  # in order
        self._taken: set[int] = set()  # they do not wait any more, of which Redis may not have heard yet
        self._changed: set[int] = set()  # since it was asked
        self._fresh = False
        self._asking = asyncio.Lock()
        self._short = asyncio.Event()

    def changed(self, job_ids: Collection[int]) -> None:
        """These are different now, or stand elsewhere. With none: Redis is asked again in any case."""
        if not job_ids:
            self._taken.clear()
        for job_id in job_ids:
            self._known.pop(job_id, None)
            self._taken.discard(job_id)
            self._changed.add(job_id)
        self._enough = 0.0
        self._fresh = False

    def take(self, job_id: int) -> None:
        """It does not wait any more, unless `changed` says so."""
        self._enough -= 1
        self._known.pop(job_id, None)
        self._taken.add(job_id)

    async def first(self, count: int) -> Sequence[Job]:
        """In order. Raises QueueDown."""
        self._wanted = count
        if count > self._enough:
            async with self._asking:
                if count > self._enough:
                    await self._ask(count + AHEAD)
        elif count + _SHORT > self._enough:
            self._short.set()
        return list(islice(self._known.values(), count))

    async def run(self) -> None:
        """For ever: asks while there is still enough."""
        while True:
            await self._short.wait()
            self._short.clear()
            try:
                async with self._asking:
                    if self._wanted + _SHORT > self._enough:
                        await self._ask(self._wanted + AHEAD)
            except QueueDown:
                pass  # `first` raises it to whom it matters
            except Exception:
                _log.exception("the next waiting jobs could not be read ahead; they are read when they are wanted")

    async def _ask(self, count: int) -> None:
        self._changed.clear()
        self._fresh = True
        count += len(self._taken)
        ids = await self._queue.head(count)
        self._taken.intersection_update(ids)
        jobs = {job_id: self._known[job_id] for job_id in ids if job_id in self._known}
        if unknown := [job_id for job_id in ids if job_id not in jobs and job_id not in self._taken]:
            jobs.update((job.id, job) for job in await self._ledger.specs(unknown))
            if stale := [job_id for job_id in unknown if not _waits(jobs.get(job_id))]:
                self._stale(stale)
        waiting = (job_id for job_id in ids if job_id not in self._taken and job_id not in self._changed)
        self._known = {job_id: jobs[job_id] for job_id in waiting if _waits(jobs.get(job_id))}
        if self._fresh:
            self._enough = len(self._known) if len(ids) == count else float("inf")


def _waits(job: Job | None) -> bool:
    return job is not None and job.state is JobState.QUEUED
