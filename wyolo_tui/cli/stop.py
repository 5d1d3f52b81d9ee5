"""wyolo stop: a checkpoint, and out. What can be resumed later."""

from typing import Annotated

import typer

from broker.protocol.job import Job
from broker.protocol.states import FINAL, Intent
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, Yes, confirm, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    jobs: Jobs = None,
    filter: Filter = "",
    grace: Annotated[
        float | None,
        typer.Option("--grace", metavar="SECONDS", min=0, help="How long it may take before it is killed."),
    ] = None,
    yes: Yes = False,
) -> Exit:
    """Checkpoint and leave; `resume` goes on at the next epoch. A waiting job is taken out of the queue."""
    async with meant(cli, jobs, filter) as (broker, found):
        confirm(cli, found, "stop", yes)
        return await each(cli, found, lambda job_id: broker.stop(job_id, grace), _said)


def _said(job: Job) -> str:
    if job.state in FINAL:
        return f"{job.id} {job.name}: {job.state}" + ("" if job.state == "completed" else f" (wyolo resume {job.id})")
    if job.intent is Intent.STOP:
        return f"{job.id} {job.name}: stopping; go on later with: wyolo resume {job.id}"
    return f"{job.id} {job.name}: {job.state}"
