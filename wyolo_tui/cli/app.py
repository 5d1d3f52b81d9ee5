"""The `wyolo` command: its verbs, each a file of this package, and what happens without one: the cockpit opens."""

import asyncio
import os
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

import typer

from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.verb import DataDir, Url, written

VERBS = {
    "Make": ("submit", "run", "rerun", "edit"),
    "Look": ("jobs", "show", "logs", "metrics", "events", "files", "nodes", "exec", "wait"),
    "Control": ("stop", "kill", "resume", "hold", "release", "priority", "move", "preempt", "resolve", "rm"),
    "Nodes": ("node",),
    "Sandboxes": ("sandbox", "images"),
    "wyolo": ("broker", "doctor", "demo"),
}
PANELS = {name: panel for panel, names in VERBS.items() for name in names}
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # Typer has it, and does not export it
RAW = frozenset({"broker"})  # what follows is the broker's own
PASSED_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
EPILOG = (
    "JOB is an id (12), a range (3-7) or a name. Exit codes: 0 ok, 1 the job failed or was stopped, 2 bad input, "
    "3 broker out of reach, 130 interrupted."
)


def build(names: Iterable[str] = PANELS) -> typer.Typer:
    """The command with these verbs. One alone for a verb that was typed: building all takes longer than it does."""
    app = typer.Typer(
        name="wyolo",
        add_completion=True,
        no_args_is_help=False,
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    app.callback()(cockpit)
    for name in names:
        command = import_module(f"wyolo_tui.cli.{name}").command
        if isinstance(command, typer.Typer):  # it has verbs of its own
            app.add_typer(command, name=name, rich_help_panel=PANELS[name])
            continue
        app.command(
            name,
            rich_help_panel=PANELS[name],
            context_settings=PASSED_ON if name in RAW else None,
            no_args_is_help=False,
        )(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"wyolo {version('wyolo')}")
        raise typer.Exit


def cockpit(
    context: typer.Context,
    *,
    url: Url = None,
    data_dir: DataDir = None,
    theme: Annotated[
        str | None, typer.Option("--theme", metavar="NAME", help="Of the cockpit: dark, light, colour-blind, ansi.")
    ] = None,
    unicode: Annotated[
        bool, typer.Option("--unicode/--no-unicode", help="Whether the cockpit may draw more than ASCII.")
    ] = True,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which wyolo this is.")
    ] = False,
) -> None:
    """Queue, watch, stop and resume YOLO and RT-DETR trainings. Without a verb the cockpit opens."""
    if context.invoked_subcommand is not None:  # wyolo --data-dir X jobs: the verb reads it where it reads its own
        for name, value in (("WYOLO_URL", url), ("WYOLO_DATA_DIR", data_dir)):
            if value is not None:
                os.environ[name] = str(value)
        return
    from wyolo_tui.cli.cockpit import open_cockpit

    raise typer.Exit(asyncio.run(open_cockpit(url, data_dir, theme=theme, unicode=unicode)))


def main(arguments: list[str]) -> int:
    """Runs the verb and returns its exit code; what was typed wrongly is told as every other error is."""
    verb = arguments[0] if arguments and arguments[0] in PANELS else ""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session = Session(json="--json" in ours)
    try:
        _check_text(arguments)
        return build([verb] if verb else PANELS)(arguments, prog_name="wyolo", standalone_mode=False) or 0
    except _USAGE_ERROR as error:
        said = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
        wrong = BadUse(said, f"how it is used: wyolo {verb} --help".replace("  ", " "))
    except BadUse as error:
        wrong = error
    except typer.Abort:
        return Exit.INTERRUPTED
    return written(session, lambda: session.report(wrong))


def _check_text(arguments: list[str]) -> None:
    """Raises BadUse for bytes that are no text where we are: neither the broker nor its answers could carry them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise BadUse(f"{argument!a} is no text in UTF-8", "if it is, say so: LC_ALL=C.UTF-8") from None
