"""wyolo rm: forget a job."""

from typing import Annotated

import typer

from broker.protocol.job import Job
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, Yes, confirm, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    jobs: Jobs = None,
    filter: Filter = "",
    files: Annotated[
        bool, typer.Option("--files", help="Its directory too: log, checkpoints, results. There is no way back.")
    ] = False,
    yes: Yes = False,
) -> Exit:
    """Remove jobs that wait or have ended. Their files stay unless --files says otherwise."""
    async with meant(cli, jobs, filter) as (broker, found):
        confirm(cli, found, "remove with all their files" if files else "remove", yes)
        known = {job.id: job for job in found}

        async def remove(job_id: int) -> Job:
            await broker.remove(job_id, files)
            return known[job_id]

        kept = "with its files" if files else "its files are kept"
        return await each(cli, found, remove, lambda job: f"{job.id} {job.name}: removed, {kept}")
