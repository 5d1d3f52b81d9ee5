"""A believable fleet behind the Link seam: thirteen jobs in all states, four GPUs and a node without any."""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from broker.protocol.api import (
    ErrorCode,
    Finding,
    JobPage,
    LogChunk,
    LogLine,
    MetricTable,
    Pace,
    Problem,
    SubmitRequest,
    Validation,
)
from broker.protocol.event import AuditEntry, FollowerEvent, JobChanged, JobRemoved, NodeChanged, QueueChanged
from broker.protocol.filter import parse
from broker.protocol.fleet import GpuProcess, GpuSample, HostSample, Node, NodeState, Withheld
from broker.protocol.job import CommandWork, GpuRequest, Job, JobSpec, Resources, TrainWork
from broker.protocol.states import FINAL, EndReason, Intent, JobState, Priority
from wyolo_tui.feed import LinkDown, LinkUp
from wyolo_tui.unanswered import BrokerOut, ProblemError

NOW = datetime(2026, 3, 14, 14, 2, 11, tzinfo=UTC)
GPUS = [f"GPU-{n}a7f3c{n}" for n in range(4)]


def minutes(count: float) -> datetime:
    """So long before NOW."""
    return NOW - timedelta(minutes=count)


def curve(epochs: int, best: float, seed: int) -> list[float]:
    noise = random.Random(seed)
    return [round(best * (1 - math.exp(-4 * n / 100)) * noise.uniform(0.96, 1.03), 4) for n in range(1, epochs + 1)]


def job(id: int, name: str, state: JobState, **more: Any) -> Job:
    more.setdefault("kind", "train")
    more.setdefault("user", "ana")
    more.setdefault("submitted_at", minutes(600 - id * 9))
    if more["kind"] == "train":
        more.setdefault("model", "yolov8n.pt")
        more.setdefault("task", "detect")
        more.setdefault("epochs", 100)
        more.setdefault("data", "/data/fruit/data.yaml")
        more.setdefault("fitness_name", "metrics/mAP50-95(B)")
        epoch = more.get("epoch", 0)
        if epoch and "spark" not in more:
            values = curve(epoch, more.pop("best", 0.7), id)
            best = max(values)
            more |= {
                "spark": values[-32:],
                "fitness": values[-1],
                "best_fitness": best,
                "best_epoch": values.index(best) + 1,
            }
    return Job(id=id, name=name, state=state, **more)


