"""wyolo sandbox: Docker daemons in containers of this host's Docker, each a node that jobs run on."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from wyolo_tui import discovery
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.steps import EngineUrl, folder, mebibytes, opened, progress, tell, told
from wyolo_tui.cli.verb import verb
from wyolo_tui.unanswered import Unanswered

if TYPE_CHECKING:
    from dind.home import Home
    from dind.sandboxes import State
    from dind.spec import Sandbox

command = typer.Typer(help="Raise, look at and remove the sandboxes that jobs run in.")
MARKS = {"healthy": "✓", "starting": "…", "unhealthy": "✗", "stopped": "✗", "absent": "-", "foreign": "✗"}

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME...", help="api, environment, media, or another; all of them if none is named.", show_default=False
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the sandbox: api, environment ...", show_default=False)]


@command.command("up")
@verb
async def up(
    cli: Session,
    *,
    names: Names = None,
    engine: EngineUrl = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="IMAGE", help="What their image is built on: anything with dockerd; docker:dind."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Their image; built if the daemon has none such.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="On the loopback, of one sandbox; 0: any free one.")
    ] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", metavar="N", help="Cores of each; 0: all.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Of each, as 64G; 0: all.")] = None,
    pids: Annotated[int | None, typer.Option("--pids", metavar="N", help="Processes of each; 0: no limit.")] = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="WHICH", help="all, none, or UUIDs with commas between.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", metavar="DIR", help="Data sets that jobs may read; as often as needed.", show_default=False
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="Model weights that jobs may read.")
    ] = None,
    privileged: Annotated[
        bool | None,
        typer.Option(
            "--privileged/--no-privileged", help="For hosts where the capabilities are not enough.", show_default=False
        ),
    ] = None,
    dockerd: Annotated[
        str | None, typer.Option("--dockerd", metavar="ARGS", help="For the daemons inside: --registry-mirror=...")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build their image even if it is there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace one that is to be otherwise, though jobs run.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", metavar="S", help="For how long each may take to answer.")] = 60.0,
) -> Exit:
    """Raise sandboxes, and tell the broker of them. What is up already stays; what was said before holds."""
    from dind import sandboxes

    wishes = {
        "image": image,
        "port": port,
        "cpus": cpus,
        "memory_mib": None if memory is None else mebibytes(memory),
        "pids": pids,
        "gpus": gpus if gpus in {"all", "none", None} else tuple(str(gpus).split(",")),
        "data": None if data is None else tuple(folder(path) for path in data),
        "weights": None if weights is None else folder(weights),
        "privileged": privileged,
        "dockerd": dockerd,
    }
    async with opened(cli, engine) as (docker, home):
        chosen = _meant(home, names, every=True)
        if port and len(chosen) > 1:
            raise BadUse("one port cannot be that of several sandboxes", "name one, or say --port 0")
        defaults = _configured_folders()
        wanted = [_wished(home, name, wishes, defaults) for name in chosen]
        with progress(cli) as tells:
            cli.on_interrupt = "what was raised stays; wyolo sandbox up goes on from there"
            outcomes = await sandboxes.up(
                docker, home, wanted, tells, base=base, rebuild=rebuild, force=force, patience_s=wait
            )
        states = [outcome for outcome in outcomes.values() if isinstance(outcome, sandboxes.State)]
        _show(cli, states)
        for outcome in outcomes.values():
            if not isinstance(outcome, sandboxes.State):
                tell(cli, outcome)
        if states:
            await _say_what_the_broker_knows(cli, states)
        return Exit.OK if len(states) == len(outcomes) else Exit.FAILED


@command.command("status")
@verb
async def status(cli: Session, *, names: Names = None, engine: EngineUrl = None) -> Exit:
    """Show how the sandboxes are, and what runs in them. Fails when one that was raised is not well."""
    from dind import sandboxes

    async with opened(cli, engine) as (docker, home):
        meant = [home.sandbox(name) for name in _meant(home, names, every=True)]
        states = await asyncio.gather(*(sandboxes.inspect(docker, home, sandbox) for sandbox in meant))
    _show(cli, states)
    return Exit.OK if all(state.state in {"healthy", "absent"} for state in states) else Exit.FAILED


@command.command("logs")
@verb
async def logs(
    cli: Session,
    *,
    name: Name,
    engine: EngineUrl = None,
    tail: Annotated[int, typer.Option("--tail", "-n", metavar="N", help="The last N lines.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show what a sandbox's own daemon writes."""
    from dind import sandboxes

    async with opened(cli, engine) as (docker, home):
        async for line in sandboxes.logs(docker, home, home.sandbox(_known(name)), tail=tail, follow=follow):
            cli.say(line)


@command.command("shell")
@verb
async def shell(
    cli: Session,
    *,
    name: Name,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND...]", help="A shell if none is given.", show_default=False),
    ] = None,
    engine: EngineUrl = None,
) -> None:
    """Open a shell in a sandbox, or run a command there: wyolo sandbox shell api -- docker ps"""
    from dind.shell import SHELL, execute

    terminal = not words and sys.stdin.isatty() and sys.stdout.isatty()
    if not words and not terminal:
        raise BadUse("a shell needs a terminal", f"give it a command: wyolo sandbox shell {name} -- docker ps")
    async with opened(cli, engine) as (docker, home):
        sandbox = home.sandbox(_known(name))
        raise typer.Exit(await execute(docker, sandbox, list(words or SHELL), terminal=terminal))


