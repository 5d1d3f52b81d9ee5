"""fold(board, events) -> the next board and what changed. No I/O, no widgets."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

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
from broker.protocol.job import Job
from broker.protocol.states import ACTIVE, FINAL, WAITING, JobState
from wyolo_tui.board import Board, Change

BEFORE = WAITING | {JobState.STARTING}  # what it waits for is told

HISTORY = 120  # readings kept for each node
SPARK = 32


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


def renewed(before: Board, after: Board) -> Board:
    """What was read again, with the readings of each node that are known already."""
    nodes = {name: _with_history(node, before.nodes.get(name)) for name, node in after.nodes.items()}
    return replace(after, nodes=nodes)


def fold(board: Board, events: Sequence[FollowerEvent]) -> tuple[Board, Change]:
    """Events in order, all at once: the mappings are copied at most once, whatever the number of events."""
    folding = _Folding(board)
    for event in events:
        folding.take(event)
    return folding.done()


class _Folding:
    """A board while events go into it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._jobs: dict[int, Job] | None = None  # copied when the first job changes
        self._nodes: dict[str, Node] | None = None
        self._changed: set[int] = set()
        self._touched: set[str] = set()
        self._epochs: list[EpochDone] = []
        self._ended: dict[int, Job] = {}
        self._sparked = dict(board.sparked)
        self._totals = (board.counts, board.failed_today, board.drain_s)
        self._seq = board.seq

    def take(self, event: FollowerEvent) -> None:
        self._seq = max(self._seq, event.seq)
        match event:
            case JobChanged(job=job):
                self._job_changed(job)
            case JobRemoved(job_id=job_id):
                if self._known(job_id) is not None:
                    del self._jobs_to_change()[job_id]
                    self._sparked.pop(job_id, None)
                    self._changed.add(job_id)
            case EpochDone():
                self._epochs.append(event)
                self._epoch_done(event)
            case Progressed():
                known = self._known(event.job_id)
                if known is not None and known.state in ACTIVE:
                    self._put(_in_progress(known, event), sparked=self._sparked_to(known))
            case Sampled(sample=sample):
                node = self._node(sample.node)
                if node is not None:
                    self._put_node(_with_sample(node, sample))
            case NodeChanged(node=node):
                self._put_node(_with_history(node, self._node(node.name)))
            case QueueChanged():
                self._queue_changed(event)
            case Resync():
                pass  # for who follows: they read the snapshot again

    def done(self) -> tuple[Board, Change]:
        board = self._board
        counts, failed, drain = self._totals
        after = replace(
            board,
            jobs=board.jobs if self._jobs is None else self._jobs,
            nodes=board.nodes if self._nodes is None else self._nodes,
            counts=counts,
            failed_today=failed,
            drain_s=drain,
            seq=self._seq,
            sparked=self._sparked,
        )
        change = Change(
            jobs=frozenset(self._changed),
            nodes=frozenset(self._touched),
            epochs=tuple(self._epochs),
            ended=tuple(self._ended.values()),
            totals=self._totals != (board.counts, board.failed_today, board.drain_s),
        )
        return after, change

    def _job_changed(self, job: Job) -> None:
        before = self._known(job.id)
        keeps = before is not None and not job.spark and job.epoch >= before.epoch
        live = _with_live(job, before, self._sparked_to(before) if before else 0)
        self._put(live, sparked=self._sparked_to(before) if before and keeps else job.epoch)
        self._occupy(job)
        if job.state in FINAL and before is not None and before.state not in FINAL:
            self._ended[job.id] = job

    def _epoch_done(self, event: EpochDone) -> None:
        """Progress in the epoch after it, or the job's row, may have been heard before."""
        job = self._known(event.job_id)
        if job is not None and event.epoch > self._sparked_to(job):
            self._put(_after_epoch(job, event), sparked=event.epoch)

    def _sparked_to(self, job: Job) -> int:
        """The newest epoch that is in its sparkline, or had no value for it."""
        return self._sparked.get(job.id, job.epoch)

    def _occupy(self, job: Job) -> None:
        """A node is told again only when its state changes; which jobs are on it, the jobs say."""
        for node in list((self._board.nodes if self._nodes is None else self._nodes).values()):
            here = job.state in ACTIVE and job.node == node.name
            gpus = {uuid: job.id in jobs for uuid, jobs in node.gpu_jobs.items()}
            wanted = {uuid: here and uuid in job.gpus for uuid in gpus}
            if here is (job.id in node.jobs) and gpus == wanted:
                continue
            self._put_node(_with_job(node, job) if here else _without_job(node, job.id))

    def _queue_changed(self, event: QueueChanged) -> None:
        self._totals = (event.counts, event.failed_today, event.drain_s)
        for job_id, why in event.waits.items():
            known = self._known(job_id)
            if known is not None and known.state in BEFORE and known.waits_for != why:
                self._put(known.model_copy(update={"waits_for": why}))

    def _known(self, job_id: int) -> Job | None:
        return (self._board.jobs if self._jobs is None else self._jobs).get(job_id)

    def _jobs_to_change(self) -> dict[int, Job]:
        if self._jobs is None:
            self._jobs = dict(self._board.jobs)
        return self._jobs

    def _put(self, job: Job, sparked: int | None = None) -> None:
        """`sparked`: the newest epoch in its sparkline; None: as it was."""
        self._jobs_to_change()[job.id] = job
        self._changed.add(job.id)
        if sparked == job.epoch:
            self._sparked.pop(job.id, None)
        elif sparked is not None:
            self._sparked[job.id] = sparked

    def _node(self, name: str) -> Node | None:
        return (self._board.nodes if self._nodes is None else self._nodes).get(name)

    def _put_node(self, node: Node) -> None:
        if self._nodes is None:
            self._nodes = dict(self._board.nodes)
        self._nodes[node.name] = node
        self._touched.add(node.name)


