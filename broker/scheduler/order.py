"""The head of the queue as Redis told it last, with each job as the ledger had it then: asked again when either may
have changed, or when it runs short. Hints: only the ledger decides whether a job starts."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from broker.ledger.ledger import Ledger
from broker.protocol.job import Job
from broker.protocol.states import JobState
from broker.queue import Queue

AHEAD = 256  # jobs more than are wanted at the moment


class Order:
    def __init__(self, ledger: Ledger, queue: Queue, stale: Callable[[Iterable[int]], None]) -> None:
        """`stale` is told of jobs that stand in Redis' order though they do not wait."""
        self._ledger = ledger
        self._queue = queue
        self._stale = stale
        self._enough = 0.0  # so many can be wanted without asking again
        self._known: dict[int, Job] = {}  # in order
        self._changed: set[int] = set()  # since it was asked
        self._fresh = False
        self._asking = asyncio.Lock()

    def changed(self, job_ids: Iterable[int]) -> None:
        """These are different now, or stand elsewhere. With none: Redis is asked again in any case."""
        for job_id in job_ids:
            self._known.pop(job_id, None)
            self._changed.add(job_id)
        self._enough = 0.0
        self._fresh = False

    def take(self, job_id: int) -> None:
        """It does not wait any more."""
        self._enough -= 1
        self._known.pop(job_id, None)

    async def first(self, count: int) -> Sequence[Job]:
        """In order. Raises QueueDown."""
        async with self._asking:
            if count > self._enough:
                await self._ask(count + AHEAD)
        return list(islice(self._known.values(), count))

    async def _ask(self, count: int) -> None:
        self._changed.clear()
        self._fresh = True
        ids = await self._queue.head(count)
        jobs = {job_id: self._known[job_id] for job_id in ids if job_id in self._known}
        if unknown := [job_id for job_id in ids if job_id not in jobs]:
            jobs.update((job.id, job) for job in await self._ledger.specs(unknown))
        self._known = {job_id: jobs[job_id] for job_id in ids if _waits(jobs.get(job_id))}
        if len(self._known) < len(ids):
            self._stale(job_id for job_id in ids if job_id not in self._known)
        for job_id in self._changed:  # meanwhile: what was read may be older than that
            self._known.pop(job_id, None)
        if self._fresh:
            self._enough = len(self._known) if len(ids) == count else float("inf")


def _waits(job: Job | None) -> bool:
    return job is not None and job.state is JobState.QUEUED