@command.command("down")
@verb
async def down(
    cli: Session,
    *,
    names: Names = None,
    engine: EngineUrl = None,
    force: Annotated[bool, typer.Option("--force", help="Although jobs run in it: they are interrupted.")] = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Remove what is in it too: images, ended containers, its certificate.")
    ] = False,
) -> Exit:
    """End and remove sandboxes. Refused while jobs run; images and ended containers in them are kept."""
    from dind import sandboxes

    async with opened(cli, engine) as (docker, home):
        meant = [home.sandbox(name) for name in _meant(home, names)]
        if not meant:
            cli.note("no sandbox was raised from this data directory")
            return Exit.OK
        with progress(cli) as tells:
            outcomes = await sandboxes.down(docker, home, meant, tells, force=force, volumes=volumes)
    for name, outcome in outcomes.items():
        if not isinstance(outcome, bool):
            tell(cli, outcome)
        elif not cli.json:
            kept = "" if volumes else "; what is in it is kept for the next `up`"
            cli.say(f"dind_{name} " + (f"has been removed{kept}" if outcome else "was not there"))
    return Exit.OK if all(isinstance(outcome, bool) for outcome in outcomes.values()) else Exit.FAILED


@command.command("init")
@verb
async def init(
    cli: Session,
    *,
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Default: stack in the data directory.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data sets that jobs may read.", show_default=False)
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="Model weights that jobs may read.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option("--gpus", metavar="WHICH", help="all or none: whether the sandboxes get the host's.")
    ] = None,
) -> None:
    """Lay down a compose file for the whole stack, with certificates and random passwords. Then: docker compose up"""
    from dind import stack
    from dind.home import Home

    if gpus not in {None, "all", "none"}:
        raise BadUse(f"--gpus {gpus}: all or none", "single ones: wyolo sandbox up --gpus UUID,UUID")
    home = Home(discovery.data_directory(cli.data_dir))
    place = folder(directory) if directory is not None else home.data_dir / "stack"
    sets = None if data is None else folder(data)
    models = None if weights is None else folder(weights)
    with told(cli):
        laid = stack.init(home, place, sets=sets, weights=models, gpus=None if gpus is None else gpus == "all")
    cli.say(f"{laid.folder}: compose.yaml, .env ({'new' if laid.fresh else 'the same'} passwords, 0600)")
    if not laid.keys:
        cli.note("! nobody could log in by SSH: ~/.ssh has no public key")
    cli.say(f"start it: cd {laid.folder} && docker compose up -d")


def _meant(home: "Home", names: Sequence[str] | None, *, every: bool = False) -> list[str]:
    """Those named, else those that were raised. `every`: with the three of the port map."""
    from dind.spec import NAMES

    raised = home.names()
    return [_known(name) for name in names] if names else list(dict.fromkeys([*(NAMES if every else ()), *raised]))


def _known(name: str) -> str:
    """As the host's Docker names it, too. Raises BadUse."""
    from dind.spec import Sandbox

    short = name.removeprefix("dind_")
    try:
        return Sandbox(name=short).name
    except ValidationError:
        raise BadUse(
            f"{name!r} is no name of a sandbox", "small letters, digits and dashes: api, environment"
        ) from None


def _wished(home: "Home", name: str, wishes: dict[str, Any], defaults: dict[str, Any]) -> "Sandbox":
    """As it was, with what was said now. Raises BadUse."""
    from dind.spec import Sandbox

    before = (defaults if name not in home.names() else {}) | home.sandbox(name).model_dump(exclude_defaults=True)
    try:
        return Sandbox.model_validate(before | {key: value for key, value in wishes.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise BadUse(f"--{first['loc'][0]}: {first['msg']}".replace("_mib", "")) from None


def _configured_folders() -> dict[str, Any]:
    """What the broker's own settings say, for a new sandbox."""
    configured = discovery.configured()
    data = tuple(folder(Path(path)) for path in configured.get("allowed_roots", []))
    weights = configured.get("weights_dir")
    return {"data": data} | ({"weights": folder(Path(weights))} if weights else {})


def _show(cli: Session, states: Sequence["State"]) -> None:
    if cli.json:
        cli.emit_list(states)
        return
    for state in states:
        cli.say(f"{MARKS[state.state]} {state.container:<18} {state.state:<9} {_about(state)}".rstrip())


def _about(state: "State") -> str:
    if state.state != "healthy":
        return state.message
    parts = [
        f"127.0.0.1:{state.port}",
        f"Docker {state.version}",
        f"{state.cpus} cores",
        f"{state.memory_mib} MiB",
        "no GPU" if state.gpus == "none" else f"GPU {state.gpus}",
        f"{len(state.jobs)} job{'' if len(state.jobs) == 1 else 's'}",
    ]
    if state.outdated:
        parts.append("to be replaced: wyolo sandbox up")
    if not state.registered:
        parts.append("unknown to the broker: wyolo sandbox up")
    return ", ".join(parts)


async def _say_what_the_broker_knows(cli: Session, states: Sequence["State"]) -> None:
    try:
        async with cli.broker() as broker:
            known = {node.name for node in await broker.nodes()}
    except Unanswered:
        return  # none runs; the next one reads them when it starts
    new = [state.container for state in states if state.container not in known]
    if new:
        cli.note(f"! the broker that runs does not know {', '.join(new)} yet: wyolo broker stop; wyolo broker start")
