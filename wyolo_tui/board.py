"""What the cockpit knows, as a value: fold(board, events) -> the next board and what changed. No I/O, no widgets."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.protocol.event import (
    EpochDone,
    FollowerEvent,
    JobChanged,
    JobRemoved,
    NodeChanged,
    Progressed,
    QueueChanged,
    Resync,
    Sampled,
)
from broker.protocol.fleet import HostSample, Node
from broker.protocol.job import ACTIVE, FINAL, WAITING, Job, JobState

TRAIL = 2_000  # events kept for the events screen
HISTORY = 120  # readings kept for each node
SPARK = 32


@dataclass(frozen=True, slots=True)
class Board:
    jobs: Mapping[int, Job] = field(default_factory=dict[int, Job])
    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    counts: Mapping[JobState, int] = field(default_factory=dict[JobState, int])  # of the whole ledger
    failed_today: int = 0
    drain_s: float | None = None
    seq: int = 0
    loaded: bool = False  # a snapshot has come
    cursor: str | None = None  # older jobs follow here

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
    epochs: tuple[EpochDone, ...] = ()
    ended: tuple[Job, ...] = ()
    totals: bool = False  # counts, failures or drain time differ
    resync: bool = False  # read the snapshot again


def snapshot(
    jobs: Iterable[Job], nodes: Iterable[Node], queue: QueueChanged | None, seq: int, cursor: str | None = None
) -> Board:
    board = Board(
        jobs={job.id: job for job in jobs},
        nodes={node.name: node for node in nodes},
        seq=seq,
        loaded=True,
        cursor=cursor,
    )
    return fold(board, [queue])[0] if queue is not None else board


def fold(board: Board, events: Sequence[FollowerEvent]) -> tuple[Board, Change]:
    """Events in order, all at once: the mappings are copied at most once, whatever the number of events."""
    jobs: dict[int, Job] | None = None
    nodes: dict[str, Node] | None = None
    changed: set[int] = set()
    touched: set[str] = set()
    epochs: list[EpochDone] = []
    ended: dict[int, Job] = {}
    counts, failed, drain = board.counts, board.failed_today, board.drain_s
    seq, resync = board.seq, False
    for event in events:
        seq = max(seq, event.seq)
        match event:
            case JobChanged(job=job):
                jobs = dict(board.jobs) if jobs is None else jobs
                before = jobs.get(job.id)
                jobs[job.id] = _with_live(job, before)
                changed.add(job.id)
                if job.state in FINAL and before is not None and before.state not in FINAL:
                    ended[job.id] = job
            case JobRemoved(job_id=job_id):
                jobs = dict(board.jobs) if jobs is None else jobs
                if jobs.pop(job_id, None) is not None:
                    changed.add(job_id)
            case EpochDone(job_id=job_id):
                epochs.append(event)
                known = (board.jobs if jobs is None else jobs).get(job_id)
                if known is not None and event.epoch >= known.epoch:
                    jobs = dict(board.jobs) if jobs is None else jobs
                    jobs[job_id] = _after_epoch(known, event)
                    changed.add(job_id)
            case Progressed(job_id=job_id):
                known = (board.jobs if jobs is None else jobs).get(job_id)
                if known is not None and known.state in ACTIVE:
                    jobs = dict(board.jobs) if jobs is None else jobs
                    jobs[job_id] = known.model_copy(
                        update={
                            "epoch": max(known.epoch, event.epoch - 1),
                            "epochs": event.epochs or known.epochs,
                            "epoch_progress": event.epoch_progress,
                            "eta_s": event.eta_s,
                        }
                    )
                    changed.add(job_id)
            case Sampled(sample=sample):
                node = (board.nodes if nodes is None else nodes).get(sample.node)
                if node is not None:
                    nodes = dict(board.nodes) if nodes is None else nodes
                    nodes[sample.node] = _with_sample(node, sample)
                    touched.add(sample.node)
            case NodeChanged(node=node):
                nodes = dict(board.nodes) if nodes is None else nodes
                nodes[node.name] = _with_history(node, nodes.get(node.name))
                touched.add(node.name)
            case QueueChanged():
                counts, failed, drain = event.counts, event.failed_today, event.drain_s
                for job_id, why in event.waits.items():
                    known = (board.jobs if jobs is None else jobs).get(job_id)
                    if known is not None and known.state in WAITING and known.waits_for != why:
                        jobs = dict(board.jobs) if jobs is None else jobs
                        jobs[job_id] = known.model_copy(update={"waits_for": why})
                        changed.add(job_id)
            case Resync():
                resync = True
    totals = (counts, failed, drain) != (board.counts, board.failed_today, board.drain_s)
    after = replace(
        board,
        jobs=board.jobs if jobs is None else jobs,
        nodes=board.nodes if nodes is None else nodes,
        counts=counts,
        failed_today=failed,
        drain_s=drain,
        seq=seq,
    )
    return after, Change(frozenset(changed), frozenset(touched), tuple(epochs), tuple(ended.values()), totals, resync)


def more(board: Board, jobs: Iterable[Job], cursor: str | None) -> tuple[Board, Change]:
    """Older jobs that were read as a person scrolled. What the stream said of them meanwhile is newer and stays."""
    fresh = {job.id: job for job in jobs if job.id not in board.jobs}
    return replace(board, jobs={**board.jobs, **fresh}, cursor=cursor), Change(frozenset(fresh))


def _with_live(job: Job, before: Job | None) -> Job:
    """A row of the ledger may come without its live part; what was known of it stays while the job runs."""
    if before is None or job.state not in ACTIVE or job.fence != before.fence:
        return job
    keep: dict[str, object] = {}
    if not job.spark and before.spark:
        keep["spark"] = before.spark
    if job.eta_s is None and before.eta_s is not None:
        keep["eta_s"] = before.eta_s
    if job.epoch == before.epoch and not job.epoch_progress:
        keep["epoch_progress"] = before.epoch_progress
    return job.model_copy(update=keep) if keep else job


def _after_epoch(job: Job, event: EpochDone) -> Job:
    update: dict[str, object] = {"epoch": event.epoch, "epoch_progress": 0.0}
    fitness = event.values.get("fitness", event.values.get(job.fitness_name))
    if fitness is not None and event.epoch > job.epoch:
        update["fitness"] = fitness
        update["spark"] = [*job.spark, fitness][-SPARK:]
        if job.best_fitness is None or fitness > job.best_fitness:
            update["best_fitness"], update["best_epoch"] = fitness, event.epoch
    return job.model_copy(update=update)


def _with_sample(node: Node, sample: HostSample) -> Node:
    return node.model_copy(update={"sample": sample, "history": [*node.history, sample][-HISTORY:]})


def _with_history(node: Node, before: Node | None) -> Node:
    if before is None or node.history:
        return node
    return node.model_copy(update={"history": before.history, "sample": node.sample or before.sample})


class Trail:
    """The newest durable events, newest first. A job's row that changed without a verb is no news."""

    def __init__(self) -> None:
        self.events: deque[JobChanged | JobRemoved | NodeChanged] = deque(maxlen=TRAIL)

    def add(self, events: Iterable[FollowerEvent]) -> bool:
        news = [e for e in events if isinstance(e, JobRemoved | NodeChanged) or (isinstance(e, JobChanged) and e.verb)]
        self.events.extendleft(news)
        return bool(news)
