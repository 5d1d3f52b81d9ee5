"""What can be asked of the ledger but for the list of jobs. Every function takes a reading connection."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import orjson

from broker.errors import Conflict, NotFound
from broker.ledger.changes import missing
from broker.ledger.records import ActiveJob, OutboxEntry
from broker.ledger.rows import (
    ATTEMPT_COLUMNS,
    EVENT_COLUMNS,
    JOB_COLUMNS,
    PRIORITIES,
    attempt_of,
    audit_of,
    checkpoint_of,
    encoded,
    job_with_spec,
    moment,
    priority_rank,
)
from broker.protocol.api import MetricTable
from broker.protocol.event import AuditEntry
from broker.protocol.filter import metric_key
from broker.protocol.job import Attempt, Checkpoint, Job
from broker.protocol.states import FINAL, JobState, Priority

SPARK = 32  # newest fitness values that a job's row shows
_CANDIDATES = 10  # named when a reference is not unique


def job(db: sqlite3.Connection, job_id: int) -> Job:
    """With spec and spark. Raises NotFound."""
    found = specs(db, [job_id])
    if not found:
        raise missing(job_id)
    return with_sparks(db, found)[0]


def specs(db: sqlite3.Connection, job_ids: Sequence[int]) -> list[Job]:
    rows = db.execute(
        f"""SELECT {JOB_COLUMNS}, spec FROM jobs JOIN specs ON job_id = id
            WHERE id IN (SELECT value FROM json_each(?))""",
        (encoded(list(job_ids)),),
    )
    found = {row[0]: job_with_spec(row) for row in rows}
    return [found[job_id] for job_id in job_ids if job_id in found]


def warnings(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, list[str]]:
    """Of those that have any."""
    rows = db.execute(
        """SELECT jobs.id, warnings FROM json_each(?) AS wanted CROSS JOIN jobs ON jobs.id = wanted.value
           WHERE warnings IS NOT NULL ORDER BY jobs.id""",
        (encoded(list(job_ids)),),
    )
    return {job_id: orjson.loads(warned) for job_id, warned in rows}


def with_sparks(db: sqlite3.Connection, jobs: list[Job]) -> list[Job]:
    """Fills in `spark` of jobs that have epochs."""
    trained = {job.id: job for job in jobs if job.epoch}
    if trained:
        rows = db.execute(
            f"""SELECT jobs.id, epochs.fitness FROM json_each(?) AS wanted
                CROSS JOIN jobs ON jobs.id = wanted.value
                CROSS JOIN epochs ON job_id = jobs.id AND epochs.epoch > jobs.epoch - {SPARK}
                WHERE epochs.fitness IS NOT NULL ORDER BY wanted.key, epochs.epoch""",
            (encoded(list(trained)),),
        )
        for job_id, fitness in rows:
            trained[job_id].spark.append(fitness)
    return jobs


def find(db: sqlite3.Connection, ref: str) -> int:
    """Raises NotFound, Conflict."""
    text = ref.strip()
    number = text.removeprefix("#")
    if number.isascii() and number.isdigit() and len(number) < 19:
        row: tuple[int] | None = db.execute("SELECT id FROM jobs WHERE id = ?", (int(number),)).fetchone()
        if row is not None:
            return row[0]
    for column, what in (("task_id = ?", "task id"), ("name = ? COLLATE BINARY", "name"), ("name = ?", "name")):
        rows: list[tuple[int, str]] = db.execute(
            f"SELECT id, state FROM jobs WHERE {column} ORDER BY id DESC LIMIT {_CANDIDATES + 1}", (text,)
        ).fetchall()
        alive = [row for row in rows if JobState(row[1]) not in FINAL]
        if len(rows) == 1 or len(alive) == 1:
            return (alive or rows)[0][0]
        if rows:
            names = ", ".join(f"{job_id} ({state})" for job_id, state in rows[:_CANDIDATES])
            more = " and more" if len(rows) > _CANDIDATES else ""
            raise Conflict(f"{text!r} is the {what} of several jobs: {names}{more}; use a job's number")
    raise NotFound(f"there is no job {text!r}: neither a number, nor a name, nor a task_id")


def counts(db: sqlite3.Connection) -> dict[JobState, int]:
    return {JobState(state): n for state, n in db.execute("SELECT state, n FROM counts")}


def failed_since(db: sqlite3.Connection, when: int) -> int:
    found: tuple[int] = db.execute(
        "SELECT count(*) FROM jobs INDEXED BY jobs_failed WHERE state = 'failed' AND ended_at >= ?", (when,)
    ).fetchone()
    return found[0]


def newest_seq(db: sqlite3.Connection) -> int:
    row: tuple[int] | None = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return 0 if row is None else row[0]


def queued(db: sqlite3.Connection, after_id: int, limit: int) -> list[tuple[int, Priority, float]]:
    rows = db.execute(
        """SELECT id, priority, rank FROM jobs INDEXED BY jobs_queued
           WHERE state = 'queued' AND id > ? ORDER BY id LIMIT ?""",
        (after_id, limit),
    )
    return [(job_id, PRIORITIES[priority], rank) for job_id, priority, rank in rows]


def neighbours(db: sqlite3.Connection, job_id: int) -> tuple[float | None, float | None]:
    """Raises NotFound; Conflict when the job does not wait."""
    row = db.execute("SELECT shelf, lane, place, id, state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise missing(job_id)
    if row[0] != 1:
        raise Conflict(f"job {job_id} is {row[4]}: only a waiting job has neighbours")
    return _next_rank(db, row[:4], "<", "DESC"), _next_rank(db, row[:4], ">", "ASC")


def bounds(db: sqlite3.Connection, priority: Priority) -> tuple[float | None, float | None]:
    """Ranks of the first and last waiting job of a priority."""
    lane = priority_rank(priority)
    return _next_rank(db, (1, lane, -1e308, 0), ">", "ASC"), _next_rank(db, (1, lane, 1e308, 0), "<", "DESC")


def _next_rank(db: sqlite3.Connection, at: tuple[int, int, float, int], op: str, order: str) -> float | None:
    row: tuple[float] | None = db.execute(
        f"""SELECT place FROM jobs INDEXED BY jobs_in_order WHERE shelf = ? AND lane = ? AND (place, tie) {op} (?, ?)
            ORDER BY place {order}, tie {order} LIMIT 1""",
        at,
    ).fetchone()
    return None if row is None else row[0]


def active(db: sqlite3.Connection) -> list[ActiveJob]:
    attempts = {
        row[0]: attempt_of(row)
        for row in db.execute(
            f"""SELECT {ATTEMPT_COLUMNS} FROM attempts
                WHERE (job_id, fence) IN (SELECT id, fence FROM jobs INDEXED BY jobs_in_order WHERE shelf = 0)"""
        )
    }
    rows = db.execute(
        f"""SELECT {JOB_COLUMNS}, spec FROM jobs INDEXED BY jobs_in_order JOIN specs ON job_id = id
            WHERE shelf = 0 ORDER BY lane, place"""
    )
    return [ActiveJob(job_with_spec(row), attempts[row[0]]) for row in rows]


def attempts(db: sqlite3.Connection, job_id: int) -> list[Attempt]:
    """Oldest first. Raises NotFound."""
    _must_exist(db, job_id)
    rows = db.execute(f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE job_id = ? ORDER BY fence", (job_id,))
    return [attempt_of(row) for row in rows]


def checkpoints(db: sqlite3.Connection, job_id: int) -> list[Checkpoint]:
    """Raises NotFound."""
    _must_exist(db, job_id)
    rows = db.execute(
        """SELECT path, epoch, sha256, attempt, at FROM checkpoints WHERE job_id = ?
           ORDER BY epoch DESC, attempt DESC, at DESC""",
        (job_id,),
    )
    return [checkpoint_of(row) for row in rows]


def metrics(db: sqlite3.Connection, job_id: int, names: Sequence[str], last: int | None) -> MetricTable:
    """`names`: as Ultralytics writes them or as people do (map50). Raises NotFound."""
    _must_exist(db, job_id)
    limit = -1 if last is None else last
    rows = db.execute(
        "SELECT epoch, seconds, attempt FROM epochs WHERE job_id = ? ORDER BY epoch DESC LIMIT ?", (job_id, limit)
    ).fetchall()[::-1]
    table = MetricTable(
        job_id=job_id,
        epochs=[row[0] for row in rows],
        seconds=[row[1] for row in rows],
        attempts=[row[2] for row in rows],
        columns={},
    )
    if not rows:
        return table
    wanted, keys = set(names), {metric_key(name) for name in names}
    row_of = {epoch: index for index, epoch in enumerate(table.epochs)}
    for name, key, epoch, value in db.execute(
        """SELECT name, key, epoch, value FROM metrics JOIN metric_names ON id = name_id
           WHERE job_id = ? AND epoch >= ? ORDER BY name_id, epoch""",
        (job_id, table.epochs[0]),
    ):
        if not wanted or name in wanted or key in keys:
            table.columns.setdefault(name, [None] * len(rows))[row_of[epoch]] = value
    return table


def audit(db: sqlite3.Connection, job_id: int | None, after: int | None, limit: int) -> list[AuditEntry]:
    """In order; without `after` the newest of it."""
    of_job = "" if job_id is None else "job_id = ? AND "
    order = "DESC" if after is None else "ASC"
    rows = db.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE {of_job} seq > ? ORDER BY seq {order} LIMIT ?",
        (*(() if job_id is None else (job_id,)), after or 0, limit),
    ).fetchall()
    return [audit_of(row) for row in (reversed(rows) if after is None else rows)]


def newest(db: sqlite3.Connection, job_id: int, verb: str) -> AuditEntry | None:
    row = db.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE job_id = ? AND verb = ? ORDER BY seq DESC LIMIT 1", (job_id, verb)
    ).fetchone()
    return None if row is None else audit_of(row)


def ended(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, datetime]:
    """When, of those that have."""
    rows = db.execute(
        "SELECT id, ended_at FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND shelf = 2",
        (encoded(list(job_ids)),),
    )
    return {job_id: moment(at) for job_id, at in rows}


def specs_ahead(db: sqlite3.Connection) -> list[str]:
    """As JSON, of the jobs that have not ended."""
    return [spec for (spec,) in db.execute("SELECT spec FROM jobs JOIN specs ON job_id = id WHERE shelf < 2")]


def outbox(db: sqlite3.Connection, limit: int) -> list[OutboxEntry]:
    rows: list[tuple[int, Literal["enqueue", "dequeue", "result"], int, int, float, str | None]] = db.execute(
        "SELECT id, op, job_id, priority, rank, body FROM outbox ORDER BY id LIMIT ?", (limit,)
    ).fetchall()
    return [
        OutboxEntry(
            id=entry,
            op=op,
            job_id=job_id,
            priority=PRIORITIES[priority],
            rank=rank,
            body={} if body is None else orjson.loads(body),
        )
        for entry, op, job_id, priority, rank, body in rows
    ]


def _must_exist(db: sqlite3.Connection, job_id: int) -> None:
    if db.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,)).fetchone() is None:
        raise missing(job_id)
