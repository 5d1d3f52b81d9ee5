"""What the cockpit knows, as values; `folding` makes the next one of what is heard. No I/O, no widgets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from broker.protocol.states import ACTIVE, JobState

if TYPE_CHECKING:
    from broker.protocol.event import EpochDone
    from broker.protocol.fleet import Node
    from broker.protocol.job import Job


@dataclass(frozen=True, slots=True)
class Board:
    jobs: "Mapping[int, Job]" = field(default_factory=dict[int, Any])
    nodes: "Mapping[str, Node]" = field(default_factory=dict[str, Any])
    counts: Mapping[JobState, int] = field(default_factory=dict[JobState, int])  # of the whole ledger
    failed_today: int = 0
    drain_s: float | None = None
    seq: int = 0
    loaded: bool = False  # a snapshot has come
    cursor: str | None = None  # older jobs follow here
    sparked: Mapping[int, int] = field(default_factory=dict[int, int])  # job -> newest epoch of `spark`, if not `epoch`

    @property
    def gpus(self) -> tuple[int, int]:
        """(busy, all) over every node."""
        busy = total = 0
        for node in self.nodes.values():
            known = node.sample.gpus if node.sample else []
            total += max(len(known), len(node.gpu_jobs))
            busy += sum(1 for jobs in node.gpu_jobs.values() if jobs)
        return busy, total

    @property
    def slots(self) -> tuple[int, int]:
        """(used, all) over every node."""
        return self.count(*ACTIVE), sum(node.slots for node in self.nodes.values())

    def count(self, *states: JobState) -> int:
        return sum(self.counts.get(state, 0) for state in states)


@dataclass(frozen=True, slots=True)
class Change:
    """What a fold did."""

    jobs: frozenset[int] = frozenset()  # rows that differ, came or went
    nodes: frozenset[str] = frozenset()
    epochs: "tuple[EpochDone, ...]" = ()
    ended: "tuple[Job, ...]" = ()
    totals: bool = False  # counts, failures or drain time differ


def more(board: Board, jobs: "Iterable[Job]", cursor: str | None) -> tuple[Board, Change]:
    """Older jobs that were read as a person scrolled. What the stream said of them meanwhile is newer and stays."""
    fresh = {job.id: job for job in jobs if job.id not in board.jobs}
    return replace(board, jobs={**board.jobs, **fresh}, cursor=cursor), Change(frozenset(fresh))
