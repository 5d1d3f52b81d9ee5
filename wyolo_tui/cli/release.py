"""wyolo release: what was held may start."""

from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "") -> Exit:
    """Let a held job start when its turn comes."""
    async with meant(cli, jobs, filter) as (broker, found):
        return await each(cli, found, broker.release, lambda job: f"{job.id} {job.name}: {job.state}")
