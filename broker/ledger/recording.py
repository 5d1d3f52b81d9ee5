"""`record`: what a supervisor read from an attempt's output. Read twice, it changes nothing."""

import math
from typing import Any

from broker.ledger.changes import missing, stale
from broker.ledger.following import followed
from broker.ledger.records import EpochRow, Recorded
from broker.ledger.rows import encoded, micros
from broker.ledger.writer import Transaction
from broker.protocol.filter import metric_key
from broker.protocol.job import Checkpoint

_INSERT_EVENT = "INSERT INTO events (seq, at, job_id, attempt, verb, message, data) VALUES (?, ?, ?, ?, ?, ?, ?)"


def record(tx: Transaction, what: Recorded) -> None:
    """Raises NotFound, StaleFence."""
    before = tx.standing(what.job_id)
    if before is None:
        raise missing(what.job_id)
    if before.fence != what.fence:
        raise stale(before, what.fence)
    first_seq = tx.seq
    fresh = _advance_position(tx, what)
    if fresh and what.started is not None:
        _event(tx, what, "started", data=dict(what.started))
    _describe(tx, what)
    for row in what.epochs:
        _add_epoch(tx, what, row)
    for checkpoint in what.checkpoints:
        _add_checkpoint(tx, what, checkpoint)
    for text in what.notes:
        _add_note(tx, what, text, fresh)
    if tx.seq > first_seq:
        tx.tell(lambda: followed(tx.db, first_seq))


def keep(tx: Transaction, what: Recorded) -> list[int]:
    """Checkpoints of an attempt that had been given up, with the epochs that led there. Raises NotFound."""
    if tx.standing(what.job_id) is None:
        raise missing(what.job_id)
    later = "SELECT 1 FROM epochs WHERE job_id = ? AND attempt > ? LIMIT 1"
    its = "SELECT 1 FROM attempts WHERE job_id = ? AND fence = ?"
    place = (what.job_id, what.fence)
    if tx.db.execute(later, place).fetchone() or not tx.db.execute(its, place).fetchone():
        return []
    first_seq = tx.seq
    newest = max(checkpoint.epoch for checkpoint in what.checkpoints)
    for row in what.epochs:
        if row.epoch <= newest:
            _add_epoch(tx, what, row)
    for checkpoint in what.checkpoints:
        _add_checkpoint(tx, what, checkpoint)
    if tx.seq > first_seq:
        tx.tell(lambda: followed(tx.db, first_seq))
    return [checkpoint.epoch for checkpoint in what.checkpoints]


def _advance_position(tx: Transaction, what: Recorded) -> bool:
    """Whether this was read for the first time."""
    moved = tx.db.execute(
        """UPDATE attempts SET log_offset = max(log_offset, ?1), last_event = max(last_event, ?2)
           WHERE job_id = ?3 AND fence = ?4 AND (log_offset < ?1 OR last_event < ?2)""",
        (what.log_offset, what.last_event, what.job_id, what.fence),
    )
    return moved.rowcount > 0


def _describe(tx: Transaction, what: Recorded) -> None:
    planned = what.epochs[-1].epochs if what.epochs else what.epochs_planned
    if planned is not None or what.fitness_name is not None:
        tx.db.execute(
            """UPDATE jobs SET epochs = coalesce(?1, epochs), fitness_name = coalesce(?2, fitness_name)
               WHERE id = ?3 AND (epochs <> coalesce(?1, epochs) OR fitness_name <> coalesce(?2, fitness_name))""",
            (planned, what.fitness_name, what.job_id),
        )


