"""wyolo nodes: where jobs run, and how busy it is there."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from broker.protocol.fleet import Node
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import BrokerOut

if TYPE_CHECKING:
    from rich.text import Text

EVERY_S = 1.0


@verb
async def command(
    cli: Session,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, once a second, until Ctrl-C.")] = False,
) -> Exit:
    """Show each node and GPU: load, memory, temperature, power, and whose they are."""
    async with cli.broker() as broker:
        if watch:
            await _live(cli, broker)
            return Exit.OK
        nodes = await broker.nodes()
    if cli.json:
        cli.emit_list(nodes)
    else:
        cli.show(_lines(cli, nodes))
    return Exit.OK


def _lines(cli: Session, nodes: list[Node]) -> list["Text"]:
    from wyolo_tui.cli.tables import node_lines

    return list(node_lines(nodes, cli.glyphs))


async def _live(cli: Session, broker: BrokerClient) -> None:
    console = cli.console()
    if cli.json:
        while True:
            cli.emit_list(await broker.nodes())
            await asyncio.sleep(EVERY_S)
    if not console.is_terminal:
        raise BadUse("--watch redraws a terminal, and this is a pipe", "for programs: --watch --json")
    from rich.live import Live
    from rich.text import Text

    lines, picture, state = Text("\n", no_wrap=True, overflow="ellipsis"), Text(), ""
    with Live(picture, console=console, auto_refresh=False, redirect_stdout=False) as live:
        while True:
            try:
                picture, state = lines.join(_lines(cli, await broker.nodes())), ""
            except BrokerOut as error:
                state = f"\n{error}: as it was, and tried again"
            live.update(picture + Text(state, style="yellow"), refresh=True)
            await asyncio.sleep(EVERY_S)
