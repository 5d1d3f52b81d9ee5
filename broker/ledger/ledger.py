"""SQLite, the truth: the only door through which a job changes state.

One writer thread with group commit (WAL, synchronous=FULL, one fsync for what has queued up, a SAVEPOINT per item),
query-only readers. A change is the row, the event and the outbox entry in one transaction; what followers see is
published after the commit. Never a network call in here.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from broker.bus import Bus
from broker.ledger.records import ActiveJob, Change, NewJob, OutboxEntry, Recorded, Submitted
from broker.protocol.api import JobPage, MetricTable
from broker.protocol.event import AuditEntry, FollowerEvent
from broker.protocol.job import Attempt, Checkpoint, Job, JobState, Priority


class Ledger:
    """Open with `await Ledger.open(path, bus)`. Raises LedgerFull from writes when the disk is full."""

    broker_id: str  # made once, when the ledger is made
    seq: int  # of the newest durable event
    read_only: bool  # True after a write found the disk full; cleared by the next one that succeeds

    @classmethod
    async def open(cls, path: Path, bus: Bus) -> "Ledger":
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    # writes

    async def submit(self, jobs: Sequence[NewJob], by: str = "") -> list[Submitted]:
        """All of them or none, in one transaction. Durable when it returns. Raises IdempotencyConflict, LedgerFull."""
        raise NotImplementedError

    async def advance(self, change: Change) -> Job:
        """The job as it is afterwards (without spec). Raises NotFound, Conflict, StaleFence, LedgerFull."""
        raise NotImplementedError

    async def record(self, what: Recorded) -> None:
        """Raises StaleFence, NotFound, LedgerFull."""
        raise NotImplementedError

    async def remove(self, job_id: int, by: str = "") -> None:
        """Forget a job that is not ACTIVE, with its attempts, metrics and events but for one `remove` event."""
        raise NotImplementedError

    async def outbox_done(self, ids: Sequence[int]) -> None:
        raise NotImplementedError

    # reads

    async def job(self, job_id: int) -> Job:
        """With spec. Raises NotFound."""
        raise NotImplementedError

    async def find(self, ref: str) -> int:
        """A job's id from what a person or program calls it: a number, a unique name, or a task_id. Raises NotFound,
        or Conflict naming the candidates."""
        raise NotImplementedError

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        """`sort`: column or -column; default: active, then waiting in order, then newest ended. Raises BadInput."""
        raise NotImplementedError

    async def counts(self) -> dict[JobState, int]:
        raise NotImplementedError

    async def failed_since(self, when: datetime) -> int:
        raise NotImplementedError

    async def specs(self, job_ids: Sequence[int]) -> list[Job]:
        """Jobs with spec, in the order asked; those that are gone are left out."""
        raise NotImplementedError

    async def queued(self, after_id: int = 0, limit: int = 10_000) -> list[tuple[int, Priority, float]]:
        """QUEUED jobs by id, for rebuilding the queue."""
        raise NotImplementedError

    async def neighbours(self, job_id: int) -> tuple[float | None, float | None]:
        """Ranks right before and after a waiting job within its priority, for moves."""
        raise NotImplementedError

    async def active(self) -> list[ActiveJob]:
        raise NotImplementedError

    async def attempts(self, job_id: int) -> list[Attempt]:
        raise NotImplementedError

    async def checkpoints(self, job_id: int) -> list[Checkpoint]:
        """Newest epoch first."""
        raise NotImplementedError

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        raise NotImplementedError

    async def audit(self, job_id: int | None = None, after: int = 0, limit: int = 500) -> list[AuditEntry]:
        raise NotImplementedError

    async def events_after(self, seq: int, limit: int = 1000) -> list[FollowerEvent]:
        """Durable events for a follower that reconnects: JobChanged carries the job as it is now."""
        raise NotImplementedError

    async def outbox(self, limit: int = 1000) -> list[OutboxEntry]:
        """Oldest first."""
        raise NotImplementedError
