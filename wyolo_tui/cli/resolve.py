"""wyolo resolve: a person's word about a job of which nobody knows."""

from typing import Annotated, Literal

import typer

from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    verdict: Annotated[
        Literal["gone", "alive"],
        typer.Argument(help="gone: it has certainly ended, queue it again. alive: it runs, go on watching."),
    ],
) -> Exit:
    """Say what became of a job in state `unknown`. Look first: a job that still runs must not be called gone."""
    async with cli.broker() as broker:
        resolved = await broker.resolve((await one(broker, job)).id, verdict)
    if cli.json:
        cli.emit(resolved)
    else:
        cli.say(f"{resolved.id} {resolved.name}: {resolved.state}")
    return Exit.OK
