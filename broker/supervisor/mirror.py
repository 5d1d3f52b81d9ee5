"""Live progress and log tails for other programs, in Redis. A mirror: what Redis misses is not told again, and no job
ever waits for it."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping

from broker.errors import QueueDown
from broker.queue import Queue

_INTERVAL_S = 0.5  # between writes
_RETRY_S = 2.0  # after Redis did not answer
_LINES = 1000  # for each job, at most, between two writes
_log = logging.getLogger(__name__)


class Mirror:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._wake = asyncio.Event()
        self._progress: dict[str, dict[str, str]] = {}
        self._tails: dict[str, deque[str]] = {}
        self._down = False

    def progress(self, task_id: str, fields: Mapping[str, str]) -> None:
        self._progress.setdefault(task_id, {}).update(fields)
        self._wake.set()

    def tail(self, task_id: str, lines: Iterable[str]) -> None:
        kept = self._tails.get(task_id)
        if kept is None:
            kept = self._tails[task_id] = deque(maxlen=_LINES)
        kept.extend(lines)
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wake.wait()
            await self.flush()
            await asyncio.sleep(_RETRY_S if self._down else _INTERVAL_S)

    async def flush(self) -> None:
        """Write what there is, or drop it where Redis does not answer."""
        self._wake.clear()
        progress, self._progress = self._progress, {}
        tails, self._tails = self._tails, {}
        try:
            for task_id, fields in progress.items():
                await self._queue.progress(task_id, fields)
            for task_id, lines in tails.items():
                await self._queue.tail(task_id, list(lines))
        except QueueDown as error:
            if not self._down:
                _log.warning("live progress is not shown to other programs for now: %s", error)
            self._down = True
        else:
            self._down = False
