"""Which jobs a table shows, and in which order. Kept up to date by what changed: 10,000 rows are never sorted again.

Pure: jobs in, ids out.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from broker.protocol.states import JobState, Priority

if TYPE_CHECKING:
    from broker.protocol.job import Job

Matches = Callable[["Job"], bool]
SortKey = Callable[["Job"], Any]

_GROUP = {
    JobState.UNKNOWN: 0,
    JobState.RUNNING: 0,
    JobState.STARTING: 0,
    JobState.QUEUED: 1,
    JobState.HELD: 2,
    JobState.FAILED: 3,
    JobState.STOPPED: 3,
    JobState.COMPLETED: 3,
}
_PRIORITY = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
_NEVER = datetime(1, 1, 1, tzinfo=UTC)
_LAST = float("inf")


def natural(job: "Job") -> tuple[float, ...]:
    """What works first, then what waits in its order, then what is held, then what ended, newest first."""
    group = _GROUP[job.state]
    if group == 0:
        return (0, -job.id)
    if group == 3:
        return (3, -(job.ended_at or job.submitted_at).timestamp())
    return (group, _PRIORITY[job.priority], job.rank, job.id)


def _epoch(job: "Job") -> float:
    return (job.epoch + job.epoch_progress) / job.epochs if job.epochs else -1.0


SORTS: dict[str, SortKey] = {
    "": natural,
    "id": lambda job: job.id,
    "state": lambda job: (_GROUP[job.state], job.state.value),
    "name": lambda job: job.name.lower(),
    "model": lambda job: job.model.lower(),
    "epoch": _epoch,
    "fitness": lambda job: job.best_fitness if job.best_fitness is not None else -_LAST,
    "eta": lambda job: job.eta_s if job.eta_s is not None else _LAST,
    "where": lambda job: (job.node or "~", job.gpus),
    "user": lambda job: job.user.lower(),
    "priority": lambda job: _PRIORITY[job.priority],
    "age": lambda job: job.started_at or _NEVER,
    "why": lambda job: (job.reason.value if job.reason else "", job.waits_for, job.message),
    "data": lambda job: job.data.lower(),
}


@dataclass
class Order:
    """`ids` in order, for the jobs that match. `column`: one of SORTS; '' is the natural order."""

    matches: Matches | None = None
    column: str = ""
    descending: bool = False

    def __post_init__(self) -> None:
        self.ids: list[int] = []
        self._entries: list[tuple[Any, int]] = []
        self._key_of: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def rebuild(self, jobs: "Mapping[int, Job]") -> None:
        sort, matches = SORTS[self.column], self.matches
        self._key_of = {id: sort(job) for id, job in jobs.items() if matches is None or matches(job)}
        self._entries = sorted((key, id) for id, key in self._key_of.items())
        self._number()

    def update(self, jobs: "Mapping[int, Job]", changed: Iterable[int]) -> bool:
        """Whether a row came, went or moved."""
        sort, matches = SORTS[self.column], self.matches
        moved = False
        for id in changed:
            job = jobs.get(id)
            shown = job is not None and (matches is None or matches(job))
            old = self._key_of.get(id)
            new = sort(job) if shown and job is not None else None
            if old == new:
                continue
            moved = True
            if old is not None:
                del self._entries[bisect_left(self._entries, (old, id))]
                del self._key_of[id]
            if new is not None:
                insort(self._entries, (new, id))
                self._key_of[id] = new
        if moved:
            self._number()
        return moved

    def position(self, id: int) -> int | None:
        """Row of a job, from 0."""
        key = self._key_of.get(id)
        if key is None:
            return None
        at = bisect_left(self._entries, (key, id))
        return len(self._entries) - 1 - at if self.descending else at

    def _number(self) -> None:
        self.ids = [id for _, id in (reversed(self._entries) if self.descending else self._entries)]
