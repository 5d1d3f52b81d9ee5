"""wyolo show: all about one job."""

import asyncio
import json
from collections.abc import Iterator, Sequence

from broker.protocol.job import Attempt, Checkpoint, Job
from broker.protocol.states import ACTIVE, Priority
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.present import Cell, day_and_clock, duration, epoch_cell, fitness_cell, plain, state_cell, where, why


@verb
async def command(cli: Session, *, job: OneJob) -> Exit:
    """Show what a job is, why it waits or ended, its attempts and checkpoints, and its effective configuration."""
    async with cli.broker() as broker:
        found = await one(broker, job)
        attempts, checkpoints = await asyncio.gather(broker.attempts(found.id), broker.checkpoints(found.id))
    if cli.json:
        _emit(found, attempts, checkpoints)
        return Exit.OK
    from wyolo_tui.cli.effective import spec_lines
    from wyolo_tui.cli.tables import attempt_lines, checkpoint_lines, pairs, text, utc_now

    cli.show(pairs(_facts(cli, found)))
    for warning in found.warnings:
        cli.say(f"! {warning}")
    if attempts:
        cli.say()
        cli.show(attempt_lines(attempts, utc_now()))
    if checkpoints:
        cli.say()
        cli.show(checkpoint_lines(checkpoints))
    if found.spec is not None:
        cli.say()
        cli.show(text(line) for line in spec_lines(found.spec))
    return Exit.OK


def _emit(job: Job, attempts: Sequence[Attempt], checkpoints: Sequence[Checkpoint]) -> None:
    """The Job, with its attempts and checkpoints under those names."""
    whole = job.model_dump(mode="json")
    whole["attempts"] = [attempt.model_dump(mode="json") for attempt in attempts]
    whole["checkpoints"] = [checkpoint.model_dump(mode="json") for checkpoint in checkpoints]
    print(json.dumps(whole))


def _facts(cli: Session, job: Job) -> Iterator[tuple[str, Cell | str]]:
    from wyolo_tui.cli.tables import utc_now

    now = utc_now()

    def when(name: str) -> str:
        at = getattr(job, name)
        return "" if at is None else day_and_clock(at, now, None)

    yield "job", [(str(job.id), "strong"), (f" {plain(job.name)}", "strong")]
    yield "state", state_cell(job, cli.glyphs)
    said, role = why(job)
    yield "why", [(said, "bad" if role == "bad" else "")]
    if job.epochs:
        yield "epoch", epoch_cell(job, 32, cli.glyphs)
    if job.best_fitness is not None:
        yield plain(job.fitness_name) or "fitness", fitness_cell(job, 32, cli.glyphs)
        yield "best", f"{job.best_fitness:.4f}" + (f" at epoch {job.best_epoch}" if job.best_epoch else "")
    if job.state in ACTIVE:
        yield "left", duration(job.eta_s)
    yield "model", plain(job.model) + (f" ({job.task})" if job.task else "")
    yield "data", plain(job.data)
    yield "where", plain(where(job))
    yield "user", plain(job.user)
    yield "priority", "" if job.priority is Priority.NORMAL else job.priority.value
    yield "task id", plain(job.task_id or "")
    yield "rerun of", "" if job.parent_id is None else str(job.parent_id)
    yield "submitted", when("submitted_at")
    yield "started", when("started_at")
    yield "ended", when("ended_at")
    if job.started_at and job.ended_at:
        yield "took", duration((job.ended_at - job.started_at).total_seconds())
