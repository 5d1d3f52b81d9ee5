"""The broker followed: a snapshot, then what happens after it, told in messages. Nothing here owns any state."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from textual.message import Message

from wyolo_tui.board import Board
from wyolo_tui.link import Link
from wyolo_tui.messages import EventsCame, LinkCame, LinkWent, SnapshotRead
from wyolo_tui.together import Together

if TYPE_CHECKING:
    from broker.protocol.event import FollowerEvent

TICK_S = 0.25  # the screens hear of what came at most four times a second
RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0)
Post = Callable[[Message], object]


async def track(link: Link, post: Post, loaded: Callable[[], bool]) -> None:
    """Again from the start after a resync or a lost connection. Returns only when trying again is of no use. `loaded`:
    there is a board to show already."""
    from wyolo_tui.snapshot import read_snapshot
    from wyolo_tui.unanswered import ProblemError, Unanswered, problem_text

    def said(board: Board) -> None:
        post(SnapshotRead(board))

    failures = 0
    while True:
        try:
            board = await read_snapshot(link, first=failures == 0 and not loaded(), said=said)
            failures = 0
            said(board)
            await _follow(link, post, board.seq)
            continue
        except ProblemError as error:
            why = problem_text(error)
            if error.problem.status < 500:
                post(LinkWent(why, 0.0, for_good=True))
                return
        except Unanswered as error:
            why = str(error)
        wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
        post(LinkWent(why, wait_s))
        await asyncio.sleep(wait_s)
        failures += 1


async def _follow(link: Link, post: Post, seq: int) -> None:
    """Until what is held must be read again. What comes within a tick is told together."""
    from broker.protocol.event import Resync
    from wyolo_tui.feed import LinkDown, LinkUp

    events: Together[FollowerEvent] = Together(TICK_S, lambda came: post(EventsCame(came)))
    was_up = False
    try:
        async with aclosing(link.follow(seq)) as items:
            async for item in items:
                if isinstance(item, LinkUp):
                    if was_up:
                        return  # what was missed meanwhile and is not in the ledger: read it again
                    was_up = True
                    post(LinkCame())
                elif isinstance(item, LinkDown):
                    events.tell()
                    was_up = True
                    post(LinkWent(item.why, item.retry_s))
                elif isinstance(item, Resync):
                    return
                else:
                    events.add(item)
    finally:
        events.tell()
