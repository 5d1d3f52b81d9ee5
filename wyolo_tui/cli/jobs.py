"""wyolo jobs: what is in work, waiting and done."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from broker.protocol.api import JobPage
from broker.protocol.event import EpochDone, JobChanged, JobRemoved, NodeChanged, Progressed, QueueChanged
from broker.protocol.filter import SORTS
from broker.protocol.fleet import Node
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.verb import verb
from wyolo_tui.client import BrokerClient
from wyolo_tui.columns import COLUMNS, USUAL
from wyolo_tui.feed import Feed, LinkDown, LinkUp

if TYPE_CHECKING:
    from rich.text import Text

AT_MOST_EVERY_S = 0.5
NAMES = ", ".join(column.id for column in COLUMNS)


@dataclass(frozen=True, slots=True)
class Query:
    """Which jobs, in which order, and what of them."""

    filter: str
    sort: str
    limit: int
    columns: frozenset[str]

    async def ask(self, broker: BrokerClient) -> tuple[JobPage, list[Node]]:
        """The nodes tell a GPU's index from its UUID: asked only where there is one."""
        page = await broker.jobs(self.filter, self.sort, self.limit)
        while page.next_cursor is not None and len(page.jobs) < self.limit:  # where few fit, pages are short
            more = await broker.jobs(self.filter, self.sort, self.limit - len(page.jobs), page.next_cursor)
            page = page.model_copy(update={"jobs": page.jobs + more.jobs, "next_cursor": more.next_cursor})
        return page, await broker.nodes() if any(job.gpus for job in page.jobs) else []


@verb
async def command(
    cli: Session,
    *,
    filter: Annotated[
        str, typer.Option("--filter", "-F", metavar="FILTER", help="'state:failed @node user:ana map50>0.6 words'.")
    ] = "",
    sort: Annotated[str, typer.Option("--sort", metavar="BY", help=f"{', '.join(SORTS)}; -BY for the other way.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=1000, help="At most so many.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on as they change, until Ctrl-C.")] = False,
    columns: Annotated[
        str | None, typer.Option("--columns", "-c", metavar="A,B,...", help=f"Which, of: {NAMES}.")
    ] = None,
) -> Exit:
    """List jobs: what runs, then what waits in its order, then what ended."""
    query = Query(filter, sort, limit, USUAL if columns is None else _chosen(columns))
    async with cli.broker() as broker:
        if watch:
            await (_print_events if cli.json else _live)(cli, broker, query)
            return Exit.OK
        page, nodes = await query.ask(broker)
    if cli.json:
        cli.emit(page)
        return Exit.OK
    cli.show(_lines(cli, query, page, nodes))
    if page.next_cursor is not None:
        cli.note(f"there are more than these {len(page.jobs)}: --limit, --filter")
    if not page.jobs:
        cli.note("no job fits" if filter else "no jobs yet: wyolo submit train.yaml")
    return Exit.OK


def _chosen(columns: str) -> frozenset[str]:
    names = [name.strip().lower() for name in columns.split(",") if name.strip()]
    known = {column.id for column in COLUMNS}
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise BadUse(f"--columns: there is no {', '.join(wrong) or 'column named'}", f"there are {NAMES}")
    return frozenset(names)


def _lines(cli: Session, query: Query, page: JobPage, nodes: list[Node], rows: int | None = None) -> Iterable["Text"]:
    from wyolo_tui.cli.tables import jobs_lines, utc_now

    jobs = page.jobs[:rows]
    return jobs_lines(jobs, width=cli.width, glyphs=cli.glyphs, chosen=query.columns, now=utc_now(), nodes=nodes)


async def _live(cli: Session, broker: BrokerClient, query: Query) -> None:
    """Redrawn when something has changed, at most twice a second. The broker filters and sorts, as it does once."""
    console = cli.console()
    if not console.is_terminal:
        raise BadUse("--watch redraws a terminal, and this is a pipe", "for programs: --watch --json")
    from rich.live import Live
    from rich.text import Text

    def picture(page: JobPage, nodes: list[Node], footer: str) -> Text:
        room = max(3, console.height - 3)
        lines = [*_lines(cli, query, page, nodes, room), Text(footer, style="dim")]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    page, nodes = await query.ask(broker)
    changed, footer = asyncio.Event(), "Ctrl-C ends this; the jobs go on"

    async def listen() -> None:
        nonlocal footer
        async with aclosing(Feed(broker, page.seq).follow()) as items:
            async for item in items:
                match item:
                    case LinkDown():
                        footer = f"{item.why}: as it was, and tried again"
                    case LinkUp():
                        footer = "Ctrl-C ends this; the jobs go on"
                    case _:
                        pass
                changed.set()

    listener = asyncio.create_task(listen(), name="feed of the table")
    try:
        with Live(picture(page, nodes, footer), console=console, auto_refresh=False, redirect_stdout=False) as live:
            while not listener.done():
                await changed.wait()
                changed.clear()
                if footer.startswith("Ctrl-C"):
                    page, nodes = await query.ask(broker)
                live.update(picture(page, nodes, footer), refresh=True)
                await asyncio.sleep(AT_MOST_EVERY_S)
            await listener
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _print_events(cli: Session, broker: BrokerClient, query: Query) -> None:
    """The page, then a line for each event."""
    page, _ = await query.ask(broker)
    cli.emit(page)
    async with aclosing(Feed(broker, page.seq).follow()) as items:
        async for item in items:
            if isinstance(item, JobChanged | JobRemoved | EpochDone | Progressed | NodeChanged | QueueChanged):
                cli.emit(item)
