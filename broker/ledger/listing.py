"""`jobs()`: one page of the list, from a filter, an order and a cursor, in bounded time among any number of jobs.

First a look along the order's index, which fills the page when matches are common; else the candidates that the
filter's own indexes know, when they are few; else a longer look, which may leave the page short with a cursor.
"""

import base64
import binascii
import sqlite3
from dataclasses import dataclass
from typing import Any

import orjson

from broker.errors import BadInput
from broker.ledger import filter_sql
from broker.ledger.filter_sql import Part
from broker.ledger.reads import counts, newest_seq, with_sparks
from broker.ledger.rows import JOB_COLUMNS, JOB_WIDTH, encoded, job_of
from broker.protocol.api import ErrorCode, Finding, JobPage
from broker.protocol.filter import SORTS, Filter, FilterError, OneOf, parse

_FIRST_LOOK = 2_000  # rows along the index
_LONG_LOOK = 10_000
_FEW = 10_000  # candidates worth looking at one by one
_FOREVER = 9_000_000_000_000_000_000

Key = tuple[Any, ...]
_ALL = Part("1")


@dataclass(frozen=True, slots=True)
class _Order:
    """Columns that an index has in this order; the last one is the id, so that no two rows are equal."""

    name: str
    columns: tuple[str, ...]
    source: str  # jobs and how to walk it
    descending: bool = False
    fixed: Part = _ALL  # what all rows of the walk have in common

    @property
    def by(self) -> str:
        return ", ".join(f"{column} DESC" if self.descending else column for column in self.columns)

    def beyond(self, key: Key | None) -> Part:
        """Rows after this key."""
        if key is None:
            return _ALL
        return Part(f"({', '.join(self.columns)}) {'<' if self.descending else '>'} ({_marks(key)})", key)

    def until(self, key: Key) -> Part:
        """Rows up to this key, and it."""
        return Part(f"({', '.join(self.columns)}) {'>=' if self.descending else '<='} ({_marks(key)})", key)


_SHELVES = ("shelf", "lane", "place", "tie")
_SORTED = {
    "id": ("id",),
    "submitted": ("id",),
    "state": ("state", *_SHELVES),
    "name": ("name", "tie"),
    "model": ("model", "tie"),
    "user": ("user", "tie"),
    "node": ("node_key", *_SHELVES),
    "priority": ("priority", "tie"),
    "epoch": ("epoch", "tie"),
    "fitness": ("fitness_key", "tie"),
    "best": ("best_key", "tie"),
    "started": ("started_key", "tie"),
    "ended": ("ended_key", "tie"),
}


def page(db: sqlite3.Connection, filter: str, sort: str, limit: int, cursor: str | None) -> JobPage:
    """May hold fewer than `limit` jobs although `next_cursor` is set. Raises BadInput."""
    wanted = _parsed(filter)
    order = _order(sort, wanted)
    start = None if cursor is None else _key(order, cursor)
    rows, resume = _rows(db, wanted, order, start, limit)
    jobs = with_sparks(db, [job_of(row) for row in rows])
    complete = start is None and resume is None
    return JobPage(
        jobs=jobs,
        next_cursor=None if resume is None else _cursor(order, resume),
        total=len(jobs) if complete else _total(db, wanted),
        seq=newest_seq(db),
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """Rows of jobs in an order, that satisfy a condition."""

    db: sqlite3.Connection
    order: _Order
    where: Part

    def look(self, start: Key | None, limit: int, width: int) -> tuple[list[Any], Key | None]:
        """At most `limit` matches among the `width` rows after `start`; where those ended, None at the very end."""
        order, beyond = self.order, self.order.beyond(start)
        edge: Key | None = self.db.execute(
            f"""SELECT {", ".join(order.columns)} FROM {order.source} WHERE {order.fixed.sql} AND {beyond.sql}
                ORDER BY {order.by} LIMIT 1 OFFSET {width - 1}""",
            (*order.fixed.parameters, *beyond.parameters),
        ).fetchone()
        until = _ALL if edge is None else order.until(edge)
        return self._select(order.source, limit, order.fixed, beyond, until), edge

    def walk(self, start: Key | None, limit: int) -> list[Any]:
        return self._select(self.order.source, limit, self.order.fixed, self.order.beyond(start))

    def among(self, ids: list[int], start: Key | None, limit: int) -> list[Any]:
        listed = Part("id IN (SELECT value FROM json_each(?))", (encoded(ids),))
        return self._select("jobs NOT INDEXED", limit, listed, self.order.beyond(start))

    def _select(self, source: str, limit: int, *parts: Part) -> list[Any]:
        conditions = (*parts, self.where)
        return self.db.execute(
            f"""SELECT {JOB_COLUMNS}, {", ".join(self.order.columns)} FROM {source}
                WHERE {" AND ".join(part.sql for part in conditions)} ORDER BY {self.order.by} LIMIT {limit}""",
            tuple(parameter for part in conditions for parameter in part.parameters),
        ).fetchall()


def _rows(
    db: sqlite3.Connection, wanted: Filter, order: _Order, start: Key | None, limit: int
) -> tuple[list[Any], Key | None]:
    """At most `limit` rows, and the key to go on from when there may be more."""
    search = _Search(db, order, filter_sql.condition(wanted.terms))
    if not wanted.terms:
        return _cut(search.walk(start, limit + 1), limit)
    rows, edge = search.look(start, limit + 1, _FIRST_LOOK)
    if edge is None or len(rows) > limit:
        return _cut(rows, limit)
    few = _candidates(db, wanted)
    if few is not None:
        return _cut(search.among(few, start, limit + 1), limit)
    more, edge = search.look(edge, limit + 1 - len(rows), _LONG_LOOK)
    rows += more
    if edge is None or len(rows) > limit:
        return _cut(rows, limit)
    return rows, edge


def _cut(rows: list[Any], limit: int) -> tuple[list[Any], Key | None]:
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], tuple(rows[limit - 1][JOB_WIDTH:])


