"""What the ledger knows of nodes: what was seen of each last, what people said of it, and what happened there."""

import sqlite3

from broker.ledger.records import NodeNote, NodeRecord
from broker.ledger.rows import EVENT_COLUMNS, audit_of, encoded, maybe_moment, micros, moment
from broker.ledger.writer import Transaction
from broker.protocol.event import AuditEntry
from broker.protocol.fleet import NodeState, Withheld

_OF_NODE = f"SELECT {EVENT_COLUMNS} FROM events INDEXED BY events_of_node WHERE node = ?"


def note(tx: Transaction, name: str, what: NodeNote) -> None:
    """What was seen or said, and its event."""
    tx.withheld.clear()
    tx.db.execute("INSERT INTO nodes (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    if what.seen is not None:
        tx.db.execute("UPDATE nodes SET seen = ?, message = ? WHERE name = ?", (what.seen, what.message, name))
    if what.withheld != "keep":
        said = what.withheld
        until = None if said is None or said.until is None else micros(said.until)
        row = (None, None, None, None) if said is None else (said.state, micros(said.since), until, said.by)
        tx.db.execute("UPDATE nodes SET withheld = ?, since = ?, until = ?, by = ? WHERE name = ?", (*row, name))
    tx.seq += 1
    tx.db.execute(
        "INSERT INTO events (seq, at, verb, message, by, data, node) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (tx.seq, tx.now, what.verb, what.message, what.by, encoded(dict(what.data)) if what.data else None, name),
    )


def withheld(tx: Transaction, name: str) -> str:
    """What people said of a node, while that holds; '' where jobs may start there."""
    if name not in tx.withheld:
        row: tuple[str] | None = tx.db.execute(
            "SELECT withheld FROM nodes WHERE name = ? AND withheld IS NOT NULL AND (until IS NULL OR until > ?)",
            (name, tx.now),
        ).fetchone()
        tx.withheld[name] = "" if row is None else row[0]
    return tx.withheld[name]


def records(db: sqlite3.Connection) -> dict[str, NodeRecord]:
    rows = db.execute("SELECT name, seen, message, withheld, since, until, by FROM nodes ORDER BY name")
    return {
        name: NodeRecord(
            seen=NodeState(seen),
            message=message,
            withheld=None if state is None else _withheld(state, since, until, by),
        )
        for name, seen, message, state, since, until, by in rows
    }


def trail(db: sqlite3.Connection, name: str, after: int | None, limit: int) -> list[AuditEntry]:
    """What happened there, in order; without `after` the newest of it."""
    if after is None:
        newest = db.execute(f"{_OF_NODE} ORDER BY seq DESC LIMIT ?", (name, limit)).fetchall()
        return [audit_of(row) for row in reversed(newest)]
    return [audit_of(row) for row in db.execute(f"{_OF_NODE} AND seq > ? ORDER BY seq LIMIT ?", (name, after, limit))]


def _withheld(state: str, since: int, until: int | None, by: str) -> Withheld:
    return Withheld.model_validate({"state": state, "since": moment(since), "until": maybe_moment(until), "by": by})
