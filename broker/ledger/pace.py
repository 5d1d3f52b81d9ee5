"""How long an epoch takes of a training that has not run yet: as in the newest that is like it."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from broker.protocol.api import Pace
from broker.protocol.job import JobSpec, TrainWork

# What an epoch's length depends on, beside the model and whether there is a GPU. The batch is what was asked for.
_ARGUMENTS = ("data", "imgsz", "batch", "fraction")
_LOOKED_AT = 100  # newest jobs of the model that have ended; and as many that run
_EPOCHS = 10  # newest ones, whose mean is taken


def of_like(db: sqlite3.Connection, spec: JobSpec) -> Pace | None:
    """None: nothing like it has run lately."""
    work = spec.work
    if not isinstance(work, TrainWork):
        return None
    wanted = _marks(spec.model_dump(mode="json"))
    for job_id, written in _trained(db, work.model):
        if _marks(orjson.loads(written)) == wanted:
            (seconds,) = db.execute(
                """SELECT avg(seconds) FROM (
                     SELECT seconds FROM epochs WHERE job_id = ? ORDER BY epoch DESC LIMIT ?)""",
                (job_id, _EPOCHS),
            ).fetchone()
            return Pace(job_id=job_id, epoch_s=seconds) if seconds else None
    return None


def _trained(db: sqlite3.Connection, model: str) -> Iterator[tuple[int, str]]:
    """Jobs of this model that have finished an epoch: those that run, then those that have ended, the newest first."""
    for shelf in (0, 2):
        yield from db.execute(
            """SELECT id, spec FROM
                 (SELECT id, epoch, place FROM jobs WHERE model = ? AND shelf = ? ORDER BY lane, place, tie LIMIT ?)
               JOIN specs ON job_id = id WHERE epoch > 0 ORDER BY place""",
            (model, shelf, _LOOKED_AT),
        )


def _marks(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    gpu, args = spec["resources"]["gpu"], spec["work"]["args"]
    return (gpu is not None and gpu["count"] == 0, *(args.get(name) for name in _ARGUMENTS))
