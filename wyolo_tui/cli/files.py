"""wyolo files: what a job left behind."""

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from broker.protocol.api import FileEntry
from broker.protocol.job import Job
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.present import day_and_clock, plain


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    get: Annotated[
        str | None, typer.Option("--get", metavar="PATH", help="Copy that file here; a name such as best.pt does.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DEST", help="A file (replaced) or a folder to copy it to.")
    ] = None,
) -> Exit:
    """List a job's files (log, checkpoints, plots, results), or copy one."""
    async with cli.broker() as broker:
        found = await one(broker, job)
        entries = await broker.files(found.id)
        if get is not None:
            await _fetch(cli, broker, found, _meant(entries, get), out)
            return Exit.OK
    if out is not None:
        raise BadUse("--out is where to copy what --get names", f"as in wyolo files {found.id} --get best.pt -o .")
    if cli.json:
        cli.emit_list(entries)
        return Exit.OK
    from wyolo_tui.cli.tables import grid, utc_now

    now = utc_now()
    rows = [[f"{entry.size:,}", day_and_clock(entry.modified, now, None), plain(entry.path)] for entry in entries]
    cli.show(grid(["BYTES", "CHANGED", "PATH"], rows, right={0}))
    return Exit.OK


def _meant(entries: list[FileEntry], wanted: str) -> FileEntry:
    """The file at that path, else the newest whose path ends so."""
    parts = PurePosixPath(wanted).parts
    fitting = [entry for entry in entries if PurePosixPath(entry.path).parts[-len(parts) :] == parts]
    if not fitting:
        raise BadUse(f"there is no file {wanted}", "what there is: the same without --get")
    exact = [entry for entry in fitting if entry.path == wanted]
    return exact[0] if exact else max(fitting, key=lambda entry: entry.modified)


async def _fetch(cli: Session, broker: BrokerClient, job: Job, entry: FileEntry, out: Path | None) -> None:
    destination = _place(PurePosixPath(entry.path).name, out)
    try:
        if sys.stderr.isatty() and not cli.json:
            from rich.progress import Progress

            with Progress(transient=True, console=cli.console(stderr=True)) as progress:
                bar = progress.add_task(plain(entry.path), total=entry.size)
                await broker.fetch(
                    job.id, entry.path, destination, lambda done, _: progress.update(bar, completed=done)
                )
        else:
            await broker.fetch(job.id, entry.path, destination)
    except OSError as error:
        raise BadUse(f"{destination} cannot be written ({error.strerror})") from error
    if cli.json:
        cli.emit(entry)
    else:
        cli.say(f"{entry.path} is in {destination}")


def _place(name: str, out: Path | None) -> Path:
    """Raises BadUse rather than to replace a file that nobody spoke of."""
    if out is not None:
        return out / name if out.is_dir() else out
    here = Path(name)
    if here.exists():
        raise BadUse(f"{name} exists already", f"replace it with -o {name}, or name another place")
    return here
