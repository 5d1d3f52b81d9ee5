"""wyolo priority: who comes before whom."""

from typing import Annotated

import typer

from broker.protocol.states import Priority
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import Filter, complete_job, each, meant
from wyolo_tui.cli.verb import verb

LEVELS = [priority.value for priority in Priority]


def _complete(incomplete: str) -> list[str | tuple[str, str]]:
    levels = [level for level in LEVELS if level.startswith(incomplete)]
    return [*levels, *complete_job(incomplete)]


@verb
async def command(
    cli: Session,
    *,
    jobs: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB... high|normal|low",
            help="Jobs, then their priority.",
            autocompletion=_complete,
            show_default=False,
        ),
    ],
    filter: Filter = "",
) -> Exit:
    """Set the priority of waiting jobs: high before normal before low, then in order of arrival."""
    *tokens, level = jobs
    if level not in LEVELS:
        raise BadUse(f"{level!r} is no priority", "jobs first, then one of high, normal, low: wyolo priority 12 high")
    async with meant(cli, tokens, filter) as (broker, found):
        return await each(
            cli,
            found,
            lambda job_id: broker.priority(job_id, Priority(level)),
            lambda job: f"{job.id} {job.name}: {job.priority}",
        )
