"""What the jobs screen reads about the selected job: its log as it is written, and its curves, configuration and events
once their tab is open. Each is a worker that posts what it read; choosing another job ends them all."""

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING

from wyolo_tui.link import Link
from wyolo_tui.messages import AuditRead, JobRead, LogRead, MetricsRead, OlderRead
from wyolo_tui.scrollback import Gap
from wyolo_tui.together import Together

if TYPE_CHECKING:
    from broker.protocol.api import LogChunk
    from broker.protocol.job import Job
    from wyolo_tui.screens.jobs import JobsScreen

TAIL = 1_000  # lines of a log that are read at first
GAP_LINES = 1_000  # of what is not held, read at once
LOG_TICK_S = 0.25
LOG_MOST = 2_000  # lines told at once; of a flood the newest
PAGE = 200
AUDIT_MOST = 500


class Reading:
    def __init__(self, screen: "JobsScreen") -> None:
        self._screen = screen
        self._job: Job | None = None
        self._had: set[str] = set()  # tabs whose content was read for this job
        self._older_jobs_asked: str | None = None

    def start(self, job: "Job | None") -> None:
        self._job = job
        self._had = set()
        for group in ("log", "log-gap", "config", "curves", "events"):
            self._screen.cockpit.cancel(group)
        if job is not None:
            self.want(*self._screen.detail.shown)

    def again(self) -> None:
        """The board was read again: so is what the tab shows."""
        self._had -= {"curves", "events", "config"}
        self.want(*self._screen.detail.shown)

    def want(self, *tabs: str) -> None:
        """Read what these tabs show, once for each job."""
        for tab in tabs:
            self._want(tab)

    def _want(self, tab: str) -> None:
        job, link = self._job, self._screen.cockpit.link
        if job is None or link is None or tab in self._had:
            return
        self._had.add(tab)
        match tab:
            case "log" if job.fence:
                self._ask(self._log(link, job.id), "log")
            case "curves" if job.kind == "train":
                self._ask(self._metrics(link, job.id), "curves")
            case "config":
                self._ask(self._config(link, job.id), "config")
            case "events":
                self._ask(self._events(link, job.id), "events")
            case _:
                pass

    def job_changed(self, before: "Job", job: "Job") -> None:
        self._job = job
        if job.fence != before.fence:
            self._had -= {"log", "curves"}
        if (job.state, job.fence, job.reason) != (before.state, before.fence, before.reason):
            self._had -= {"events", "config"}
        self.want(*self._screen.detail.shown)

    def gap(self, attempt: int, gap: Gap, forward: bool) -> None:
        """Log lines of a gap: the first of them, or the last."""
        job, link = self._job, self._screen.cockpit.link
        if job is not None and link is not None:
            self._ask(self._gap(link, job.id, attempt, gap, forward), "log-gap")

    def older_jobs(self) -> None:
        """Ended jobs before the oldest that is held."""
        cursor, link = self._screen.cockpit.board.cursor, self._screen.cockpit.link
        if cursor is None or link is None or cursor == self._older_jobs_asked:
            return
        self._older_jobs_asked = cursor
        self._ask(self._older_page(link, cursor), "older-jobs")

    def matching(self, text: str, only_broker_knows: bool) -> None:
        """Jobs that match a filter, among all that the broker has."""
        link = self._screen.cockpit.link
        if link is not None:
            self._ask(self._matching(link, text, only_broker_knows), "matching")

    def _ask(self, coroutine: Awaitable[None], group: str) -> None:
        self._screen.cockpit.ask(coroutine, group=group)

    async def _config(self, link: Link, job_id: int) -> None:
        self._screen.post_message(JobRead(await link.job(job_id)))

    async def _metrics(self, link: Link, job_id: int) -> None:
        self._screen.post_message(MetricsRead(await link.metrics(job_id)))

    async def _events(self, link: Link, job_id: int) -> None:
        self._screen.post_message(AuditRead(job_id, await link.events(job_id, limit=AUDIT_MOST)))

    async def _log(self, link: Link, job_id: int) -> None:
        """The tail and then what is written; told at most four times a second, of a flood only the newest lines."""
        from broker.protocol.api import LogChunk

        fresh = True

        def tell(came: list[LogChunk]) -> None:
            nonlocal fresh
            self._screen.post_message(LogRead(job_id, joined(came), fresh=fresh))
            fresh = False

        chunks = Together(LOG_TICK_S, tell)
        try:
            async with aclosing(link.follow_log(job_id, tail=TAIL)) as items:
                async for item in items:
                    if isinstance(item, LogChunk):
                        chunks.add(item)
        finally:
            chunks.drop_timer()
            if self._job is not None and self._job.id == job_id:
                chunks.tell()

    async def _gap(self, link: Link, job_id: int, attempt: int, gap: Gap, forward: bool) -> None:
        limit, tail = (GAP_LINES, None) if forward else (None, GAP_LINES)
        chunk = await link.logs(
            job_id, attempt=attempt or None, offset=gap.start, before=gap.end, limit=limit, tail=tail
        )
        self._screen.post_message(LogRead(job_id, chunk, missed=True))

    async def _older_page(self, link: Link, cursor: str) -> None:
        page = await link.jobs(filter="state:ended", sort="-ended", limit=PAGE, cursor=cursor)
        self._screen.cockpit.post_message(OlderRead(page, advance=True))

    async def _matching(self, link: Link, text: str, only_broker_knows: bool) -> None:
        await asyncio.sleep(0.2)  # a person is typing
        page = await link.jobs(filter=text, sort="-id", limit=PAGE)
        self._screen.cockpit.post_message(OlderRead(page, advance=False))
        if only_broker_knows:
            self._screen.matched(text, [job.id for job in page.jobs])


def joined(chunks: list["LogChunk"]) -> "LogChunk":
    """Of the newest attempt. What is dropped is missing from its `start`, too."""
    newest = [chunk for chunk in chunks if chunk.attempt == chunks[-1].attempt]
    lines = [line for chunk in newest for line in chunk.lines]
    start = newest[0].start if len(lines) <= LOG_MOST else lines[-LOG_MOST].offset
    return newest[-1].model_copy(update={"lines": lines[-LOG_MOST:], "start": start})
