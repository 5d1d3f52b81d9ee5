"""`advance`: one change of a job, checked against TRANSITIONS, with its event and what others must hear of it."""

import sqlite3
from typing import Any

from broker.errors import Conflict, NotFound, StaleFence
from broker.ledger.nodes import withheld
from broker.ledger.records import AttemptUpdate, Change
from broker.ledger.rows import (
    JOB_COLUMNS,
    Standing,
    described,
    encoded,
    job_of,
    job_with_spec,
    micros,
    moment,
    priority_rank,
)
from broker.ledger.writer import Transaction
from broker.protocol.event import JobChanged, JobRemoved
from broker.protocol.filter import words_of_job
from broker.protocol.job import Job
from broker.protocol.states import ACTIVE, FINAL, TRANSITIONS, JobState

_EVENTS = "events (seq, at, job_id, attempt, verb, from_state, to_state, reason, message, by, data, node)"
_ATTEMPTS = "attempts (job_id, fence, node, gpus, directory, started_at)"
_OUTBOX = "outbox (op, job_id, priority, rank, body)"
_RESULT = (
    "task_id", "name", "kind", "state", "reason", "message", "node", "fence", "epoch", "epochs",
    "fitness_name", "fitness", "best_fitness", "best_epoch", "submitted_at", "started_at", "ended_at",
)  # fmt: skip


def advance(tx: Transaction, change: Change) -> Job:
    """Raises NotFound, Conflict, StaleFence; ValueError for a change that makes no sense in any state."""
    before = tx.standing(change.job_id)
    if before is None:
        raise missing(change.job_id)
    _check(tx, change, before)
    columns = _columns(change, before, tx.now)
    fence: int = columns.get("fence", before.fence)
    after = _update(tx.db, change.job_id, columns, with_spec=change.start is not None)
    if change.spec is not None:
        tx.words.append(("delete", before.id, before.words))
        tx.words.append((None, after.id, words_of_job(after)))
        tx.db.execute("UPDATE specs SET spec = ? WHERE job_id = ?", (change.spec.model_dump_json(), change.job_id))
    if change.to is JobState.STARTING:
        _start_attempt(tx, change, fence)
    elif fence:
        _update_attempt(tx, change, before, fence)
    _tell_queue(tx, change, before, after)
    _add_event(tx, change, before, fence)
    seq, at = tx.seq, moment(tx.now)
    told = {"spec": None}  # nobody who follows needs it with each start
    tx.tell(
        lambda: [JobChanged(seq=seq, at=at, job=after.model_copy(update=told), verb=change.verb, note=change.message)]
    )
    return after


def remove(tx: Transaction, job_id: int, by: str) -> None:
    """Raises NotFound, Conflict."""
    before = tx.standing(job_id)
    if before is None:
        raise missing(job_id)
    if before.state in ACTIVE:
        raise Conflict(f"job {job_id} is {before.state}: stop it before it is removed")
    tx.settle()
    tx.db.execute("DELETE FROM outbox WHERE job_id = ? AND op = 'enqueue'", (job_id,))
    if before.state is JobState.QUEUED:
        _add_outbox(tx, "dequeue", before)
    tx.db.execute("DELETE FROM events WHERE job_id = ?", (job_id,))
    [(name,)] = tx.db.execute("DELETE FROM jobs WHERE id = ? RETURNING name", (job_id,)).fetchall()
    tx.words.append(("delete", job_id, before.words))
    tx.seq += 1
    data = encoded({"name": name})
    tx.add(_EVENTS, (tx.seq, tx.now, job_id, None, "remove", before.state, None, None, "", by, data, None))
    told = JobRemoved(seq=tx.seq, at=moment(tx.now), job_id=job_id)
    tx.tell(lambda: [told])


def expire(tx: Transaction, change: Change) -> Job:
    """Raises as `advance` does."""
    job = advance(tx, change)
    tx.db.execute("DELETE FROM checkpoints WHERE job_id = ?", (change.job_id,))
    return job


def missing(job_id: int) -> NotFound:
    return NotFound(f"there is no job {job_id}")


def stale(job: Standing, fence: int) -> StaleFence:
    return StaleFence(
        f"attempt {fence} of job {job.id} was taken over by attempt {job.fence}: what it says is not recorded"
    )


def _check(tx: Transaction, change: Change, job: Standing) -> None:
    if change.fence is not None and change.fence != job.fence:
        raise stale(job, change.fence)
    if (change.to is JobState.STARTING) != (change.start is not None):
        raise ValueError("a job starts with an AttemptStart, and only then")
    if change.expect is not None and job.state not in change.expect:
        raise Conflict(_refusal(change, job, change.expect))
    if change.wish not in {"any", job.intent}:
        raise Conflict(f"job {job.id} is to {job.intent or 'go on'}: {change.verb} was decided before that was asked")
    if change.start is not None and (why := withheld(tx, change.start.node)):
        raise Conflict(f"job {job.id} cannot start on {change.start.node}, which is {why}")
    if change.to is not None and change.to not in TRANSITIONS[job.state]:
        raise Conflict(_refusal(change, job, frozenset(s for s in JobState if change.to in TRANSITIONS[s])))
    if change.spec is not None and job.state in ACTIVE:
        raise Conflict(f"job {job.id} is {job.state}: only a job that is not running can be edited")


def _refusal(change: Change, job: Standing, allowed: frozenset[JobState]) -> str:
    """'job 7 is completed: hold needs a job that is held or queued'."""
    names = [str(state) for state in JobState if state in allowed]
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names) or "in no state"
    return f"job {job.id} is {job.state}: {change.verb} needs a job that is {listed}"


