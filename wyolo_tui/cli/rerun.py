"""wyolo rerun: the same again, as a new job."""

from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, Yes, confirm, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "", yes: Yes = False) -> Exit:
    """Queue a new job with the same configuration, from the start."""
    async with meant(cli, jobs, filter) as (broker, found):
        confirm(cli, found, "rerun", yes)
        return await each(
            cli, found, broker.rerun, lambda job: f"{job.id} {job.name}: {job.state}, as {job.parent_id} once more"
        )
