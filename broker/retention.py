"""Which ended jobs' files have been kept for long enough (`keep_days`), and that they go: looked for once an hour.

What was written down of a job stays: its curves, results and history. Its directory is what says that it has files.
"""

import asyncio
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from broker.control import Control
from broker.errors import Conflict, NotFound
from broker.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


def past(ended: Mapping[int, datetime], needed: Collection[int], now: datetime, keep_days: float) -> list[int]:
    """Jobs whose files may go. `ended`: when they did. `needed`: jobs whose files another names. Pure."""
    if not keep_days:
        return []
    before = now - timedelta(days=keep_days)
    return sorted(job_id for job_id, at in ended.items() if at < before and job_id not in needed)


def named(specs: Iterable[str], jobs_dir: Path) -> set[int]:
    """Jobs whose files are named in these (JSON): weights to start from, say, or words of a command."""
    inside = re.compile(rf"{re.escape(str(jobs_dir))}/+(\d+)(?!\d)")
    return {int(found) for spec in specs for found in inside.findall(spec)}


class Retention:
    def __init__(self, ledger: Ledger, control: Control, jobs_dir: Path, keep_days: float) -> None:
        self._ledger = ledger
        self._control = control
        self._jobs_dir = jobs_dir
        self._keep_days = keep_days

    async def sweep(self, now: datetime) -> list[int]:
        """The jobs whose files were removed."""
        if not self._keep_days:
            return []
        there = await asyncio.to_thread(_numbers, self._jobs_dir)
        needed = named(await self._ledger.specs_ahead(), self._jobs_dir)
        removed: list[int] = []
        for job_id in past(await self._ledger.ended(there), needed, now, self._keep_days):
            with suppress(Conflict, NotFound):  # resumed or removed this instant
                await self._control.expire(job_id, f"kept for {self._keep_days:g} days after its end (keep_days)")
                removed.append(job_id)
        if removed:
            _log.info("the files of %d jobs were kept for %g days, and are removed", len(removed), self._keep_days)
        return removed


def _numbers(folder: Path) -> list[int]:
    return [int(each.name) for each in folder.iterdir() if each.name.isdecimal()] if folder.is_dir() else []
