"""The durable events that a follower sees, made again from the ledger: to publish them, and to replay them."""

import sqlite3
from collections.abc import Mapping
from typing import Any

import orjson

from broker.ledger.rows import JOB_COLUMNS, encoded, job_of, moment
from broker.protocol.event import EpochDone, FollowerEvent, JobChanged, JobRemoved
from broker.protocol.job import Job

_EVENTS = """SELECT seq, at, job_id, attempt, verb, message, data FROM events WHERE seq > ? AND job_id IS NOT NULL
    ORDER BY seq LIMIT ?"""  # followers are told of nodes as they are now


def followed(db: sqlite3.Connection, after: int, limit: int = -1) -> list[FollowerEvent]:
    """What the events after this number say, in order. Of one job's changes only the newest is told, with the job as
    it is now; every note is told."""
    rows = db.execute(_EVENTS, (after, limit)).fetchall()
    newest: dict[int, int] = {row[2]: row[0] for row in rows}
    jobs = _jobs(db, list(newest))
    told: list[FollowerEvent] = []
    for seq, at, job_id, attempt, verb, message, data in rows:
        if verb == "remove":
            told.append(JobRemoved(seq=seq, at=moment(at), job_id=job_id))
            continue
        if verb == "epoch" and seq - 1 > after:
            told.append(_epoch_done(db, (seq - 1, at, job_id, attempt), orjson.loads(data)))
        if job_id in jobs and (newest[job_id] == seq or verb == "note"):
            told.append(JobChanged(seq=seq, at=moment(at), job=jobs[job_id], verb=verb, note=message))
    return told


def _jobs(db: sqlite3.Connection, job_ids: list[int]) -> dict[int, Job]:
    rows = db.execute(
        f"SELECT {JOB_COLUMNS} FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (encoded(job_ids),)
    )
    return {row[0]: job_of(row) for row in rows}


def _epoch_done(db: sqlite3.Connection, event: tuple[int, int, int, int], told: Mapping[str, Any]) -> EpochDone:
    seq, at, job_id, attempt = event
    values = db.execute(
        """SELECT name, value FROM metrics JOIN metric_names ON id = name_id
           WHERE job_id = ? AND epoch = ? AND value IS NOT NULL ORDER BY name_id""",
        (job_id, told["epoch"]),
    )
    return EpochDone(
        seq=seq,
        at=moment(at),
        job_id=job_id,
        attempt=attempt,
        epoch=told["epoch"],
        values=dict(values.fetchall()),
        seconds=told["seconds"] or 0.0,
    )
