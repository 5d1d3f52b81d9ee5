"""When which part of a log was read: `output.times` beside it, "<offset> <milliseconds since 1970>" a line.

Sparse, and only a convenience: a disk that is full loses times, nothing else.
"""

import logging
import os
from datetime import datetime, timedelta
from pathlib import Path

from broker.plain import open_plain
from broker.protocol.job import TIMES_NAME

_STEP = timedelta(seconds=0.5)
_log = logging.getLogger(__name__)


class TimeIndex:
    """Made with the first line."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last: datetime | None = None
        self._missing = False  # and that was said

    def add(self, offset: int, at: datetime) -> None:
        """The line at `offset` was read now, UTC."""
        if self._last is not None and at - self._last < _STEP:
            return
        self._last = at
        try:
            self._write(f"{offset} {round(at.timestamp() * 1000)}\n".encode())
            self._missing = False
        except OSError as error:
            if not self._missing:
                _log.warning("%s: lines have no times for now: %s", self._directory, error)
            self._missing = True

    def _write(self, entry: bytes) -> None:
        handle = open_plain(self._directory / TIMES_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(handle, entry)
        finally:
            os.close(handle)
