"""`jobs()`: one page of the list, from a filter, an order and a cursor, in bounded time among any number of jobs.

First a look along the order's index, which fills the page when matches are common; else the candidates that the
filter's own indexes know, when they are few; else looking on for a while, which may leave the page short with a cursor.
"""

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from broker.ledger import filter_sql
from broker.ledger.filter_sql import Part
from broker.ledger.order import Branch, Key, Order, order_of, refused
from broker.ledger.reads import counts, newest_seq, with_sparks
from broker.ledger.rows import JOB_COLUMNS, JOB_WIDTH, encoded, job_of
from broker.protocol.api import JobPage
from broker.protocol.filter import Filter, FilterError, OneOf, Text, parse

_LOOK = 2_000  # rows along the index at a time
_SOON = 5  # looks that may fill the page before candidates are worth asking for
_PATIENCE_S = 0.006  # then a page that is not full goes out short
_FEW = 3_000  # candidates worth looking at one by one
_SAMPLE = 200  # jobs that tell whether words are common
_COMMON = 3  # of them
_GOLDEN = 0.6180339887  # its multiples are spread evenly and follow no period that jobs may have


def page(db: sqlite3.Connection, filter: str, sort: str, limit: int, cursor: str | None) -> JobPage:
    """May hold fewer than `limit` jobs although `next_cursor` is set. Raises BadInput."""
    wanted = _parsed(filter)
    order = order_of(sort, wanted)
    start = None if cursor is None else order.key(cursor)
    rows, resume = _rows(db, wanted, order, start, limit)
    jobs = with_sparks(db, [job_of(row) for row in rows])
    complete = start is None and resume is None
    return JobPage(
        jobs=jobs,
        next_cursor=None if resume is None else order.cursor(resume),
        total=len(jobs) if complete else _total(db, wanted),
        seq=newest_seq(db),
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """Rows of jobs in an order, that satisfy a condition."""

    db: sqlite3.Connection
    order: Order
    where: Part

    def look(self, start: Key | None, limit: int, width: int) -> tuple[list[Any], Key | None]:
        """At most `limit` matches among about `width` rows after `start`; where those ended, None at the very end."""
        rows: list[Any] = []
        edges: list[Key] = []
        for branch in self.order.branches:
            found, edge = self._look_along(branch, start, limit, max(1, width // len(self.order.branches)))
            rows += found
            edges += [] if edge is None else [edge]
        if len(self.order.branches) > 1:  # only the default order, which ascends
            rows.sort(key=_key)
        edge = min(edges, default=None)
        if edge is not None and len(edges) > 1:
            rows = [row for row in rows if _key(row) <= edge]
        return rows[:limit], edge

    def among(self, ids: list[int], start: Key | None, limit: int) -> list[Any]:
        listed = Part("id IN (SELECT value FROM json_each(?))", (encoded(ids),))
        return self._select("jobs NOT INDEXED", limit, listed, self.order.beyond(start))

    def walk(self, start: Key | None, limit: int) -> list[Any]:
        """Without a condition every row is a match."""
        return self._select(self.order.branches[0].source, limit, self.order.beyond(start))

    def _look_along(self, branch: Branch, start: Key | None, limit: int, width: int) -> tuple[list[Any], Key | None]:
        beyond = self.order.beyond(start)
        edge: Key | None = self.db.execute(
            f"""SELECT {", ".join(self.order.columns)} FROM {branch.source} WHERE {branch.fixed.sql} AND {beyond.sql}
                ORDER BY {self.order.by} LIMIT 1 OFFSET {width - 1}""",
            (*branch.fixed.parameters, *beyond.parameters),
        ).fetchone()
        return self._select(branch.source, limit, branch.fixed, beyond, self.order.until(edge)), edge

    def _select(self, source: str, limit: int, *parts: Part) -> list[Any]:
        conditions = (*parts, self.where)
        return self.db.execute(
            f"""SELECT {JOB_COLUMNS}, {", ".join(self.order.columns)} FROM {source}
                WHERE {" AND ".join(part.sql for part in conditions)} ORDER BY {self.order.by} LIMIT {limit}""",
            tuple(parameter for part in conditions for parameter in part.parameters),
        ).fetchall()


def _rows(
    db: sqlite3.Connection, wanted: Filter, order: Order, start: Key | None, limit: int
) -> tuple[list[Any], Key | None]:
    """At most `limit` rows, and the key to go on from when there may be more."""
    search = _Search(db, order, filter_sql.condition(wanted.terms))
    if not wanted.terms:
        return _cut(search.walk(start, limit + 1), limit)
    enough = time.monotonic() + _PATIENCE_S
    rows, edge = search.look(start, limit + 1, _LOOK)
    found = len(rows)
    asked = False
    while edge is not None and len(rows) <= limit:
        if not asked and found * _SOON < limit:
            asked = True
            few = _candidates(db, wanted)
            if few is not None:
                return _cut(search.among(few, start, limit + 1), limit)
        if time.monotonic() > enough:
            return rows, edge
        more, edge = search.look(edge, limit + 1 - len(rows), _LOOK)
        found = len(more)
        rows += more
    return _cut(rows, limit)


def _candidates(db: sqlite3.Connection, wanted: Filter) -> list[int] | None:
    """Ids among which all matches are, when an index knows few enough."""
    found: set[int] | None = None
    for term, part in filter_sql.candidates(wanted):
        if isinstance(term, Text) and (found is not None or _is_common(db, term)):
            continue
        rows = db.execute(f"{part.sql} LIMIT {_FEW + 1}", part.parameters).fetchall()
        if len(rows) <= _FEW:
            ids = {row[0] for row in rows}
            found = ids if found is None else found & ids
    return None if found is None else list(found)


def _is_common(db: sqlite3.Connection, term: Text) -> bool:
    """By a sample: the index of words takes time for each job that has a word, before it gives the first."""
    newest: int = db.execute("SELECT coalesce(max(id), 0) FROM jobs").fetchone()[0]
    if newest < _FEW:
        return False
    where = filter_sql.condition((term,))
    sample = encoded([int(newest * (part * _GOLDEN % 1)) + 1 for part in range(_SAMPLE)])
    seen: tuple[int] = db.execute(
        f"SELECT count(*) FROM jobs WHERE id IN (SELECT value FROM json_each(?)) AND {where.sql}",
        (sample, *where.parameters),
    ).fetchone()
    return seen[0] >= _COMMON


def _cut(rows: list[Any], limit: int) -> tuple[list[Any], Key | None]:
    return (rows, None) if len(rows) <= limit else (rows[:limit], _key(rows[limit - 1]))


def _key(row: Any) -> Key:
    return tuple(row[JOB_WIDTH:])


def _total(db: sqlite3.Connection, wanted: Filter) -> int | None:
    """Where it needs no counting."""
    match wanted.terms:
        case ():
            return sum(counts(db).values())
        case (OneOf("state", values, negated),):
            return sum(n for state, n in counts(db).items() if (state in values) != negated)
        case _:
            return None


def _parsed(text: str) -> Filter:
    try:
        return parse(text)
    except FilterError as error:
        raise refused(f"filter, column {error.position + 1}", error.message, error.hint) from error
