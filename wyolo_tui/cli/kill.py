"""wyolo kill: out at once. What came after the last checkpoint is lost."""

from broker.protocol.job import Job
from broker.protocol.states import FINAL
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, Yes, confirm, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "", yes: Yes = False) -> Exit:
    """End it at once; what came after its last checkpoint is lost."""
    async with meant(cli, jobs, filter) as (broker, found):
        confirm(cli, found, "kill", yes)
        return await each(cli, found, broker.kill, _said)


def _said(job: Job) -> str:
    return f"{job.id} {job.name}: {job.state if job.state in FINAL else 'being killed'}"
