"""wyolo edit: another configuration for a job that still waits."""

from typing import Annotated

import typer

from wyolo_tui.cli.reporting import warn
from wyolo_tui.cli.requests import Level, Name, Set, TaskId, User, from_file
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file; - is standard input.")],
    set: Set = None,
    priority: Level = None,
    name: Name = None,
    user: User = None,
    task_id: TaskId = None,
) -> Exit:
    """Replace the configuration of a job that is queued or held."""
    request = from_file(file, set, name=name, user=user, priority=priority, task_id=task_id)
    async with cli.broker() as broker:
        edited = await broker.edit((await one(broker, job)).id, request)
    if cli.json:
        cli.emit(edited)
        return Exit.OK
    cli.say(f"{edited.id} {edited.name}: {edited.state}, as {file} says")
    warn(cli, edited)
    return Exit.OK
