"""When which part of a log was read: a line of the file `<fence>.times` says from which offset on.

Sparse, and only a convenience: a disk that is full loses times, nothing else.
"""

import logging
import os
from datetime import datetime, timedelta
from pathlib import Path

from broker.beside import TIMES, beside
from broker.plain import open_plain

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
        handle = open_plain(beside(self._directory, TIMES), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(handle, entry)
        finally:
            os.close(handle)
