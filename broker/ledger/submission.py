"""New jobs: their rows, `submit` events and outbox entries, and the keys that make a repeated submission harmless."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from broker.errors import IdempotencyConflict
from broker.ledger.following import followed
from broker.ledger.records import NewJob, Submitted
from broker.ledger.rows import described, encoded, priority_rank
from broker.ledger.writer import Transaction
from broker.protocol.states import JobState

_INSERT_JOB = """INSERT INTO jobs (id, state, kind, name, user, task_id, model, task, data, words, priority, rank,
    epochs, parent_id, submitted_at, queued_at, warnings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_EVENT = "INSERT INTO events (seq, at, job_id, verb, to_state, by) VALUES (?, ?, ?, 'submit', ?, ?)"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A NewJob as it goes into the file, made outside the writer's thread."""

    state: JobState
    columns: tuple[Any, ...]  # kind ... words
    words: str
    priority: int
    epochs: int
    parent_id: int | None
    warnings: str | None
    spec: str
    key: str | None
    body_hash: str


def encode(job: NewJob) -> Encoded:
    if job.state not in {JobState.QUEUED, JobState.HELD}:
        raise ValueError(f"a new job is queued or held, not {job.state}")
    row = described(job.spec)
    epochs = row.pop("epochs")
    return Encoded(
        state=job.state,
        columns=tuple(row.values()),
        words=row["words"],
        priority=priority_rank(job.spec.priority),
        epochs=epochs,
        parent_id=job.parent_id,
        warnings=encoded(list(job.warnings)) if job.warnings else None,
        spec=job.spec.model_dump_json(),
        key=job.key,
        body_hash=job.body_hash,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    jobs: Sequence[Encoded]
    by: str
    key: str | None  # for the batch as a whole
    body_hash: str


def submit(tx: Transaction, batch: Batch) -> list[Submitted]:
    """All or none. Raises IdempotencyConflict."""
    key, body_hash = batch.key, batch.body_hash
    if key is not None and (seen := answered(tx.db, key, body_hash)) is not None:
        return [Submitted(job_id, fresh=False) for job_id in seen]
    first_id, first_seq = tx.job_id + 1, tx.seq + 1
    answers: list[Submitted] = []
    fresh: list[Encoded] = []
    for job in batch.jobs:
        if job.key is not None:
            if (seen := answered(tx.db, job.key, job.body_hash)) is not None:
                answers.append(Submitted(seen[0], fresh=False))
                continue
            _remember(tx, job.key, job.body_hash, [first_id + len(fresh)])
        answers.append(Submitted(first_id + len(fresh), fresh=True))
        fresh.append(job)
    if key is not None:
        _remember(tx, key, body_hash, [answer.id for answer in answers])
    _insert(tx, fresh, batch.by)
    if fresh:
        tx.tell(lambda: followed(tx.db, first_seq - 1))
    return answers


def _insert(tx: Transaction, jobs: Sequence[Encoded], by: str) -> None:
    first_id, first_seq = tx.job_id + 1, tx.seq + 1
    tx.db.executemany(
        _INSERT_JOB,
        [
            (
                job_id,
                job.state,
                *job.columns,
                job.priority,
                float(job_id),
                job.epochs,
                job.parent_id,
                tx.now,
                tx.now if job.state is JobState.QUEUED else None,
                job.warnings,
            )
            for job_id, job in enumerate(jobs, first_id)
        ],
    )
    tx.db.executemany("INSERT INTO specs VALUES (?, ?)", [(i, job.spec) for i, job in enumerate(jobs, first_id)])
    tx.db.executemany(
        _INSERT_EVENT,
        [(first_seq + position, tx.now, first_id + position, job.state, by) for position, job in enumerate(jobs)],
    )
    tx.db.executemany(
        "INSERT INTO outbox (op, job_id, priority, rank) VALUES ('enqueue', ?, ?, ?)",
        [(i, job.priority, float(i)) for i, job in enumerate(jobs, first_id) if job.state is JobState.QUEUED],
    )
    tx.words += [(None, job_id, job.words) for job_id, job in enumerate(jobs, first_id)]
    tx.job_id += len(jobs)
    tx.seq += len(jobs)


def answered(db: sqlite3.Connection, key: str, body_hash: str) -> list[int] | None:
    """The jobs that were made with this key; None where it is new. Raises IdempotencyConflict."""
    row = db.execute("SELECT body_hash, job_ids FROM idempotency WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    job_ids: list[int] = orjson.loads(row[1])
    if row[0] != body_hash:
        raise IdempotencyConflict(
            f"the Idempotency-Key {key!r} was used before with another body (job {job_ids[0] if job_ids else '-'}): "
            "nothing was submitted; use a new key for a new submission"
        )
    return job_ids


def _remember(tx: Transaction, key: str, body_hash: str, job_ids: Sequence[int]) -> None:
    tx.db.execute("INSERT INTO idempotency VALUES (?, ?, ?, ?)", (key, body_hash, encoded(list(job_ids)), tx.now))
