"""From an async function to a command: the options that every verb has, and its errors as exit codes."""

import asyncio
import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.unanswered import Unanswered

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="WYOLO_URL", metavar="URL", help="Address of the broker; its key in WYOLO_KEY."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", envvar="WYOLO_DATA_DIR", metavar="DIR", help="The broker's data directory, which has both."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what the broker answers, for programs.")]

_JSON = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
_PLACE = [
    inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
    inspect.Parameter("data_dir", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=DataDir),
]


_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})  # where no file is named

Verb = Callable[..., Coroutine[Any, Any, Exit | int | None]]


def verb(function: Verb) -> Callable[..., None]:
    """`async def command(cli: Session, *, ...)`, which returns its exit code or None, as a Typer command with --json,
    --url and --data-dir."""
    return _command(function, [_JSON, *_PLACE])


def verb_without_broker(function: Verb) -> Callable[..., None]:
    """The same with --json alone."""
    return _command(function, [_JSON])


def _command(function: Verb, common: list[inspect.Parameter]) -> Callable[..., None]:
    cli, *own = inspect.signature(function, eval_str=True).parameters.values()
    assert cli.annotation is Session, f"{function.__module__}: the first parameter of a verb is its Session"

    @functools.wraps(function)
    def command(**given: Any) -> None:
        session = Session(given.pop("url", None), given.pop("data_dir", None), given.pop("as_json"))
        raise typer.Exit(run(session, function(session, **given)))

    parameters = [*own, *common]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def run(session: Session, work: Coroutine[Any, Any, Exit | int | None]) -> int:
    """The exit code of it; what went wrong has been said."""
    return written(session, lambda: _run(session, work))


def _run(session: Session, work: Coroutine[Any, Any, Exit | int | None]) -> int:
    try:
        return asyncio.run(work) or Exit.OK
    except (Unanswered, BadUse) as error:
        return session.report(error)
    except KeyboardInterrupt:
        session.note("")
        if session.on_interrupt:
            session.note(session.on_interrupt)
        return Exit.INTERRUPTED


def written(session: Session, work: Callable[[], int]) -> int:
    """The exit code of what writes to standard output, also where nothing can be written there."""
    try:
        return work()
    except BrokenPipeError:  # whoever read the result has seen enough, as `head` does
        _drop_the_rest()
        return Exit.OK
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _drop_the_rest()
        session.note(f"error: the answer cannot be written ({error.strerror}); what was asked may have been done")
        return Exit.BROKER_OUT


def _drop_the_rest() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
