"""A real ledger in a temporary folder, and jobs taken through their lives."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from broker.bus import Bus
from broker.ledger.ledger import Ledger
from broker.ledger.records import AttemptStart, AttemptUpdate, Change, EpochRow, NewJob, Recorded
from broker.protocol.job import CommandWork, Job, JobSpec, TrainWork
from broker.protocol.states import EndReason, JobState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRAIN = JobSpec(work=TrainWork(model="yolov8n.pt", args={"data": "/data/coco8.yaml", "epochs": 5}), name="fruit")
COMMAND = JobSpec(work=CommandWork(argv=["/usr/bin/python", "prep.py", "--fast"]), user="ana", task_id="T-1")


@asynccontextmanager
async def opened(folder: Path, bus: Bus | None = None) -> AsyncGenerator[Ledger]:
    ledger = await Ledger.open(folder / "ledger.db", bus or Bus())
    try:
        yield ledger
    finally:
        await ledger.close()


async def submitted(ledger: Ledger, spec: JobSpec = TRAIN, state: JobState = JobState.QUEUED) -> int:
    return (await ledger.submit([NewJob(spec, state)]))[0].id


async def placed(ledger: Ledger, job_id: int) -> Job:
    start = AttemptStart("local", ["GPU-1"], Path("/jobs"))
    return await ledger.advance(Change(job_id, "place", to=JobState.STARTING, start=start))


async def running(ledger: Ledger, spec: JobSpec = TRAIN) -> Job:
    job = await placed(ledger, await submitted(ledger, spec))
    update = AttemptUpdate(engine_ref="42:1:boot")
    return await ledger.advance(Change(job.id, "run", to=JobState.RUNNING, fence=job.fence, attempt=update))


async def ended(ledger: Ledger, job_id: int, to: JobState = JobState.COMPLETED, message: str = "") -> Job:
    reason = {JobState.COMPLETED: EndReason.COMPLETED, JobState.FAILED: EndReason.OOM_CUDA}.get(to, EndReason.USER_STOP)
    return await ledger.advance(Change(job_id, "end", to=to, reason=reason, message=message))


async def brought_to(ledger: Ledger, state: JobState, spec: JobSpec = TRAIN) -> int:
    """A new job in any state, by the way that jobs take."""
    if state in {JobState.HELD, JobState.QUEUED}:
        return await submitted(ledger, spec, state)
    job = await placed(ledger, await submitted(ledger, spec))
    if state is not JobState.STARTING:
        await ledger.advance(Change(job.id, "run", to=JobState.RUNNING))
    if state not in {JobState.STARTING, JobState.RUNNING}:
        await ended(ledger, job.id, state)
    return job.id


def epoch(number: int, fitness: float | None = None, **values: float) -> EpochRow:
    value = number / 10 if fitness is None else fitness
    return EpochRow(number, 5, {"metrics/mAP50(B)": value, **values}, value, 1.5, NOW)


def read(job: Job, *epochs: EpochRow, position: int = 0) -> Recorded:
    last = position or (epochs[-1].epoch if epochs else 1)
    return Recorded(job.id, job.fence, log_offset=last * 100, last_event=last, epochs=epochs, fitness_name="mAP50")