def fleet() -> list[Job]:
    running, queued, held = JobState.RUNNING, JobState.QUEUED, JobState.HELD
    return [
        job(
            41,
            "fruit-yolov8m-640",
            running,
            model="yolov8m.pt",
            epoch=37,
            epoch_progress=0.42,
            eta_s=5230,
            best=0.81,
            node="local",
            gpus=[GPUS[0]],
            fence=1,
            started_at=minutes(52),
            priority=Priority.HIGH,
        ),
        job(
            42,
            "harbour-rtdetr-l",
            running,
            model="rtdetr-l.pt",
            epoch=112,
            epochs=300,
            epoch_progress=0.8,
            eta_s=41000,
            best=0.64,
            node="local",
            gpus=[GPUS[1]],
            fence=2,
            user="jonas",
            started_at=minutes(610),
            data="/data/harbour/data.yaml",
        ),
        job(
            44,
            "cells-seg-x",
            running,
            model="yolov8x-seg.pt",
            task="segment",
            epoch=8,
            epoch_progress=0.1,
            eta_s=19400,
            best=0.33,
            node="local",
            gpus=[GPUS[2]],
            fence=1,
            user="mei",
            started_at=minutes(31),
            data="/data/cells",
        ),
        job(
            45,
            "tiles-cls",
            JobState.STARTING,
            model="yolov8s-cls.pt",
            task="classify",
            node="local",
            gpus=[GPUS[3]],
            fence=1,
            user="mei",
            data="/data/tiles",
            epochs=40,
            started_at=minutes(0.1),
        ),
        job(
            36,
            "drone-night-v2",
            JobState.UNKNOWN,
            model="yolov8l.pt",
            epoch=61,
            best=0.58,
            node="attic",
            fence=1,
            user="jonas",
            message="attic has not answered since 13:51; nothing is started twice",
            started_at=minutes(300),
        ),
        job(
            46,
            "fruit-yolov8l-640",
            queued,
            model="yolov8l.pt",
            priority=Priority.HIGH,
            queued_at=minutes(9),
            waits_for="waits for a GPU: all 4 are busy; next about 15:29",
            rank=1,
        ),
        job(47, "fruit-ablation-lr0.001", queued, queued_at=minutes(7), waits_for="behind 46", rank=2),
        job(48, "fruit-ablation-lr0.01", queued, queued_at=minutes(7), waits_for="behind 47", rank=3),
        job(
            49,
            "prepare-harbour-tiles",
            queued,
            kind="command",
            model="python",
            user="jonas",
            priority=Priority.LOW,
            queued_at=minutes(5),
            waits_for="behind 48",
            rank=4,
            epochs=0,
        ),
        job(50, "pose-hands-s", held, model="yolov8s-pose.pt", task="pose", user="mei", data="/data/hands"),
        job(
            43,
            "harbour-yolov8s",
            JobState.FAILED,
            reason=EndReason.OOM_CUDA,
            model="yolov8s.pt",
            epoch=3,
            best=0.2,
            message="CUDA out of memory at batch 64; the checkpoint of epoch 3 was kept. Lower train.batch to 32",
            user="jonas",
            fence=1,
            started_at=minutes(45),
            ended_at=minutes(38),
            data="/data/harbour/data.yaml",
        ),
        job(
            40,
            "fruit-yolov8n-640",
            JobState.COMPLETED,
            reason=EndReason.COMPLETED,
            epoch=100,
            best=0.74,
            fence=1,
            started_at=minutes(240),
            ended_at=minutes(96),
            node="local",
        ),
        job(
            39,
            "signs-obb",
            JobState.STOPPED,
            reason=EndReason.USER_STOP,
            model="yolov8m-obb.pt",
            task="obb",
            epoch=22,
            best=0.5,
            message="stopped by ana; resumes at epoch 23",
            fence=1,
            started_at=minutes(400),
            ended_at=minutes(330),
            data="/data/signs",
        ),
    ]


def sample(node: str, minute: float, gpus: bool) -> HostSample:
    wave = 0.5 + 0.5 * math.sin(minute / 3)
    readings = (
        [
            GpuSample(
                index=n,
                uuid=GPUS[n],
                name="NVIDIA RTX A6000",
                memory_total_mib=49140,
                utilisation=u * (0.9 + wave / 10),
                memory_used_mib=m,
                temperature_c=t,
                power_w=w,
                power_limit_w=300,
                processes=[GpuProcess(pid=4100 + n, memory_mib=m - 400, name="python", job_id=j)]
                + ([GpuProcess(pid=977, memory_mib=6144, name="jupyter-lab")] if n == 2 else []),
            )
            for n, (u, m, t, w, j) in enumerate(
                (
                    (97.0, 31200, 71.0, 278.0, 41),
                    (88.0, 44800, 79.0, 291.0, 42),
                    (64.0, 27100, 66.0, 214.0, 44),
                    (4.0, 900, 38.0, 41.0, 45),
                )
            )
        ]
        if gpus
        else []
    )
    return HostSample(
        node=node,
        at=minutes(-minute),
        cpu_percent=41 + 22 * wave if gpus else 12 + 8 * wave,
        load1=6.4,
        memory_total_mib=257_000 if gpus else 64_000,
        memory_used_mib=int(96_000 + 9_000 * wave) if gpus else 21_000,
        shm_total_mib=128_000 if gpus else 32_000,
        shm_used_mib=18_400 if gpus else 300,
        disk_total_mib=1_900_000,
        disk_used_mib=1_310_000 if gpus else 420_000,
        gpus=readings,
    )


def nodes() -> list[Node]:
    big = [sample("local", -n / 6, True) for n in range(60, 0, -1)]
    small = [sample("attic", -n / 6, False) for n in range(60, 0, -1)]
    return [
        Node(
            name="local",
            engine="local",
            slots=4,
            slots_used=4,
            cpus=64,
            memory_mib=257_000,
            jobs=[41, 42, 44, 45],
            gpu_jobs={GPUS[0]: [41], GPUS[1]: [42], GPUS[2]: [44], GPUS[3]: [45]},
            sample=big[-1],
            history=big,
        ),
        Node(
            name="attic",
            engine="local",
            slots=2,
            slots_used=1,
            cpus=16,
            memory_mib=64_000,
            jobs=[36],
            sample=small[-1],
            history=small,
        ),
    ]


