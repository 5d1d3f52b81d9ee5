"""wyolo logs: what a job wrote."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from broker.protocol.api import LogChunk, LogLine
from broker.protocol.states import FINAL
from wyolo_tui.cli.following import follow as follow_attempts
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.present import clock
from wyolo_tui.prose import looks_like_error

AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FOLLOW_TAIL = 100  # lines to begin with, unless told


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written, until the job ends.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="10m, 2h, 1d ago, or an ISO 8601 time.")
    ] = None,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="An earlier attempt than the newest.")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only lines that look like errors.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="With the time of each line.")] = False,
) -> Exit:
    """Print a job's log; control characters in it do no harm."""
    start = None if since is None else moment(since, datetime.now(UTC))

    def hear(chunk: LogChunk) -> None:
        lines = [line for line in chunk.lines if not errors or looks_like_error(line.text)]
        if start is not None:
            lines = [line for line in lines if line.at is None or line.at >= start]
        if cli.json:
            if lines or chunk.eof:
                cli.emit(chunk.model_copy(update={"lines": lines}))
            return
        for line in lines:
            cli.say(_line(line, timestamps))

    async with cli.broker() as broker:
        found = await one(broker, job)
        if attempt is not None and attempt > found.fence:
            raise BadUse(f"job {found.id} has {found.fence} attempts", f"wyolo show {found.id}")
        if follow:
            if found.state not in FINAL:
                cli.on_interrupt = f"job {found.id} goes on"
            if found.fence == 0:
                cli.note(f"job {found.id} has not been started: {found.waits_for or found.state}")
            begin = None if since else FOLLOW_TAIL if tail is None else tail
            await follow_attempts(cli, broker, found.id, hear, attempt=attempt, tail=begin, quiet=False)
        elif found.fence == 0:
            cli.note(f"job {found.id} has not been started: {found.waits_for or found.state}")
        else:
            await _print(broker, found.id, hear, attempt=attempt, tail=tail, start=start)
    return Exit.OK


def moment(text: str, now: datetime) -> datetime:
    """'10m' ago, or an ISO 8601 time, which is local where it has no zone. Raises BadUse."""
    match = AGO.fullmatch(text)
    try:
        if match:
            return now - timedelta(seconds=float(match[1]) * UNITS[match[2]])
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise BadUse(f"--since {text}: further back than time goes", "leave it out: the whole log") from None
    except ValueError:
        raise BadUse(f"--since {text}: no time", "as in 10m, 2h, 1d or 2025-01-31T12:30") from None


async def _print(
    broker: BrokerClient,
    job_id: int,
    hear: Callable[[LogChunk], None],
    *,
    attempt: int | None,
    tail: int | None,
    start: datetime | None,
) -> None:
    """All that there is now."""
    if tail is not None:
        hear(await broker.logs(job_id, attempt=attempt, tail=tail))
        return
    chunk = await broker.logs(
        job_id, attempt=attempt, since=None if start is None else start.isoformat(), offset=None if start else 0
    )
    while True:
        hear(chunk)
        if chunk.eof or not chunk.lines:
            return
        chunk = await broker.logs(job_id, attempt=chunk.attempt, offset=chunk.next_offset)


def _line(line: LogLine, timestamps: bool) -> str:
    return f"{clock(line.at, None) or '--:--:--'} {line.text}" if timestamps else line.text
