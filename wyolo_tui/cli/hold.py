"""wyolo hold: keep it from being started."""

from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "") -> Exit:
    """Keep a queued job from being started, until `release`."""
    async with meant(cli, jobs, filter) as (broker, found):
        return await each(
            cli, found, broker.hold, lambda job: f"{job.id} {job.name}: {job.state} (wyolo release {job.id})"
        )
