"""wyolo move: another place in the queue."""

from typing import Annotated

import typer

from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    first: Annotated[bool, typer.Option("--first", help="Before all others of its priority.")] = False,
    last: Annotated[bool, typer.Option("--last", help="After all others of its priority.")] = False,
    before: Annotated[str | None, typer.Option("--before", metavar="JOB", help="Right before that one.")] = None,
    after: Annotated[str | None, typer.Option("--after", metavar="JOB", help="Right after that one.")] = None,
) -> Exit:
    """Move a waiting job within the queue."""
    if sum((first, last, before is not None, after is not None)) != 1:
        raise BadUse("where to?", "exactly one of --first, --last, --before JOB, --after JOB")
    async with cli.broker() as broker:
        moving = await one(broker, job)
        moved = await broker.move(
            moving.id,
            before=None if before is None else (await one(broker, before)).id,
            after=None if after is None else (await one(broker, after)).id,
            to="first" if first else "last" if last else None,
        )
    if cli.json:
        cli.emit(moved)
    else:
        cli.say(f"{moved.id} {moved.name}: {moved.state}{f', {moved.waits_for}' if moved.waits_for else ''}")
    return Exit.OK
