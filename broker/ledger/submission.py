"""New jobs: their rows, `submit` events and outbox entries, and the keys that make a repeated submission harmless."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from broker.errors import IdempotencyConflict
from broker.ledger.following import followed
from broker.ledger.records import NewJob, Submitted
from broker.ledger.rows import described, encoded, priority_rank
from broker.ledger.writer import Transaction
from broker.protocol.api import Finding
from broker.protocol.findings import line
from broker.protocol.states import FINAL, JobState

_INSERT_JOB = """INSERT INTO jobs (id, state, kind, name, user, task_id, model, task, data, words, priority, rank,
    epochs, parent_id, submitted_at, queued_at, warnings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NAMED, _LOOKED_AT = 5, 100  # jobs: in a warning, and to find them
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
    warnings: Sequence[str]
    spec: str
    task_id: str | None
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
        warnings=job.warnings,
        spec=job.spec.model_dump_json(),
        task_id=job.spec.task_id,
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
    warnings = _warnings(tx.db, jobs, first_id)
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
                warned,
            )
            for job_id, (job, warned) in enumerate(zip(jobs, warnings, strict=True), first_id)
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


def _warnings(db: sqlite3.Connection, jobs: Sequence[Encoded], first_id: int) -> Iterator[str | None]:
    """Of each, also of the task ids of jobs that are there or come before it."""
    sharing: dict[str, list[int]] = {}
    for job_id, job in enumerate(jobs, first_id):
        warnings = list(job.warnings)
        if job.task_id is not None:
            if job.task_id not in sharing:
                sharing[job.task_id] = _living(db, job.task_id)
            others = sharing[job.task_id]
            warnings += [line(_shared(job.task_id, others))] if others else []
            if len(others) <= _NAMED:
                others.append(job_id)
        yield encoded(warnings) if warnings else None


def shared_task_id(db: sqlite3.Connection, task_id: str, but: int | None = None) -> Finding | None:
    """A warning where a job that has not ended has this task id too. Older programs send one and the same for all."""
    others = [job_id for job_id in _living(db, task_id) if job_id != but]
    return _shared(task_id, others) if others else None


def _living(db: sqlite3.Connection, task_id: str) -> list[int]:
    """The oldest of them, among the newest that have it: thousands that have ended may."""
    rows = db.execute(
        f"""SELECT id, state FROM jobs WHERE task_id = ? ORDER BY id DESC LIMIT {_LOOKED_AT}""", (task_id,)
    ).fetchall()
    return [job_id for job_id, state in reversed(rows) if JobState(state) not in FINAL][: _NAMED + 1]


def _shared(task_id: str, others: Sequence[int]) -> Finding:
    named = ", ".join(map(str, others[:_NAMED])) + (" and more" if len(others) > _NAMED else "")
    whose = f"job {named}" if len(others) == 1 else f"jobs {named}"
    keys = f"progress:{task_id} and stream:{task_id}"
    return Finding(
        level="warning",
        where="task_id",
        message=f"`{task_id}` is also that of {whose}: all of them write to {keys} in Redis",
        hint="give each its own, or none",
    )


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
