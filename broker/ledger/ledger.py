"""SQLite, the truth: the only door through which a job changes state.

One writer thread with group commit (WAL, synchronous=FULL, one fsync for what has queued up), query-only readers. A
change is the row, the event and the outbox entry in one transaction; what followers see is published after the commit.
Never a network call in here.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from broker.bus import Bus
from broker.ledger import changes, following, listing, nodes, pace, reads, recording, schema, submission
from broker.ledger.readers import Readers
from broker.ledger.records import (
    ActiveJob,
    Change,
    EpochRow,
    NewJob,
    NodeNote,
    NodeRecord,
    OutboxEntry,
    Recorded,
    Submitted,
)
from broker.ledger.rows import encoded, micros
from broker.ledger.writer import Transaction, Writer
from broker.protocol.api import Finding, JobPage, MetricTable, Pace
from broker.protocol.event import AuditEntry, FollowerEvent
from broker.protocol.job import Attempt, Checkpoint, Job, JobSpec
from broker.protocol.states import JobState, Priority

_MANY = 64  # jobs of a submission, from which on they are encoded beside the event loop
_MAX_PAGE = 1_000  # jobs


def utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Open with `await Ledger.open(path, bus)`. Raises LedgerFull from writes when the disk is full.

    A write that was begun is finished even when the one who waits for it is cancelled.
    """

    def __init__(self, writer: Writer, readers: Readers, broker_id: str) -> None:
        self.broker_id = broker_id  # made once, when the ledger is made
        self._writer = writer
        self._readers = readers

    @classmethod
    async def open(cls, path: Path, bus: Bus, clock: Callable[[], datetime] = utc_now) -> "Ledger":
        """Made where there is none, migrated where it is older. One broker at a time may have it open. `clock` says
        the time that is written, in UTC. Raises LedgerUnusable, LedgerFull."""
        db, broker_id = await asyncio.to_thread(schema.open_ledger, path)
        return cls(Writer(db, path, bus, clock), Readers(path), broker_id)

    async def close(self) -> None:
        """Everything that was asked before is written first."""
        await self._readers.close()
        await self._writer.close()

    @property
    def seq(self) -> int:
        """Of the newest durable event."""
        return self._writer.seq

    @property
    def read_only(self) -> bool:
        """True after a write found the disk full; cleared by the next one that finds space again."""
        return self._writer.read_only

    # writes

    async def submit(
        self, jobs: Sequence[NewJob], by: str = "", key: str | None = None, body_hash: str = ""
    ) -> list[Submitted]:
        """All of them or none, in one transaction. Durable when it returns. Raises IdempotencyConflict, LedgerFull.

        `key` and `body_hash` are of the batch as a whole: when the key was seen, all of its jobs are the answer.
        """

        def encode() -> list[submission.Encoded]:
            return [submission.encode(job) for job in jobs]

        rows = encode() if len(jobs) < _MANY else await asyncio.to_thread(encode)
        batch = submission.Batch(rows, by, key, body_hash)
        return await self._writer.put(lambda tx: submission.submit(tx, batch))

    async def submit_one(self, new: NewJob, by: str, key: str | None, body_hash: str) -> tuple[Job, bool]:
        """As `submit`; the job with its spec, and whether it is new."""
        batch = submission.Batch([submission.encode(new)], by, key, body_hash)

        def made(tx: Transaction) -> tuple[Job, bool]:
            [submitted] = submission.submit(tx, batch)
            return reads.job(tx.db, submitted.id), submitted.fresh

        return await self._writer.put(made)

    async def advance(self, change: Change) -> Job:
        """The job as it is afterwards, without its spec unless it starts. Raises NotFound, Conflict, StaleFence,
        LedgerFull.

        On a full disk only the start of new work is refused at once: for the rest there is the ballast's space.
        """
        vital = change.to is not JobState.STARTING
        return await self._writer.put(lambda tx: changes.advance(tx, change), vital, change.job_id)

    async def record(self, what: Recorded, last: bool = False) -> None:
        """`last`: the attempt has ended, and on a full disk this is written with the ballast's space.
        Raises StaleFence, NotFound, LedgerFull."""
        await self._writer.put(lambda tx: recording.record(tx, what), last, what.job_id)

    async def keep(
        self, job_id: int, fence: int, checkpoints: Sequence[Checkpoint], epochs: Sequence[EpochRow]
    ) -> list[int]:
        """What an attempt that had been given up is found to have saved. The epochs of the checkpoints that were kept:
        none where a later attempt has got on. Raises NotFound, LedgerFull."""
        found = Recorded(job_id, fence, log_offset=0, last_event=0, checkpoints=checkpoints, epochs=epochs)
        return await self._writer.put(lambda tx: recording.keep(tx, found), about=job_id)

    async def remove(self, job_id: int, by: str = "") -> None:
        """Forget a job that is not ACTIVE, with its attempts, metrics and events but for one `remove` event."""
        await self._writer.put(lambda tx: changes.remove(tx, job_id, by), True, job_id)

    async def expire(self, change: Change) -> Job:
        """Its files go, and with them what is known of its checkpoints. Raises as `advance` does."""
        return await self._writer.put(lambda tx: changes.expire(tx, change), True, change.job_id)

    async def note_node(self, name: str, what: NodeNote) -> None:
        """Raises LedgerFull."""
        await self._writer.put(lambda tx: nodes.note(tx, name, what))

    async def outbox_done(self, ids: Sequence[int]) -> None:
        delete = "DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))"
        text = encoded(list(ids))
        await self._writer.put(lambda tx: tx.db.execute(delete, (text,)).rowcount)

    async def prune(self, older_than: datetime) -> int:
        """Forget Idempotency-Keys from before this time. Returns how many."""
        delete = "DELETE FROM idempotency WHERE at < ?"
        when = micros(older_than)
        return await self._writer.put(lambda tx: tx.db.execute(delete, (when,)).rowcount)

    # reads

    async def job(self, job_id: int) -> Job:
        """With spec. Raises NotFound."""
        return await self._readers.run(reads.job, job_id)

    async def answered(self, key: str, body_hash: str) -> list[int] | None:
        """The jobs that were submitted with this Idempotency-Key; None where it is new. Raises IdempotencyConflict."""
        return await self._readers.run(submission.answered, key, body_hash)

    async def shared_task_id(self, task_id: str, but: int | None = None) -> Finding | None:
        """A warning where a job that has not ended has it too, `but` aside."""
        return await self._readers.run(submission.shared_task_id, task_id, but)

    async def warnings(self, job_ids: Sequence[int]) -> dict[int, list[str]]:
        """What is worth knowing of each, of those of which anything is."""
        return await self._readers.run(reads.warnings, job_ids)

    async def find(self, ref: str) -> int:
        """A job's id from what a person or program calls it: a number, a task_id, or a name; of several with the same
        name the only one that has not ended. Raises NotFound, or Conflict naming the candidates."""
        return await self._readers.run(reads.find, ref)

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        """`sort`: one of protocol.filter.SORTS or -it; default: active, then waiting in order, then newest ended.

        Answers in bounded time: a page with `next_cursor` may be short, or empty, when matches are rare. Raises
        BadInput.
        """
        return await self._readers.run(listing.page, filter, sort, max(1, min(limit, _MAX_PAGE)), cursor)

    async def counts(self) -> dict[JobState, int]:
        return await self._readers.run(reads.counts)

    async def failed_since(self, when: datetime) -> int:
        return await self._readers.run(reads.failed_since, micros(when))

    async def specs(self, job_ids: Sequence[int]) -> list[Job]:
        """Jobs with spec, in the order asked; those that are gone are left out."""
        return await self._readers.run(reads.specs, job_ids)

    async def queued(self, after_id: int = 0, limit: int = 10_000) -> list[tuple[int, Priority, float]]:
        """QUEUED jobs by id, for rebuilding the queue."""
        return await self._readers.run(reads.queued, after_id, limit)

    async def neighbours(self, job_id: int) -> tuple[float | None, float | None]:
        """Ranks right before and after a waiting job within its priority, for moves. Raises NotFound, Conflict."""
        return await self._readers.run(reads.neighbours, job_id)

    async def bounds(self, priority: Priority) -> tuple[float | None, float | None]:
        """Ranks of the first and the last waiting job of a priority, for moves."""
        return await self._readers.run(reads.bounds, priority)

    async def active(self) -> list[ActiveJob]:
        return await self._readers.run(reads.active)

    async def attempts(self, job_id: int) -> list[Attempt]:
        """Oldest first. Raises NotFound."""
        return await self._readers.run(reads.attempts, job_id)

    async def checkpoints(self, job_id: int) -> list[Checkpoint]:
        """Newest epoch first. Raises NotFound."""
        return await self._readers.run(reads.checkpoints, job_id)

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        """`names` as Ultralytics writes them, or short (map50); none: all. Raises NotFound."""
        return await self._readers.run(reads.metrics, job_id, names, last)

    async def pace(self, spec: JobSpec) -> Pace | None:
        """How long an epoch of this training would take; None where nothing like it has run."""
        return await self._readers.run(pace.of_like, spec)

    async def audit(self, job_id: int | None = None, after: int | None = 0, limit: int = 500) -> list[AuditEntry]:
        """In order; with None for `after` the newest of it."""
        return await self._readers.run(reads.audit, job_id, after, limit)

    async def newest(self, job_id: int, verb: str) -> AuditEntry | None:
        """What was last written down of that kind, however long the job's history is."""
        return await self._readers.run(reads.newest, job_id, verb)

    async def ended(self, job_ids: Sequence[int]) -> dict[int, datetime]:
        """When, of those of them that have."""
        return await self._readers.run(reads.ended, job_ids)

    async def specs_ahead(self) -> list[str]:
        """As JSON, of the jobs that have not ended."""
        return await self._readers.run(reads.specs_ahead)

    async def nodes(self) -> dict[str, NodeRecord]:
        """Of every node of which anything was ever seen or said, by name."""
        return await self._readers.run(nodes.records)

    async def node_trail(self, name: str, after: int | None = None, limit: int = 500) -> list[AuditEntry]:
        """What happened on a node, and to it, in order; without `after` the newest of it."""
        return await self._readers.run(nodes.trail, name, after, limit)

    async def events_after(self, seq: int, limit: int = 1000) -> list[FollowerEvent]:
        """Durable events for a follower that reconnects: JobChanged carries the job as it is now.

        `limit` rows of the events table are read; several changes of one job are told as one, with the newest's seq.
        """
        return await self._readers.run(following.followed, seq, limit)

    async def outbox(self, limit: int = 1000) -> list[OutboxEntry]:
        """Oldest first."""
        return await self._readers.run(reads.outbox, limit)
