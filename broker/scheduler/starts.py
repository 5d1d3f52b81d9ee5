"""Jobs on their way from QUEUED to STARTING. Each holds its place from the moment it is chosen, so the next are chosen
while that is being written down."""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from broker.crashpoint import crash_here
from broker.errors import Conflict, NotFound
from broker.ledger.ledger import Ledger
from broker.ledger.records import AttemptStart, Change
from broker.placement import Assignment
from broker.protocol.job import Attempt, Job
from broker.protocol.states import JobState

_log = logging.getLogger(__name__)


class Starts:
    def __init__(
        self,
        ledger: Ledger,
        directory: Path,
        clock: Callable[[], datetime],
        *,
        started: Callable[[Job, Attempt], None],
        refused: Callable[[int], None],
    ) -> None:
        """`directory`: of all jobs. `started`: called with a job, and its spec, that is STARTING in the ledger;
        `refused`: with one that is not, and its place is free again."""
        self._ledger = ledger
        self._directory = directory
        self._clock = clock
        self._started = started
        self._refused = refused
        self._held: dict[int, tuple[Job, Attempt]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: Exception | None = None

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._held

    @property
    def held(self) -> Collection[tuple[Job, Attempt]]:
        """What their places are held for."""
        return self._held.values()

    def begin(self, job: Job, assignment: Assignment) -> None:
        """`job` as it waits."""
        attempt = self._attempt(job, job.fence + 1, assignment)
        self._held[job.id] = job, attempt
        task = asyncio.create_task(self._start(assignment, attempt), name=f"start {job.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def check(self) -> None:
        """Raises what kept one from being started since this was called last: LedgerFull, or what broke."""
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    async def settle(self) -> None:
        """Until it is known of each whether it was written down."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.settle()

    async def _start(self, assignment: Assignment, attempt: Attempt) -> None:
        """The one step that decides. `attempt` as it will be, if the job is as it was when it was chosen."""
        start = AttemptStart(assignment.node, assignment.gpus, self._directory)
        change = Change(
            assignment.job_id, "place", to=JobState.STARTING, expect=frozenset({JobState.QUEUED}), start=start
        )
        try:
            job = await self._ledger.advance(change)
            crash_here("after-starting-commit")
            self._started(job, attempt if attempt.fence == job.fence else self._attempt(job, job.fence, assignment))
        except (Conflict, NotFound) as error:  # somebody was faster
            _log.debug("not started: %s", error)
        except Exception as error:  # told by `check`
            self._failed = error
        else:
            return
        finally:
            del self._held[assignment.job_id]
        self._refused(assignment.job_id)

    def _attempt(self, job: Job, fence: int, assignment: Assignment) -> Attempt:
        return Attempt(
            job_id=job.id,
            fence=fence,
            node=assignment.node,
            gpus=list(assignment.gpus),
            directory=f"{self._directory}/{job.id}/{fence}",
            started_at=self._clock(),
        )
