"""The write-ahead log's file: as long as it will be from the beginning, and copied into the ledger now and then.

Appending to a file makes each fsync write down its new length as well, which takes several times as long.
"""

import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

SIZE = 8 * 1024 * 1024  # bytes
_COMMITS = 128  # between two copies, unless it outgrows its file before
_AMPLE = 16  # times its size must be free before that much is taken at once
_ZEROS = bytes(1024 * 1024)  # SQLite takes a frame of zeros for the log's end


class Wal:
    """For the thread that writes the ledger. SQLite removes the file when the ledger is closed."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(f"{ledger.name}-wal")
        self._size = 0  # bytes that were laid out, or were needed once
        self._commits = 0

    def committed(self, db: sqlite3.Connection) -> None:
        """Called after each commit was answered. What fails here is tried again after the next."""
        self._commits += 1
        with suppress(OSError, sqlite3.Error):
            if not self._size:
                self._lay_out()
            length = self._path.stat().st_size
            if self._commits >= _COMMITS or length > self._size:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._commits, self._size = 0, max(length, SIZE)

    def _lay_out(self) -> None:
        length = self._path.stat().st_size
        self._size = SIZE
        if length >= SIZE or shutil.disk_usage(self._path.parent).free < _AMPLE * SIZE:
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for at in range(length, SIZE, len(_ZEROS)):
                os.pwrite(file, _ZEROS[: SIZE - at], at)
            os.fdatasync(file)
        finally:
            os.close(file)