LOG = """\
Ultralytics 8.4.101 Python-3.11.9 torch-2.9.0 CUDA:0 (NVIDIA RTX A6000, 48541MiB)
engine/trainer: task=detect, mode=train, model=yolov8m.pt, data=/data/fruit/data.yaml, epochs=100, batch=32, imgsz=640
train: Scanning /data/fruit/labels/train... 8213 images, 14 backgrounds, 0 corrupt
val: Scanning /data/fruit/labels/val... 1020 images, 2 backgrounds, 0 corrupt
WARNING 14 images have no labels
Starting training for 100 epochs...""".splitlines()


def log_lines(job: Job) -> list[LogLine]:
    texts: list[str] = list(LOG)
    for epoch in range(1, job.epoch + 2):
        loss = 1.9 * math.exp(-epoch / 40)
        texts.append("      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size")
        texts.append(
            f"    {epoch:>3}/{job.epochs:<3}      30.4G     {loss:6.3f}     {loss * 1.3:6.3f}     {loss * 0.8:6.3f}"
            f"        112        640: 100% 257/257 1:24"
        )
        texts.append(
            f"                 Class     Images  Instances      Box(P      R      mAP50  mAP50-95): 0.{600 + epoch}"
        )
    if job.state is JobState.FAILED:
        texts.append("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.20 GiB.")
        texts.append("wyolo: batch 64 does not fit; the checkpoint of epoch 3 was kept")
    at, out = 0, list[LogLine]()
    for n, text in enumerate(texts):
        out.append(LogLine(offset=at, at=minutes(52) + timedelta(seconds=27 * n), text=text))
        at += len(text) + 1
    return out


def table(job: Job) -> MetricTable:
    noise = random.Random(job.id)
    epochs = list(range(1, job.epoch + 1))
    fitness = curve(job.epoch, job.best_fitness or 0.7, job.id)

    def loss(start: float, gap: float) -> list[float | None]:
        return [round(start * math.exp(-e / 45) + gap + noise.uniform(-0.02, 0.02), 4) for e in epochs]

    return MetricTable(
        job_id=job.id,
        epochs=epochs,
        seconds=[84.0 + noise.uniform(-3, 3) for _ in epochs],
        attempts=[1 for _ in epochs],
        columns={
            "train/box_loss": loss(1.8, 0.3),
            "train/cls_loss": loss(2.6, 0.2),
            "train/dfl_loss": loss(1.5, 0.6),
            "metrics/precision(B)": [round(min(0.97, v * 1.15), 4) for v in fitness],
            "metrics/recall(B)": [round(v * 1.02, 4) for v in fitness],
            "metrics/mAP50(B)": [round(min(0.98, v * 1.2), 4) for v in fitness],
            "metrics/mAP50-95(B)": [v for v in fitness],
            "val/box_loss": loss(1.7, 0.42),
            "val/cls_loss": loss(2.3, 0.35),
            "val/dfl_loss": loss(1.4, 0.7),
            "lr/pg0": [0.01 * (1 - e / 100) for e in epochs],
        },
    )


