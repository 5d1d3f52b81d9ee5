"""wyolo broker: run it here, or start, look at and stop the one in the background."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from wyolo_tui import discovery
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.verb import verb
from wyolo_tui.present import duration

ALSO = """\
wyolo broker start [OPTIONS]    in the background, where it outlives this terminal
wyolo broker status             the one that runs: its health, its counts
wyolo broker stop               end it; running jobs go on, and the next broker takes them up
wyolo broker [OPTIONS]          here, until Ctrl-C:
"""


def command(context: typer.Context) -> None:
    """Run the broker here; or `broker start`, `status`, `stop`. Its own --help documents every setting."""
    arguments = context.args
    if arguments and arguments[0] in {"start", "status", "stop"}:
        background = typer.Typer(name="wyolo broker", add_completion=False, pretty_exceptions_enable=False)
        background.callback()(_nothing_more)
        flags = {"ignore_unknown_options": True, "allow_extra_args": True}
        background.command("start", context_settings=flags)(start)
        background.command("status")(status)
        background.command("stop")(stop)
        raise typer.Exit(background(arguments, prog_name="wyolo broker", standalone_mode=False) or 0)
    if {"-h", "--help"} & set(arguments):
        print(ALSO, flush=True)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "broker", *arguments])


def _nothing_more() -> None:
    """The broker in the background."""


@verb
async def start(
    cli: Session,
    *,
    flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="FLAGS", help="As of `wyolo broker`: --port 0 ...", show_default=False),
    ] = None,
) -> Exit:
    """Start a broker that outlives this terminal, unless one runs already."""
    address, new = await discovery.start(cli.data_dir, flags or ())
    if cli.json:
        async with address.client() as broker:
            cli.emit(await broker.health())
        return Exit.OK
    cli.say(f"the broker {'has been started' if new else 'runs already'}: {address.url}, process {address.pid}")
    cli.say(f"its files are in {address.data_dir}; stop it with: wyolo broker stop")
    return Exit.OK


@verb
async def status(cli: Session) -> Exit:
    """Say whether a broker runs, how it is and what it has to do."""
    where = discovery.find(cli.url, cli.data_dir)
    async with cli.broker() as broker:
        health, version = await asyncio.gather(broker.health(), broker.version())
    if cli.json:
        cli.emit(health)
        return Exit.OK
    cli.say(f"{health.status}: wyolo {version.version} at {where.url}, up for {duration(health.uptime_s)}")
    if health.message:
        cli.say(f"! {health.message}")
    cli.say(f"redis {health.redis}, ledger {health.ledger}")
    cli.say("nodes " + ", ".join(f"{name} {state}" for name, state in health.nodes.items()))
    counts = ", ".join(f"{count} {state}" for state, count in health.counts.items() if count)
    cli.say(f"jobs {counts or 'none'}")
    if where.pid is not None:
        cli.say(f"process {where.pid}, files in {where.data_dir}")
    return Exit.OK


@verb
async def stop(cli: Session) -> Exit:
    """End the broker. Running jobs go on, and the next broker takes them up."""
    where = discovery.find(cli.url, cli.data_dir)
    if where.pid is None:
        raise BadUse(f"{where.url} was named by its URL", "stop it where it runs, or say --data-dir")
    await discovery.stop(where)
    if not cli.json:
        cli.say("the broker has ended; running jobs go on, and the next broker takes them up")
    return Exit.OK
