"""wyolo node: take a node back for a while, and give it to the jobs again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from broker.protocol.fleet import Node, NodeState
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import complete_node
from wyolo_tui.cli.verb import verb
from wyolo_tui.when import WhenError, moment, seconds

command = typer.Typer(help="Drain, pause and resume the nodes that jobs run on.")

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Of the node; wyolo nodes lists them.", autocompletion=complete_node, show_default=False
    ),
]
Now = Annotated[bool, typer.Option("--now", help="What runs there saves, leaves, and goes on elsewhere.")]


@command.command("drain")
@verb
async def drain(cli: Session, *, name: Name, now: Now = False) -> Exit:
    """Nothing new starts there; what runs goes on to its end. Until `resume`."""
    async with cli.broker() as broker:
        return _told(cli, await broker.drain_node(name, now), now)


@command.command("pause")
@verb
async def pause(
    cli: Session,
    *,
    name: Name,
    length: Annotated[
        str | None, typer.Option("--for", metavar="LENGTH", help="So long: 1h30m, 45m, 2d.", show_default=False)
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Until then: 17:00, or an ISO 8601 time.", show_default=False),
    ] = None,
    now: Now = False,
) -> Exit:
    """Take it back for a time, or until `resume`: nothing new starts there, and what runs goes on to its end."""
    if length is not None and until is not None:
        raise BadUse("--for and --until both say how long", "keep one of them")
    try:
        for_s = None if length is None else seconds(length)
        end = None if until is None else moment(until, datetime.now(UTC))
    except WhenError as error:
        raise BadUse(f"{'--for' if length is not None else '--until'}: {error}", error.hint) from error
    async with cli.broker() as broker:
        return _told(cli, await broker.pause_node(name, for_s=for_s, until=end, now=now), now)


@command.command("resume")
@verb
async def resume(cli: Session, *, name: Name) -> Exit:
    """Jobs may start there again."""
    async with cli.broker() as broker:
        return _told(cli, await broker.resume_node(name), now=False)


def _told(cli: Session, node: Node, now: bool) -> Exit:
    if cli.json:
        cli.emit(node)
        return Exit.OK
    if node.withheld is None:
        away = node.state is NodeState.UNREACHABLE
        cli.say(f"{node.name}: jobs may start there" + (f" once it can be reached ({node.message})" if away else ""))
        return Exit.OK
    cli.say(f"{node.name}: {node.withheld.words(datetime.now(UTC))}; {_rest(node.jobs, now)}")
    return Exit.OK


def _rest(jobs: Sequence[int], now: bool) -> str:
    if not jobs:
        return "nothing runs there"
    if len(jobs) == 1:
        if now:
            return f"job {jobs[0]} saves and leaves, to go on elsewhere"
        return f"job {jobs[0]} goes on to its end (--now moves it)"
    named = ", ".join(map(str, jobs))
    if now:
        return f"jobs {named} save and leave, to go on elsewhere"
    return f"jobs {named} go on to their end (--now moves them)"
