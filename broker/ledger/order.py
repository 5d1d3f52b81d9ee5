"""The orders that a list of jobs can have, each along an index, and the cursors that go on from a row."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from broker.errors import BadInput
from broker.ledger.filter_sql import ALL, Part
from broker.protocol.api import ErrorCode, Finding
from broker.protocol.filter import SORTS, Filter, OneOf

Key = tuple[Any, ...]

_LIFE = ("shelf", "lane", "place", "tie")  # active, then waiting in order, then newest ended
_COLUMNS = {
    "id": ("id",),
    "submitted": ("id",),
    "state": ("state", *_LIFE),
    "name": ("name", "tie"),
    "model": ("model", "recent"),
    "user": ("user", "recent"),
    "node": ("node_key", "recent"),
    "priority": ("priority", "tie"),
    "epoch": ("epoch", "tie"),
    "fitness": ("fitness_key", "tie"),
    "best": ("best_key", "tie"),
    "started": ("started_key", "tie"),
    "ended": ("ended_key", "tie"),
}
_INTEGER_MAX = 2**63 - 1
_BRANCHES = 16  # to merge into one list


@dataclass(frozen=True, slots=True)
class Branch:
    """Rows that an index holds in the wanted order: all jobs, or those with one value in a column."""

    source: str  # "jobs INDEXED BY jobs_by_state"
    fixed: Part = ALL  # "state = ?"


@dataclass(frozen=True, slots=True)
class Order:
    """Columns by which no two rows are equal, and the branches that hold together all rows a filter can match."""

    name: str
    columns: tuple[str, ...]
    branches: tuple[Branch, ...]
    descending: bool = False

    @property
    def by(self) -> str:
        return ", ".join(f"{column} DESC" if self.descending else column for column in self.columns)

    def beyond(self, key: Key | None) -> Part:
        """Rows after this key."""
        return ALL if key is None else self._compared("<" if self.descending else ">", key)

    def until(self, key: Key | None) -> Part:
        """Rows up to this key, and it."""
        return ALL if key is None else self._compared(">=" if self.descending else "<=", key)

    def cursor(self, key: Key) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.name, *key])).decode().rstrip("=")

    def key(self, cursor: str) -> Key:
        """Raises BadInput."""
        try:
            name, *key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (binascii.Error, ValueError, TypeError):
            name, key = None, []
        fits = name == self.name and len(key) == len(self.columns)
        if not fits or not all(isinstance(part, str | int | float) for part in key):
            raise refused("cursor", "it is not one that this list with this order gave out", "start without a cursor")
        return tuple(max(-_INTEGER_MAX, min(part, _INTEGER_MAX)) if isinstance(part, int) else part for part in key)

    def _compared(self, op: str, key: Key) -> Part:
        return Part(f"({', '.join(self.columns)}) {op} ({', '.join('?' * len(key))})", key)


def order_of(sort: str, wanted: Filter) -> Order:
    """Raises BadInput for a column that jobs cannot be sorted by."""
    if not sort:
        return Order("", _LIFE, _life_branches(wanted))
    name = sort.removeprefix("-")
    if name not in _COLUMNS:
        raise refused("sort", f"jobs cannot be sorted by {name!r}", f"one of {', '.join(SORTS)}")
    columns = _COLUMNS[name]
    source = "jobs NOT INDEXED" if columns == ("id",) else f"jobs INDEXED BY jobs_by_{name}"
    return Order(sort, columns, (Branch(source),), descending=sort != name)


def refused(where: str, message: str, hint: str) -> BadInput:
    return BadInput([Finding(where=where, message=message, hint=hint)], ErrorCode.BAD_REQUEST)


def _life_branches(wanted: Filter) -> tuple[Branch, ...]:
    """Along what all matches have in common, where an index has that: rare things are then found at once."""
    for key in ("reason", "state"):
        for term in wanted.terms:
            if isinstance(term, OneOf) and term.key == key and not term.negated and len(term.values) <= _BRANCHES:
                source = f"jobs INDEXED BY jobs_by_{key}"
                return tuple(Branch(source, Part(f"{key} = ?", (value,))) for value in sorted(term.values))
    return (Branch("jobs INDEXED BY jobs_in_order"),)
