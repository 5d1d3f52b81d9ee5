"""Between the ledger's rows and the models: column lists, readers of rows, and what a spec says of its job's row."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import PurePath
from typing import Any, TypeVar

import orjson

from broker.protocol.event import AuditEntry
from broker.protocol.filter import words_of
from broker.protocol.job import Attempt, Checkpoint, Job, JobSpec, TrainWork
from broker.protocol.states import ACTIVE, EndReason, Intent, JobState, Priority

T = TypeVar("T")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PRIORITIES = (Priority.HIGH, Priority.NORMAL, Priority.LOW)  # as stored: their positions here

JOB_COLUMNS = (
    "id, name, kind, state, reason, message, intent, priority, rank, user, task_id, model, task, data, node, gpus, "
    "fence, infra_deaths, epoch, epochs, fitness_name, fitness, best_fitness, best_epoch, parent_id, submitted_at, "
    "queued_at, not_before, started_at, ended_at, warnings"
)
JOB_WIDTH = JOB_COLUMNS.count(",") + 1
ATTEMPT_COLUMNS = (
    "job_id, fence, node, engine_ref, gpus, directory, log_offset, last_event, started_at, running_at, ended_at, "
    "exit_code, reason, message, image"
)
EVENT_COLUMNS = "seq, at, job_id, attempt, verb, from_state, to_state, reason, message, by, data, node"

_ROWS = 16
_NAME_LENGTH = 60  # characters of a name that nobody gave


def micros(when: datetime) -> int:
    """Microseconds since 1970. A time without a zone is taken as UTC."""
    return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def maybe_moment(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def priority_rank(priority: Priority) -> int:
    return PRIORITIES.index(priority)


def batches(of: Sequence[T]) -> Iterator[Sequence[T]]:
    """What one statement takes: each number of parameters is a statement of its own, prepared once."""
    return (of[start : start + _ROWS] for start in range(0, len(of), _ROWS))


def encoded(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()


def described(spec: JobSpec) -> dict[str, Any]:
    """The columns of a job's row that its spec decides."""
    work = spec.work
    if isinstance(work, TrainWork):
        model, task, data, epochs = work.model, work.task, str(work.args.get("data") or ""), work.epochs
        made = "-".join(PurePath(part).stem for part in (model, data) if part)
    else:
        model, task, data, epochs = PurePath(work.argv[0]).name, None, "", 0
        made = " ".join((model, *work.argv[1:]))
    name = spec.name or " ".join(made.split())[:_NAME_LENGTH] or work.kind
    return {
        "kind": work.kind,
        "name": name,
        "user": spec.user,
        "task_id": spec.task_id,
        "model": model,
        "task": task,
        "data": data,
        "words": words_of(name, model, spec.user, data, spec.task_id),
        "epochs": epochs,
    }


def job_of(row: Sequence[Any]) -> Job:
    """From JOB_COLUMNS; what follows them in the row is not looked at."""
    priority: int = row[7]
    return Job(
        id=row[0],
        name=row[1],
        kind=row[2],
        state=JobState(row[3]),
        reason=None if row[4] is None else EndReason(row[4]),
        message=row[5],
        intent=None if row[6] is None else Intent(row[6]),
        priority=PRIORITIES[priority],
        rank=row[8],
        user=row[9],
        task_id=row[10],
        model=row[11],
        task=row[12],
        data=row[13],
        node=row[14],
        gpus=[] if row[15] is None else orjson.loads(row[15]),
        fence=row[16],
        infra_deaths=row[17],
        epoch=row[18],
        epochs=row[19],
        fitness_name=row[20],
        fitness=row[21],
        best_fitness=row[22],
        best_epoch=row[23],
        parent_id=row[24],
        submitted_at=moment(row[25]),
        queued_at=maybe_moment(row[26]),
        not_before=maybe_moment(row[27]),
        started_at=maybe_moment(row[28]),
        ended_at=maybe_moment(row[29]),
        warnings=[] if row[30] is None else orjson.loads(row[30]),
    )


@lru_cache(maxsize=128)
def _spec_of(text: str) -> JobSpec:
    """A job's is read when it is placed and again when it starts. Nobody changes one in place."""
    return JobSpec.model_validate_json(text)


def job_with_spec(row: Sequence[Any]) -> Job:
    """From JOB_COLUMNS, and the spec after them."""
    job = job_of(row)
    job.spec = _spec_of(row[JOB_WIDTH])
    return job


def attempt_of(row: Sequence[Any]) -> Attempt:
    """From ATTEMPT_COLUMNS."""
    return Attempt(
        job_id=row[0],
        fence=row[1],
        node=row[2],
        engine_ref=row[3],
        gpus=orjson.loads(row[4]),
        directory=row[5],
        log_offset=row[6],
        last_event=row[7],
        started_at=moment(row[8]),
        running_at=maybe_moment(row[9]),
        ended_at=maybe_moment(row[10]),
        exit_code=row[11],
        reason=None if row[12] is None else EndReason(row[12]),
        message=row[13],
        image=row[14],
    )


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """From path, epoch, sha256, attempt, at."""
    return Checkpoint(path=row[0], epoch=row[1], sha256=row[2], attempt=row[3], at=moment(row[4]))


def audit_of(row: Sequence[Any]) -> AuditEntry:
    """From EVENT_COLUMNS."""
    return AuditEntry(
        seq=row[0],
        at=moment(row[1]),
        job_id=row[2],
        attempt=row[3],
        verb=row[4],
        from_state=None if row[5] is None else JobState(row[5]),
        to_state=None if row[6] is None else JobState(row[6]),
        reason=None if row[7] is None else EndReason(row[7]),
        message=row[8],
        by=row[9],
        data={} if row[10] is None else orjson.loads(row[10]),
        node=row[11],
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a job, what decides what may become of it."""

    id: int
    state: JobState
    fence: int
    priority: Priority
    rank: float
    intent: Intent | None
    started: bool
    words: str
    node: str | None  # of its attempt, while that is active


def standings(db: sqlite3.Connection, job_ids: Sequence[int]) -> dict[int, Standing]:
    """By id; jobs that are gone are left out."""
    found: dict[int, Standing] = {}
    for some in batches(job_ids):
        rows: list[tuple[int, str, int, int, float, str | None, int | None, str, str | None]] = db.execute(
            f"""SELECT id, state, fence, priority, rank, intent, started_at, words, node FROM jobs
                WHERE id IN ({", ".join("?" * len(some))})""",
            some,
        ).fetchall()
        for job_id, state, fence, priority, rank, intent, started_at, words, node in rows:
            found[job_id] = Standing(
                id=job_id,
                state=JobState(state),
                fence=fence,
                priority=PRIORITIES[priority],
                rank=rank,
                intent=None if intent is None else Intent(intent),
                started=started_at is not None,
                words=words,
                node=node if state in ACTIVE else None,
            )
    return found