def _add_epoch(tx: Transaction, what: Recorded, row: EpochRow) -> None:
    """A newer attempt's epoch replaces an older one's, and what that one did after it is not of this run any more:
    to go on from there would leave out epochs of this one."""
    known = tx.db.execute("SELECT attempt FROM epochs WHERE job_id = ? AND epoch = ?", (what.job_id, row.epoch))
    if (known.fetchone() or (0,))[0] >= what.fence:
        return
    tx.db.execute(
        "DELETE FROM epochs WHERE job_id = ? AND epoch >= ? AND attempt < ?", (what.job_id, row.epoch, what.fence)
    )
    tx.db.execute(
        "DELETE FROM checkpoints WHERE job_id = ? AND epoch > ? AND attempt < ?", (what.job_id, row.epoch, what.fence)
    )
    tx.db.execute(
        "INSERT INTO epochs (job_id, epoch, attempt, seconds, fitness, at) VALUES (?, ?, ?, ?, ?, ?)",
        (what.job_id, row.epoch, what.fence, _finite(row.seconds) or 0.0, _finite(row.fitness), micros(row.at)),
    )
    values = [(_name_id(tx, name), _finite(value)) for name, value in row.values.items()]
    tx.db.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", [(what.job_id, row.epoch, *pair) for pair in values])
    if _describe_progress(tx, what.job_id) == row.epoch:
        tx.db.executemany(
            "INSERT INTO newest VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [(what.job_id, *pair) for pair in values if pair[1] is not None],
        )
    tx.seq += 1  # the epoch's own number; the row's is the job's
    _event(tx, what, "epoch", data={"epoch": row.epoch, "seconds": row.seconds, "fitness": _finite(row.fitness)})


def _describe_progress(tx: Transaction, job_id: int) -> int:
    """Newest and best epoch on the job's row. The newest is returned."""
    epochs = "SELECT fitness, epoch FROM epochs WHERE job_id = ?"
    fitness, epoch = tx.db.execute(f"{epochs} ORDER BY epoch DESC LIMIT 1", (job_id,)).fetchone()
    best = tx.db.execute(f"{epochs} AND fitness IS NOT NULL ORDER BY fitness DESC, epoch LIMIT 1", (job_id,))
    tx.db.execute(
        "UPDATE jobs SET epoch = ?, fitness = ?, best_fitness = ?, best_epoch = ? WHERE id = ?",
        (epoch, fitness, *(best.fetchone() or (None, None)), job_id),
    )
    return epoch


def _add_checkpoint(tx: Transaction, what: Recorded, checkpoint: Checkpoint) -> None:
    added = tx.db.execute(
        """INSERT INTO checkpoints (job_id, attempt, epoch, path, sha256, at) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT DO NOTHING""",
        (what.job_id, checkpoint.attempt, checkpoint.epoch, checkpoint.path, checkpoint.sha256, micros(checkpoint.at)),
    )
    if added.rowcount > 0:
        _event(tx, what, "checkpoint", data={"epoch": checkpoint.epoch, "path": checkpoint.path})


def _add_note(tx: Transaction, what: Recorded, text: str, fresh: bool) -> None:
    said = "SELECT 1 FROM events WHERE job_id = ? AND attempt = ? AND verb = 'note' AND message = ?"
    if fresh or tx.db.execute(said, (what.job_id, what.fence, text)).fetchone() is None:
        _event(tx, what, "note", message=text)


def _event(tx: Transaction, what: Recorded, verb: str, message: str = "", data: dict[str, Any] | None = None) -> None:
    tx.seq += 1
    body = None if data is None else encoded(data)
    tx.db.execute(_INSERT_EVENT, (tx.seq, tx.now, what.job_id, what.fence, verb, message, body))


def _name_id(tx: Transaction, name: str) -> int:
    known = tx.names.get(name)
    if known is None:
        add = "INSERT INTO metric_names (name, key) VALUES (?, ?) ON CONFLICT DO NOTHING"
        tx.db.execute(add, (name, metric_key(name)))
        row: tuple[int] = tx.db.execute("SELECT id FROM metric_names WHERE name = ?", (name,)).fetchone()
        known = tx.names[name] = row[0]
    return known


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
