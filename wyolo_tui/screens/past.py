"""What the events screen reads of the audit trail: the newest of it, what came since, and what was before, as far as a
person scrolls. One read at a time, each a worker that posts what it read."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from wyolo_tui.link import Link
from wyolo_tui.messages import TrailRead, TrailSettled
from wyolo_tui.unanswered import Unanswered, problem_text

if TYPE_CHECKING:
    from wyolo_tui.screens.events import EventsScreen

PAGE = 500  # numbers of the trail; not all of them are entries
WIDE = 2_000  # ... where most of them have nothing to show
FAR = 5_000  # who missed more starts with the newest again


class Past:
    def __init__(self, screen: "EventsScreen") -> None:
        self._screen = screen
        self._reads = False
        self._again = False

    def newer(self) -> None:
        """What came since; at first, or after long, the newest."""
        app = self._screen.cockpit
        trail, seq, link = app.trail, app.board.seq, app.link
        if self._reads:
            self._again = True
        elif link is not None and app.board.loaded:
            goes_on = trail.was_read and trail.low <= seq <= trail.high + FAR
            self._read(_forward(link, trail.high if goes_on else max(0, seq - PAGE)))

    def older(self) -> None:
        app = self._screen.cockpit
        trail, link = app.trail, app.link
        if not self._reads and link is not None and trail.was_read and not (trail.is_whole or trail.is_full):
            sparse = len(trail.entries) * WIDE < (trail.high - trail.low) * PAGE
            self._read(_back(link, max(0, trail.low - (WIDE if sparse else PAGE)), trail.low))

    def settled(self) -> bool:
        """The read has ended. Whether another one was begun at once."""
        self._reads = False
        again, self._again = self._again, False
        if again:
            self.newer()
        return again

    def _read(self, pages: AsyncGenerator[TrailRead]) -> None:
        self._reads = True
        self._screen.cockpit.ask(self._tell(pages), group="trail", exclusive=False)

    async def _tell(self, pages: AsyncGenerator[TrailRead]) -> None:
        problem = ""
        try:
            async with aclosing(pages):
                async for page in pages:
                    self._screen.post_message(page)
        except Unanswered as error:
            problem = problem_text(error).partition("\n")[0]
        self._screen.post_message(TrailSettled(problem))


async def _forward(link: Link, after: int) -> AsyncGenerator[TrailRead]:
    """Everything after this number, a page at a time."""
    while True:
        entries = await link.audit(after, PAGE)
        upto = entries[-1].seq if entries else after
        yield TrailRead(after, upto, entries)
        if len(entries) < PAGE:
            return
        after = upto


async def _back(link: Link, after: int, upto: int) -> AsyncGenerator[TrailRead]:
    """All of one stretch: it has no more entries than numbers."""
    entries = await link.audit(after, upto - after)
    yield TrailRead(after, upto, [entry for entry in entries if entry.seq <= upto])