def _candidates(db: sqlite3.Connection, wanted: Filter) -> list[int] | None:
    """Ids among which all matches are, when an index knows few enough."""
    found: set[int] | None = None
    for part in filter_sql.candidates(wanted):
        rows = db.execute(f"{part.sql} LIMIT {_FEW + 1}", part.parameters).fetchall()
        if len(rows) <= _FEW:
            ids = {row[0] for row in rows}
            found = ids if found is None else found & ids
            if len(found) < _FEW // 10:
                break
    return None if found is None else list(found)


def _total(db: sqlite3.Connection, wanted: Filter) -> int | None:
    """Where it needs no counting."""
    if not wanted.terms:
        return sum(counts(db).values())
    match wanted.terms:
        case (OneOf("state", values, negated),):
            return sum(n for state, n in counts(db).items() if (state in values) != negated)
        case _:
            return None


def _order(sort: str, wanted: Filter) -> _Order:
    name = sort.removeprefix("-")
    descending = sort.startswith("-")
    if not name:
        return _default_order(wanted)
    if name not in _SORTED:
        raise _bad("sort", f"jobs cannot be sorted by {name!r}", f"one of {', '.join(SORTS)}")
    columns = _SORTED[name]
    source = "jobs NOT INDEXED" if columns == ("id",) else f"jobs INDEXED BY jobs_by_{name}"
    return _Order(sort, columns, source, descending)


def _default_order(wanted: Filter) -> _Order:
    """Along the index of what all matches have in common, where there is such a thing."""
    for key, column in (("node", "node_key"), ("reason", "reason"), ("state", "state")):
        value = filter_sql.only(wanted, key)
        if value is not None:
            return _Order("", _SHELVES, f"jobs INDEXED BY jobs_by_{key}", fixed=Part(f"{column} = ?", (value,)))
    return _Order("", _SHELVES, "jobs INDEXED BY jobs_in_order")


def _parsed(text: str) -> Filter:
    try:
        return parse(text)
    except FilterError as error:
        raise _bad(f"filter, column {error.position + 1}", error.message, error.hint) from error


def _cursor(order: _Order, key: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([order.name, *key])).decode().rstrip("=")


def _key(order: _Order, cursor: str) -> Key:
    try:
        name, *key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError):
        name, key = None, []
    if name != order.name or len(key) != len(order.columns) or not all(isinstance(k, str | int | float) for k in key):
        raise _bad("cursor", "it is not one that this list with this order gave out", "start again without a cursor")
    return tuple(min(max(k, -_FOREVER), _FOREVER) if isinstance(k, int) else k for k in key)


def _bad(where: str, message: str, hint: str) -> BadInput:
    return BadInput([Finding(where=where, message=message, hint=hint)], ErrorCode.BAD_REQUEST)


def _marks(key: Key) -> str:
    return ", ".join("?" * len(key))
