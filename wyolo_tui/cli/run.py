"""wyolo run: queue any command, supervised and logged as a training is."""

import os
from pathlib import Path
from typing import Annotated

import typer

from broker.protocol.api import SubmitRequest
from broker.protocol.job import CommandWork, GpuRequest, JobSpec, Resources
from broker.protocol.states import Priority
from wyolo_tui.cli.following import wait_for
from wyolo_tui.cli.reporting import state_line, warn
from wyolo_tui.cli.requests import Follow, Hold, Image, Labels, Level, Name, Network, TaskId, Wait, read_labels
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.submit import PATIENCE_S
from wyolo_tui.cli.verb import verb
from wyolo_tui.wire import asked, own_name


@verb
async def command(
    cli: Session,
    *,
    argv: Annotated[
        list[str], typer.Argument(metavar="-- ARGV...", help="The command, after two dashes.", show_default=False)
    ],
    name: Name = None,
    priority: Level = None,
    cwd: Annotated[
        Path | None, typer.Option("--cwd", metavar="DIR", help="Where it runs; this directory unless told.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="K=V", help="For its environment; K alone: as it is here. Repeatable."),
    ] = None,
    cpus: Annotated[float, typer.Option("--cpus", metavar="N", min=0.01, help="Cores that it is counted for.")] = 1.0,
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", min=0, max=64, help="GPUs that it gets.")] = 0,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Only there.")] = None,
    image: Image = None,
    network: Network = None,
    label: Labels = None,
    task_id: TaskId = None,
    hold: Hold = False,
    wait: Wait = False,
    follow: Follow = False,
) -> Exit:
    """Queue a command: wyolo run -- python prep.py. It gets this directory and this PATH, but in an --image."""
    here = image is None  # an image has its own folders and programs
    folder = _folder(cwd) if here or cwd is not None else None
    spec = asked(
        JobSpec,
        work=asked(CommandWork, argv=argv, cwd=folder, env=_environment(env or [], here)),
        name=name or "",
        user=own_name(),
        task_id=task_id,
        priority=Priority(priority or "normal"),
        resources=asked(
            Resources,
            cpus=cpus,
            gpu=GpuRequest(count=gpus),
            node=node,
            image=image,
            network=network,
            labels=read_labels(label or ()),
        ),
    )
    async with cli.broker(PATIENCE_S) as broker:
        job, _ = await broker.submit(SubmitRequest(spec=spec, hold=hold))
        if wait or follow:
            warn(cli, job)
            return await wait_for(cli, broker, [job], log=follow)
    if cli.json:
        cli.emit(job)
    else:
        cli.say(state_line(job))
        warn(cli, job)
    return Exit.OK


def _folder(given: Path | None) -> str:
    """It, or this one, whole. Raises BadUse."""
    try:
        folder = (given or Path.cwd()).absolute()
        if not folder.is_dir():
            raise BadUse(f"there is no folder {folder}")
    except OSError as error:  # a name that is too long; this one has been removed
        raise BadUse(f"{given or 'this folder'} cannot be used ({error.strerror})", "another one: --cwd DIR") from error
    return str(folder)


def _environment(given: list[str], path: bool) -> dict[str, str]:
    """`path`: with the PATH from here."""
    values = {"PATH": os.environ["PATH"]} if path and "PATH" in os.environ else {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or (not equals and name not in os.environ):
            raise BadUse(f"--env {text}: no K=V, and no variable of that name here", "as in --env SEED=3")
        values[name] = value if equals else os.environ[name]
    return values
