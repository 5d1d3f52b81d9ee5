"""wyolo wait: until jobs have ended."""

from wyolo_tui.cli.following import wait_for
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "") -> Exit:
    """Wait until each has ended; exit code 1 unless all have completed."""
    async with meant(cli, jobs, filter) as (broker, found):
        return await wait_for(cli, broker, found)