def _with_live(job: Job, before: Job | None, sparked: int) -> Job:
    """A row of the ledger may come without its live part; what was known of it stays true. `sparked`: the newest epoch
    in the sparkline. One that went back to an earlier checkpoint has replaced the epochs from there on."""
    if before is None:
        return job
    keep: dict[str, object] = {}
    if not job.spark and job.epoch >= before.epoch:
        keep["spark"] = before.spark
    elif not job.spark:
        newest = [] if job.fitness is None else [job.fitness]
        keep["spark"] = [*before.spark[: -(sparked - job.epoch + 1)], *newest]
    if not job.waits_for and job.state in BEFORE and job.state is before.state:
        keep["waits_for"] = before.waits_for  # the queue tells when it is another reason
    if job.state in ACTIVE and job.fence == before.fence:
        if job.eta_s is None and before.eta_s is not None:
            keep["eta_s"] = before.eta_s
        if job.epoch == before.epoch and not job.epoch_progress:
            keep["epoch_progress"] = before.epoch_progress
    return job.model_copy(update=keep) if keep else job


def _in_progress(job: Job, event: Progressed) -> Job:
    update = {
        "epoch": max(job.epoch, event.epoch - 1),
        "epochs": event.epochs or job.epochs,
        "epoch_progress": event.epoch_progress,
        "eta_s": event.eta_s,
    }
    return job.model_copy(update=update)


def _after_epoch(job: Job, event: EpochDone) -> Job:
    update: dict[str, object] = {"epoch": event.epoch, "epoch_progress": 0.0} if event.epoch > job.epoch else {}
    fitness = event.values.get("fitness", event.values.get(job.fitness_name))
    if fitness is not None:
        if event.epoch >= job.epoch:
            update["fitness"] = fitness
        update["spark"] = [*job.spark, fitness][-SPARK:]
        if job.best_fitness is None or fitness > job.best_fitness:
            update["best_fitness"], update["best_epoch"] = fitness, event.epoch
    return job.model_copy(update=update)


def _with_sample(node: Node, sample: HostSample) -> Node:
    return node.model_copy(update={"sample": sample, "history": [*node.history, sample][-HISTORY:]})


def _without_job(node: Node, job_id: int) -> Node:
    jobs = [id for id in node.jobs if id != job_id]
    gpus = {uuid: [id for id in ids if id != job_id] for uuid, ids in node.gpu_jobs.items()}
    return node.model_copy(update={"jobs": jobs, "slots_used": len(jobs), "gpu_jobs": gpus})


def _with_job(node: Node, job: Job) -> Node:
    node = _without_job(node, job.id)
    jobs = [*node.jobs, job.id]
    gpus = node.gpu_jobs | {uuid: [*node.gpu_jobs.get(uuid, []), job.id] for uuid in job.gpus}
    return node.model_copy(update={"jobs": jobs, "slots_used": len(jobs), "gpu_jobs": gpus})


def _with_history(node: Node, before: Node | None) -> Node:
    if before is None or node.history:
        return node
    return node.model_copy(update={"history": before.history, "sample": node.sample or before.sample})
