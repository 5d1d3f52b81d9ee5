"""wyolo events: what happened to a job or on a node, or what is happening to all of them."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Annotated

import typer

from broker.protocol.event import (
    AuditEntry,
    EpochDone,
    FollowerEvent,
    JobChanged,
    JobRemoved,
    NodeChanged,
    Progressed,
    QueueChanged,
    Resync,
    Sampled,
)
from wyolo_tui.cli.reporting import headline_values
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import complete_job, complete_node, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.feed import Feed, LinkDown, LinkUp
from wyolo_tui.present import Cell, clock, day_and_clock, number, plain
from wyolo_tui.prose import audit_data

PAGE = 1000


@verb
async def command(
    cli: Session,
    *,
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="What happened to it; all jobs, as it happens, without.",
                       autocompletion=complete_job, show_default=False),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option("--node", metavar="NAME", help="What happened there, and to it: the newest, without --after.",
                     autocompletion=complete_node, show_default=False),
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", metavar="SEQ", min=0, help="What came after that number.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", "-n", metavar="N", min=1,
                     help="Of a history, at most so many: the newest, without --after."),
    ] = 1000,
) -> Exit:  # fmt: skip
    """Show a job's or a node's history: who asked for what, and what came of it. Without either, follow all."""
    if job is not None and node is not None:
        raise BadUse("--node and a job are two histories", "ask for one of them")
    async with cli.broker() as broker:
        if node is not None:
            entries = await broker.node_events(node, after, limit)
            if cli.json:
                cli.emit_list(entries)
            else:
                _show(cli, entries, jobs=True)
            return Exit.OK
        if job is None:
            await (_follow(cli, broker) if after is None else _go_on(cli, broker, after))
            return Exit.OK
        entries = await broker.events((await one(broker, job)).id, after, limit)
    if cli.json:
        cli.emit_list(entries)
    else:
        _show(cli, entries)
    return Exit.OK


def _show(cli: Session, entries: Sequence[AuditEntry], jobs: bool = False) -> None:
    from wyolo_tui.cli.tables import grid, utc_now

    now = utc_now()
    rows: list[list[Cell | str]] = []
    for entry in entries:
        states = f"{entry.from_state or ''} {cli.glyphs.arrow} {entry.to_state}" if entry.to_state else ""
        rows.append(
            [
                [(str(entry.seq), "dim")],
                day_and_clock(entry.at, now, None),
                str(entry.job_id) if jobs and entry.job_id is not None else "",
                "" if entry.attempt is None else str(entry.attempt),
                plain(entry.verb),
                states.strip(),
                plain(entry.by),
                plain(_said(entry, now)),
            ]
        )
    cli.show(grid(["SEQ", "AT", "JOB", "ATTEMPT", "VERB", "STATE", "BY", ""], rows, right={0, 2, 3}))


def _said(entry: AuditEntry, now: datetime) -> str:
    parts = [audit_data(entry, now, None), str(entry.reason) if entry.reason and entry.message else "", entry.message]
    return ": ".join(part for part in parts if part)


async def _go_on(cli: Session, broker: BrokerClient, seq: int) -> None:
    """Everything after that number, each once, until Ctrl-C. Followers are told of what they missed as it stands by
    now, so the feed only says when there is more to read."""
    async with aclosing(Feed(broker, (await broker.health()).seq).follow()) as items:
        async for item in items:
            if isinstance(item, LinkDown):
                cli.note(f"{item.why}; trying again")
            elif isinstance(item, LinkUp | Resync) or item.seq > seq:
                while entries := await broker.audit(seq, PAGE):
                    for entry in entries:
                        if cli.json:
                            cli.emit(entry)
                        else:
                            cli.say(_entry_line(entry))
                    seq = entries[-1].seq


def _entry_line(entry: AuditEntry) -> str:
    from wyolo_tui.cli.tables import utc_now

    now = utc_now()
    whose = f"node {entry.node}" if entry.job_id is None else f"job {entry.job_id}"
    state = f", {entry.to_state}" if entry.to_state else ""
    by = f" ({entry.by})" if entry.by else ""
    return (
        f"{day_and_clock(entry.at, now, None)} {entry.seq} {whose} {entry.verb}{state}{by}: {_said(entry, now)}".rstrip(
            ": "
        )
    )


async def _follow(cli: Session, broker: BrokerClient) -> None:
    """Until Ctrl-C: what is durable, a line each; with --json everything."""
    async with aclosing(Feed(broker, (await broker.health()).seq).follow()) as items:
        async for item in items:
            match item:
                case LinkDown():
                    cli.note(f"{item.why}; trying again")
                case LinkUp():
                    pass
                case _ if cli.json:
                    cli.emit(item)
                case _:
                    line = _line(item)
                    if line:
                        cli.say(line)


def _line(event: FollowerEvent) -> str:
    """'' for what comes many times a second."""
    at = clock(event.at, None)
    match event:
        case JobChanged(job=job):
            note = f": {event.note or job.message or job.waits_for}".rstrip(": ")
            return f"{at} {event.seq} job {job.id} {job.name} {event.verb or 'changed'}, {job.state}{note}"
        case JobRemoved():
            return f"{at} {event.seq} job {event.job_id} removed"
        case EpochDone():
            values = " ".join(f"{name} {number(value)}" for name, value in headline_values(event.values).items())
            return f"{at} {event.seq} job {event.job_id} epoch {event.epoch} {values}"
        case NodeChanged(node=node):
            return f"{at} {event.seq} node {node.name} {node.state} {node.message}".rstrip()
        case Resync():
            return f"{at} too much happened at once: some of it is missing here"
        case Progressed() | Sampled() | QueueChanged():
            return ""