class FakeLink:
    """What the broker would do, in memory. `put` sends events to followers; `out` makes it unreachable."""

    address = "127.0.0.1:23450"

    def __init__(self, jobs: Sequence[Job] | None = None, nodes_: Sequence[Node] | None = None) -> None:
        self.held = {j.id: j for j in (fleet() if jobs is None else jobs)}
        self.fleet = list(nodes() if nodes_ is None else nodes_)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.out = False
        self.refuses: dict[str, str] = {}  # verb -> what the broker says
        self.counted: QueueChanged | None = None
        self.logs_of: dict[int, list[LogLine]] = {}  # where it is not what `log_lines` makes
        self.validation: Validation | None = None  # what is said of every configuration
        self._followers: list[asyncio.Queue[FollowerEvent | LinkUp | LinkDown]] = []
        self.seq = 100
        self.told = self._history()  # the audit trail

    async def close(self) -> None:
        self.calls.append(("close", ()))

    @property
    def followed(self) -> bool:
        """Whoever follows has been given all of a snapshot."""
        return bool(self._followers)

    def put(self, *events: FollowerEvent | LinkUp | LinkDown) -> None:
        for queue in self._followers:
            for event in events:
                queue.put_nowait(event)

    def _asked(self, what: str, *arguments: Any) -> None:
        self.calls.append((what, arguments))
        if self.out:
            raise BrokerOut("no broker answers at http://127.0.0.1:23450")
        if what in self.refuses:
            raise ProblemError(Problem(title=what, status=409, detail=self.refuses[what], code=ErrorCode.CONFLICT))

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        self._asked("jobs", filter, sort, limit, cursor)
        found = parse(filter)
        metrics = {"metrics/mAP50(B)": 0.0}
        jobs = [
            j for j in self.held.values() if found.matches(j, metrics | {"metrics/mAP50(B)": j.best_fitness or 0.0})
        ]
        start = int(cursor or 0)
        more = str(start + limit) if len(jobs) > start + limit else None
        return JobPage(jobs=jobs[start : start + limit], next_cursor=more, total=len(jobs), seq=self.seq)

    async def job(self, job_id: int) -> Job:
        self._asked("job", job_id)
        found = self.held.get(job_id)
        if found is None:
            raise ProblemError(
                Problem(title="Not Found", status=404, detail=f"there is no job {job_id}", code=ErrorCode.NOT_FOUND)
            )
        arguments = {"data": found.data, "epochs": found.epochs, "batch": 32, "imgsz": 640, "lr0": 0.01, "cos_lr": True}
        training = {
            "model": found.model,
            "task": found.task,
            "args": {**arguments, "optimizer": "AdamW", "seed": job_id},
        }
        command = CommandWork(argv=["python", "prep.py", "--tiles", "512"], cwd="/data/harbour")
        work = command if found.kind == "command" else TrainWork.model_validate(training)
        gpu = GpuRequest(count=0) if found.kind == "command" else GpuRequest(memory_fraction=0.5)
        needs = Resources(cpus=2, memory_mib=4096, gpu=gpu)
        spec = JobSpec(work=work, name=found.name, user=found.user, priority=found.priority, resources=needs)
        return found.model_copy(update={"spec": spec, "warnings": ["train.device is chosen by wyolo: ignored"]})

    async def logs(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        tail: int | None = None,
        before: int | None = None,
    ) -> LogChunk:
        self._asked("logs", job_id, offset, before)
        low, high = offset or 0, before or 1 << 40
        all_lines = self.logs_of.get(job_id) or log_lines(self.held[job_id])
        lines = [line for line in all_lines if low <= line.offset < high]
        if tail is not None and len(lines) > tail:
            lines = lines[-tail:]
            low = lines[0].offset
        elif limit is not None and len(lines) > limit:
            high = lines[limit].offset
            lines = lines[:limit]
        return LogChunk(job_id=job_id, attempt=1, lines=lines, start=low, next_offset=high)

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        self._asked("metrics", job_id)
        return table(self.held[job_id])

    async def events(self, job_id: int, after: int | None = None, limit: int | None = None) -> list[AuditEntry]:
        self._asked("events", job_id)
        return self._events(self.held[job_id])

    def _events(self, found: Job) -> list[AuditEntry]:
        job_id = found.id
        rows = [
            AuditEntry(
                seq=1, at=found.submitted_at, job_id=job_id, verb="submit", to_state=JobState.QUEUED, by=found.user
            )
        ]
        if found.started_at:
            rows.append(
                AuditEntry(
                    seq=2,
                    at=found.started_at,
                    job_id=job_id,
                    attempt=1,
                    verb="place",
                    from_state=JobState.QUEUED,
                    to_state=JobState.STARTING,
                    node="local",
                )
            )
            rows.append(
                AuditEntry(
                    seq=3,
                    at=found.started_at + timedelta(seconds=4),
                    job_id=job_id,
                    attempt=1,
                    verb="run",
                    from_state=JobState.STARTING,
                    to_state=JobState.RUNNING,
                )
            )
        if found.ended_at:
            rows.append(
                AuditEntry(
                    seq=4,
                    at=found.ended_at,
                    job_id=job_id,
                    attempt=1,
                    verb=str(found.state),
                    from_state=JobState.RUNNING,
                    to_state=found.state,
                    reason=found.reason,
                    message=found.message,
                )
            )
        return rows

    def _history(self) -> list[AuditEntry]:
        rows = sorted((row for j in self.held.values() for row in self._events(j)), key=lambda row: row.at)
        return [row.model_copy(update={"seq": n}) for n, row in enumerate(rows[-self.seq :], start=1)]

    async def audit(self, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        self._asked("audit", after, limit)
        return [entry for entry in self.told if entry.seq > after][:limit]

    def write(self, verb: str, job_id: int | None = None, **more: Any) -> AuditEntry:
        """Into the audit trail: followers hear nothing of it."""
        self.seq += 1
        self.told.append(AuditEntry(seq=self.seq, at=NOW, job_id=job_id, verb=verb, **more))
        return self.told[-1]

    async def nodes(self) -> list[Node]:
        self._asked("nodes")
        return self.fleet

    async def node(self, name: str) -> Node:
        self._asked("node", name)
        return next(node for node in self.fleet if node.name == name)

    async def drain_node(self, name: str, now: bool = False) -> Node:
        self._asked("drain_node", name, now)
        return self._withheld(name, Withheld(state=NodeState.DRAINING, since=NOW, by="ann"), now)

    async def pause_node(
        self, name: str, *, for_s: float | None = None, until: datetime | None = None, now: bool = False
    ) -> Node:
        self._asked("pause_node", name, for_s, until, now)
        end = until if for_s is None else NOW + timedelta(seconds=for_s)
        return self._withheld(name, Withheld(state=NodeState.PAUSED, since=NOW, until=end, by="ann"), now)

    async def resume_node(self, name: str) -> Node:
        self._asked("resume_node", name)
        return self._withheld(name, None, now=False)

    def _withheld(self, name: str, said: Withheld | None, now: bool) -> Node:
        at = next(n for n, node in enumerate(self.fleet) if node.name == name)
        state = NodeState.UP if said is None else said.state
        self.fleet[at] = self.fleet[at].model_copy(update={"withheld": said, "state": state})
        for job_id in self.fleet[at].jobs if now else ():
            self._to("evict", job_id, intent=Intent.EVICT)
        verb = {NodeState.UP: "resume", NodeState.PAUSED: "pause"}.get(state, "drain")
        until = {} if said is None or said.until is None else {"until": said.until.isoformat()}
        self.write(verb, node=name, by="ann", data={**until, "now": now})
        self.put(NodeChanged(at=NOW, node=self.fleet[at]))
        return self.fleet[at]

    async def queue(self) -> QueueChanged:
        self._asked("queue")
        if self.counted is not None:
            return self.counted
        counts = {state: sum(1 for j in self.held.values() if j.state is state) for state in JobState}
        return QueueChanged(
            at=NOW, counts=counts, failed_today=counts[JobState.FAILED], drain_s=8040.0 if self.held else None
        )

    async def validate(self, request: SubmitRequest) -> Validation:
        self._asked("validate", request)
        text = request.config or ""
        if self.validation is not None:
            return self.validation
        if "epoks" in text:
            line = text[: text.index("epoks")].count("\n") + 1
            return Validation(
                ok=False,
                findings=[
                    Finding(
                        where=f"line {line}, column 3", message="unknown key train.epoks", hint="did you mean epochs?"
                    )
                ],
            )
        spec = JobSpec(work=TrainWork(model="yolov8n.pt", args={"epochs": 50, "imgsz": 640, "batch": 16}), name="fruit")
        return Validation(
            ok=True,
            spec=spec,
            would_start="after 3 jobs",
            pace=Pace(job_id=41, epoch_s=84),
            findings=[Finding(level="warning", where="train.device", message="wyolo chooses the device")],
        )

    async def submit(self, request: SubmitRequest, key: str | None = None) -> tuple[Job, bool]:
        self._asked("submit", request)
        new = job(
            max(self.held, default=0) + 1,
            request.name or "fruit",
            JobState.QUEUED,
            queued_at=NOW,
            epochs=50,
            submitted_at=NOW,
            waits_for="behind 49",
            rank=9,
        )
        return self._changed(new, "submit"), True

    async def submit_named(self, name: str) -> Job:
        return (await self.submit(SubmitRequest(name=name)))[0]

    async def edit(self, job_id: int, request: SubmitRequest) -> Job:
        self._asked("edit", job_id, request)
        return self._changed(self.held[job_id], "edit")

    def _changed(self, changed: Job, verb: str) -> Job:
        before = self.held.get(changed.id)
        states = {"from_state": before.state, "to_state": changed.state} if before else {"to_state": changed.state}
        self.write(verb, changed.id, by="ann", reason=changed.reason, **states)
        self.held[changed.id] = changed
        self.put(JobChanged(seq=self.seq, at=NOW, job=changed, verb=verb))
        return changed

    def _to(self, verb: str, job_id: int, arguments: tuple[Any, ...] = (), **update: Any) -> Job:
        self._asked(verb, job_id, *arguments)
        return self._changed(self.held[job_id].model_copy(update=update), verb)

    async def stop(self, job_id: int) -> Job:
        state = self.held[job_id].state
        if state in (JobState.QUEUED, JobState.HELD):
            return self._to("stop", job_id, state=JobState.STOPPED, reason=EndReason.USER_STOP, ended_at=NOW)
        return self._to("stop", job_id, intent="stop")

    async def kill(self, job_id: int) -> Job:
        return self._to("kill", job_id, state=JobState.STOPPED, reason=EndReason.KILLED, ended_at=NOW)

    async def preempt(self, job_id: int) -> Job:
        return self._to("preempt", job_id, intent="preempt")

    async def resume(self, job_id: int, epochs: int | None = None) -> Job:
        return self._to("resume", job_id, (epochs,), state=JobState.QUEUED, queued_at=NOW, reason=None)

    async def rerun(self, job_id: int) -> Job:
        self._asked("rerun", job_id)
        return self._changed(
            self.held[job_id].model_copy(update={"id": max(self.held) + 1, "state": JobState.QUEUED}), ""
        )

    async def hold(self, job_id: int) -> Job:
        return self._to("hold", job_id, state=JobState.HELD)

    async def release(self, job_id: int) -> Job:
        return self._to("release", job_id, state=JobState.QUEUED, queued_at=NOW)

    async def priority(self, job_id: int, priority: Priority) -> Job:
        return self._to("priority", job_id, (priority,), priority=priority)

    async def move(
        self,
        job_id: int,
        *,
        before: int | None = None,
        after: int | None = None,
        to: Literal["first", "last"] | None = None,
    ) -> Job:
        rank = self.held[before].rank - 0.5 if before else self.held[after].rank + 0.5 if after else 0.0
        return self._to("move", job_id, (before, after, to), rank=rank)

    async def resolve(self, job_id: int, verdict: Literal["gone", "alive"]) -> Job:
        return self._to("resolve", job_id, (verdict,), state=JobState.QUEUED)

    async def remove(self, job_id: int, files: bool = False) -> None:
        self._asked("remove", job_id, files)
        self.write("remove", job_id, by="ann", data={"name": self.held.pop(job_id).name})
        self.put(JobRemoved(seq=self.seq, at=NOW, job_id=job_id))

    async def follow(self, after: int) -> AsyncGenerator[FollowerEvent | LinkUp | LinkDown]:
        if self.out:
            raise BrokerOut("no broker answers at http://127.0.0.1:23450")
        queue: asyncio.Queue[FollowerEvent | LinkUp | LinkDown] = asyncio.Queue()
        self._followers.append(queue)
        try:
            yield LinkUp()
            while True:
                yield await queue.get()
        finally:
            self._followers.remove(queue)

    async def follow_log(
        self, job_id: int, *, attempt: int | None = None, offset: int | None = None, tail: int | None = None
    ) -> AsyncGenerator[LogChunk | LinkUp | LinkDown]:
        self._asked("follow_log", job_id)
        found = self.held[job_id]
        all_lines = self.logs_of.get(job_id) or log_lines(found)
        lines = all_lines[-(tail or len(all_lines)) :]
        done = found.state in FINAL
        start, end = 0 if len(lines) == len(all_lines) else lines[0].offset, lines[-1].offset + 80
        yield LogChunk(job_id=job_id, attempt=1, lines=lines, start=start, next_offset=end, eof=done)
        while not done:
            await asyncio.Event().wait()


Connect = Callable[[], Any]


def connected(link: FakeLink) -> Connect:
    async def connect() -> FakeLink:
        return link

    return connect
