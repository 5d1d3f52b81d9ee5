"""wyolo images: the image that trainings run in, built once and brought to every node."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wyolo_tui import discovery
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.steps import EngineUrl, folder, opened, progress, tell, told
from wyolo_tui.cli.verb import verb

if TYPE_CHECKING:
    from dind.images import Copy, Where

command = typer.Typer(help="Build the image that trainings run in, and bring it to every node.")
MARKS = {"same": "✓", "other": "!", "missing": "-", "away": "✗", "unknown": "?"}
ABOUT = {
    "same": "as on the host",
    "other": "another than on the host: wyolo images push",
    "missing": "has none",
    "unknown": "the host has none",
}
HOST_ABOUT = {"same": "", "missing": "has none: wyolo images build"}

Nodes = Annotated[
    list[str] | None,
    typer.Argument(metavar="NODE...", help="All Docker nodes if none is named.", show_default=False),
]
Image = Annotated[str, typer.Option("--image", metavar="IMAGE", help="Another than the one for trainings.")]


@command.command("build")
@verb
async def build(
    cli: Session,
    *,
    engine: EngineUrl = None,
    image: Image = "wyolo-trainer",
    base: Annotated[
        str | None, typer.Option("--base", metavar="IMAGE", help="What it is built on: has Python 3.11 with venv.")
    ] = None,
    install: Annotated[
        bool, typer.Option("--install/--no-install", help="Whether Ultralytics is installed, or its base has it.")
    ] = True,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Certificates to trust meanwhile, of a company's proxy.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="Its .pt files are put into the image.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(
            "--build-arg", metavar="NAME=VALUE", help="PIP_INDEX_URL, UV_INDEX_URL ...; proxies are passed on anyway."
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="From the start, even if nothing has changed.")] = False,
) -> None:
    """Build it on the host's Docker, where that has changed what it is made of. Then: wyolo images push"""
    from dind import images

    arguments = dict[str, str]()
    for text in argument or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadUse(f"--build-arg {text}: there is no value", "--build-arg NAME=VALUE")
        arguments[name] = value
    async with opened(cli, engine) as (docker, _):
        recipe = images.recipe(
            image,
            base=base or images.DEFAULT_BASE,
            install=install,
            ca=None if ca is None else folder(ca),
            weights=None if weights is None else folder(weights),
            arguments=arguments,
        )
        with progress(cli) as tells:
            copy, new = await images.make(docker, recipe, tells, afresh=rebuild)
    if cli.json:
        cli.emit(copy)
        return
    cli.say(f"{image} {'has been built' if new else 'is what it would be'}: {copy.size_mib} MiB, {copy.digest[:19]}")
    cli.say("bring it to the nodes: wyolo images push")


@command.command("push")
@verb
async def push(
    cli: Session,
    *,
    nodes: Nodes = None,
    engine: EngineUrl = None,
    image: Image = "wyolo-trainer",
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="HOST/NAME", help="Push it there and pull it from there, not by streams."),
    ] = None,
) -> Exit:
    """Bring it from the host's Docker to the nodes that have none, or another."""
    from dind import images

    where = _nodes(cli, nodes)
    async with opened(cli, engine) as (docker, _):
        with progress(cli) as tells:
            outcomes = await images.push(docker, where, image, tells, registry=registry)
    copies = list["Copy"]()
    for name, outcome in outcomes.items():
        if isinstance(outcome, tuple):
            copies.append(outcome[0])
            if not cli.json:
                cli.say(f"{name} {'has received' if outcome[1] else 'has'} {image}: {outcome[0].digest[:19]}")
        else:
            tell(cli, outcome)
    if cli.json:
        cli.emit_list(copies)
    return Exit.OK if len(copies) == len(outcomes) else Exit.FAILED


@command.command("status")
@verb
async def status(cli: Session, *, engine: EngineUrl = None, image: Image = "wyolo-trainer") -> Exit:
    """Show who has it, and whether it is the same everywhere. Fails where it is not."""
    from dind import images

    async with opened(cli, engine) as (docker, _):
        copies = await images.status(docker, _nodes(cli, None), image)
    if cli.json:
        cli.emit_list(copies)
    else:
        for copy in copies:
            size = f"{copy.size_mib} MiB {copy.digest[:19]}  " if copy.digest else ""
            about = copy.message or (HOST_ABOUT if copy.node == "host" else ABOUT)[copy.state]
            cli.say(f"{MARKS[copy.state]} {copy.node:<18} {size}{about}".rstrip())
    return Exit.OK if all(copy.state == "same" for copy in copies) else Exit.FAILED


def _nodes(cli: Session, names: Sequence[str] | None) -> list["Where"]:
    """The Docker nodes of the broker's settings, and the sandboxes. Raises BadUse for a name that is none's."""
    from dind.home import Home
    from dind.images import Where

    with told(cli):
        tables: dict[str, dict[str, Any]] = Home(discovery.data_directory(cli.data_dir)).registered()
    for table in discovery.configured().get("nodes", []):
        if table.get("engine") == "docker" and "name" in table:
            tables[str(table["name"])] = table
    known = {
        name: Where(name, str(table.get("url", "")), Path(table["tls"]) if table.get("tls") else None)
        for name, table in tables.items()
    }
    missing = [name for name in names or [] if name not in known]
    if missing:
        raise BadUse(f"{missing[0]} is no Docker node", f"there are {', '.join(known) or 'none'}: wyolo sandbox up")
    return [known[name] for name in names] if names else list(known.values())
