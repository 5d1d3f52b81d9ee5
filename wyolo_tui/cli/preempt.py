"""wyolo preempt: give the place to somebody else for now."""

from broker.protocol.job import Job
from broker.protocol.states import Intent
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import Filter, Jobs, Yes, confirm, each, meant
from wyolo_tui.cli.verb import verb


@verb
async def command(cli: Session, *, jobs: Jobs = None, filter: Filter = "", yes: Yes = False) -> Exit:
    """Checkpoint, leave, and queue again as the last of its priority: the next one gets its place."""
    async with meant(cli, jobs, filter) as (broker, found):
        confirm(cli, found, "preempt", yes)
        return await each(cli, found, broker.preempt, _said)


def _said(job: Job) -> str:
    if job.intent is Intent.PREEMPT:
        return f"{job.id} {job.name}: leaves with a checkpoint, and is queued again"
    return f"{job.id} {job.name}: {job.state}"