def _columns(change: Change, job: Standing, now: int) -> dict[str, Any]:
    """What changes in the job's row."""
    columns: dict[str, Any] = {}
    if change.spec is not None:
        columns |= described(change.spec)
    if change.to is not None:
        columns |= _moved(change, change.to, job, now)
    else:
        if change.reason is not None:
            columns["reason"] = change.reason
        if change.message:
            columns["message"] = change.message
        if change.not_before is not None:
            columns["not_before"] = micros(change.not_before)
    if change.intent != "keep" and "intent" not in columns:
        columns["intent"] = change.intent
    if change.priority is not None:
        columns["priority"] = priority_rank(change.priority)
    if change.rank is not None:
        columns["rank"] = change.rank
    if change.infra_deaths is not None:
        columns["infra_deaths"] = change.infra_deaths
    if change.warnings is not None:
        columns["warnings"] = encoded(list(change.warnings)) if change.warnings else None
    return columns


def _moved(change: Change, to: JobState, job: Standing, now: int) -> dict[str, Any]:
    """What a change of state does by itself: the old state's reason and message go, times are set."""
    columns: dict[str, Any] = {
        "state": to,
        "reason": change.reason,
        "message": change.message,
        "not_before": None if change.not_before is None else micros(change.not_before),
    }
    if to is JobState.QUEUED:
        columns |= {"reason": None, "intent": None, "ended_at": None, "queued_at": now, "node": None, "gpus": None}
    elif to in FINAL:
        columns |= {"intent": None, "ended_at": now}
    elif change.start is not None:
        columns |= {"fence": job.fence + 1, "node": change.start.node, "gpus": encoded(list(change.start.gpus))}
        if not job.started:
            columns["started_at"] = now
    return columns


def _update(db: sqlite3.Connection, job_id: int, columns: dict[str, Any], *, with_spec: bool) -> Job:
    if not columns:
        columns = {"id": job_id}
    assignments = ", ".join(f"{name} = ?" for name in columns)
    wanted = f"{JOB_COLUMNS}, (SELECT spec FROM specs WHERE job_id = jobs.id)" if with_spec else JOB_COLUMNS
    [row] = db.execute(
        f"UPDATE jobs SET {assignments} WHERE id = ? RETURNING {wanted}", (*columns.values(), job_id)
    ).fetchall()
    return job_with_spec(row) if with_spec else job_of(row)


def _start_attempt(tx: Transaction, change: Change, fence: int) -> None:
    assert change.start is not None
    directory = f"{change.start.directory_root}/{change.job_id}/{fence}"
    tx.add(_ATTEMPTS, (change.job_id, fence, change.start.node, encoded(list(change.start.gpus)), directory, tx.now))


def _update_attempt(tx: Transaction, change: Change, before: Standing, fence: int) -> None:
    """What was asked; and a job that runs, or no longer does, says so of its attempt too."""
    update = change.attempt or AttemptUpdate()
    columns: dict[str, Any] = {
        name: value
        for name, value in (
            ("engine_ref", update.engine_ref),
            ("running_at", None if update.running_at is None else micros(update.running_at)),
            ("ended_at", None if update.ended_at is None else micros(update.ended_at)),
            ("exit_code", update.exit_code),
            ("reason", update.reason),
            ("message", update.message),
            ("image", update.image),
        )
        if value is not None
    }
    implied: dict[str, Any] = {}
    if change.to is JobState.RUNNING:
        implied = {"running_at": tx.now}
    elif before.state in ACTIVE and change.to is not None and change.to not in ACTIVE:
        implied = {"ended_at": tx.now, "reason": change.reason}
    assignments = [f"{name} = ?" for name in columns]
    assignments += [f"{name} = coalesce({name}, ?)" for name in implied if name not in columns]
    if assignments:
        values = (*columns.values(), *(value for name, value in implied.items() if name not in columns))
        tx.db.execute(
            f"UPDATE attempts SET {', '.join(assignments)} WHERE job_id = ? AND fence = ?",
            (*values, change.job_id, fence),
        )


def _tell_queue(tx: Transaction, change: Change, before: Standing, after: Job) -> None:
    """The outbox: into the queue, out of it (a scheduler that starts a job takes it out itself), and results."""
    if after.state is JobState.QUEUED:
        moved = (before.priority, before.rank) != (after.priority, after.rank)
        if change.to is JobState.QUEUED or moved or change.spec is not None:
            _add_outbox(tx, "enqueue", after)
    elif before.state is JobState.QUEUED and after.state is not JobState.STARTING:
        _add_outbox(tx, "dequeue", after)
    if change.to in FINAL:
        _add_outbox(tx, "result", after, encoded(_result(after)))


def _add_outbox(tx: Transaction, op: str, job: Job | Standing, body: str | None = None) -> None:
    tx.add(_OUTBOX, (op, job.id, priority_rank(job.priority), job.rank, body))


def _result(job: Job) -> dict[str, Any]:
    """One entry of `results_queue`."""
    return {"job_id": job.id, **{name: getattr(job, name) for name in _RESULT}}


def _add_event(tx: Transaction, change: Change, before: Standing, fence: int) -> None:
    tx.seq += 1
    state = (None, None) if change.to is None else (before.state, change.to)
    data = encoded(dict(change.data)) if change.data else None
    node = before.node if change.start is None else change.start.node
    where = tx.seq, tx.now, change.job_id, fence or None
    tx.add(_EVENTS, (*where, change.verb, *state, change.reason, change.message, change.by, data, node))
