"""wyolo resume: go on at exactly the next epoch."""

from typing import Annotated

import typer

from broker.protocol.job import Job
from wyolo_tui.cli.reporting import warn
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    jobs: Jobs = None,
    filter: Filter = "",
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Go on to this many epochs in all.")
    ] = None,
) -> Exit:
    """Go on from the newest good checkpoint, with --epochs further than planned."""
    async with meant(cli, jobs, filter) as (broker, found):

        def said(job: Job) -> str:
            warn(cli, job)
            return _said(job)

        return await each(cli, found, lambda job_id: broker.resume(job_id, epochs), said)


def _said(job: Job) -> str:
    where = f", goes on at epoch {job.epoch + 1} of {job.epochs}" if job.epochs and job.epoch else ""
    return f"{job.id} {job.name}: {job.state}{where}" + (f" ({job.message})" if job.message else "")
