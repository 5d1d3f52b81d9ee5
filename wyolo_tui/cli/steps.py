"""What the verbs about Docker daemons share: their errors told as every other, and how far they are."""

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.protocol.api import ErrorCode, Problem
from wyolo_tui import discovery
from wyolo_tui.cli.session import BadUse, Exit, Session

if TYPE_CHECKING:
    from dind.engine import Engine, Progress, Step
    from dind.errors import SandboxError
    from dind.home import Home

EngineUrl = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="URL",
        help="The host's Docker daemon: unix:///path. As it was raised on, else DOCKER_HOST, else Docker's own.",
        show_default=False,
    ),
]
UNITS = {"": 1, "m": 1, "mib": 1, "g": 1024, "gib": 1024, "t": 1024**2, "tib": 1024**2}


@contextmanager
def told(cli: Session) -> Generator[None]:
    """Ends the command with what went wrong with a daemon or a sandbox, and what to do about it."""
    from dind.errors import SandboxError

    try:
        yield
    except SandboxError as error:
        tell(cli, error)
        raise typer.Exit(Exit.FAILED) from error


@asynccontextmanager
async def opened(cli: Session, engine: str | None) -> AsyncGenerator[tuple["Engine", "Home"]]:
    """The host's daemon, and what this data directory knows. Ends the command when a daemon says no."""
    from dind.engine import connected
    from dind.home import Home

    home = Home(discovery.data_directory(cli.data_dir))
    with told(cli):
        async with connected(home.engine(engine)) as docker:
            yield docker, home


def tell(cli: Session, error: "SandboxError") -> None:
    if cli.json:
        detail = f"{error}; {error.remedy}" if error.remedy else str(error)
        cli.emit(Problem(title=type(error).__name__, status=502, detail=detail, code=ErrorCode.ENGINE))
        return
    cli.note(f"error: {error}")
    if error.remedy:
        cli.note(f"→ {error.remedy}")


@contextmanager
def progress(cli: Session) -> Generator["Progress"]:
    """On a terminal one line that changes; in a pipe a line on stderr for each step."""
    if sys.stderr.isatty() and not cli.json:
        with cli.console(stderr=True).status("") as status:
            yield lambda step: status.update(_line(step))
        return
    last = dict[str, str]()

    def note(step: "Step") -> None:
        if step.share is not None or last.get(step.subject) is None or not step.doing.startswith("building"):
            line = f"{step.subject}: {step.doing}"
            if last.get(step.subject) != line and not cli.json:
                cli.note(line)
            last[step.subject] = line

    yield note


def _line(step: "Step") -> str:
    share = "" if step.share is None else f" {step.share:4.0%}"
    return f"{step.subject}{share} {step.doing}"


def mebibytes(text: str) -> int:
    """ "64G", "512M" or a number of MiB. Raises BadUse."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :].lower()
    try:
        return int(float(number) * UNITS[unit])
    except (ValueError, KeyError):
        raise BadUse(f"{text!r} is no amount of memory", "such as 64G or 512M") from None


def folder(path: Path) -> Path:
    return path.expanduser().absolute()
