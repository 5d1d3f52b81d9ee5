"""What the cockpit reads before it follows the events: nodes, totals, and the jobs that matter."""

import asyncio
from collections.abc import Callable

from wyolo_tui.board import Board
from wyolo_tui.folding import snapshot
from wyolo_tui.link import Link

LIVE_PAGE, LIVE_MOST = 500, 10_000  # waiting and running jobs that are held
ENDED_PAGE = 200


async def read_snapshot(link: Link, first: bool, said: Callable[[Board], None]) -> Board:
    """Nodes, totals, every job that waits or runs and the newest that ended. `said` hears of the first page at once."""
    live, ended, nodes, queue = await asyncio.gather(
        link.jobs(filter="state:active,waiting", limit=LIVE_PAGE),
        link.jobs(filter="state:ended", sort="-ended", limit=ENDED_PAGE),
        link.nodes(),
        link.queue(),
    )
    jobs = [*live.jobs, *ended.jobs]
    seq = min(live.seq, ended.seq)
    board = snapshot(jobs, nodes, queue, seq, ended.next_cursor)
    cursor = live.next_cursor
    if cursor is not None and first:
        said(board)
    while cursor is not None and len(jobs) < LIVE_MOST:
        page = await link.jobs(filter="state:active,waiting", limit=LIVE_PAGE, cursor=cursor)
        jobs += page.jobs
        cursor = page.next_cursor
    return snapshot(jobs, nodes, queue, seq, ended.next_cursor)
