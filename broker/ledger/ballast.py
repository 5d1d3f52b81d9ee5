"""A file that takes up space while there is some, so that final states can still be written when there is none."""

import os
import shutil
import sqlite3
from pathlib import Path

SIZE = 8 * 1024 * 1024  # bytes
SPARE = 1024 * 1024  # bytes that must be free besides it


def disk_full(error: sqlite3.Error, folder: Path) -> bool:
    """Whether SQLite failed for want of space; it calls some of these plain I/O errors."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return True
    return code == sqlite3.SQLITE_IOERR and shutil.disk_usage(folder).free < SPARE


class Ballast:
    """Lies beside the ledger."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name("ballast")

    def restore(self) -> bool:
        """Make it if it is not there. False when the disk has no room for it and a little more."""
        try:
            free = shutil.disk_usage(self._path.parent).free
            if self._path.is_file() and self._path.stat().st_size >= SIZE:
                return free >= SPARE
            if free < SIZE + SPARE:
                return False
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> bool:
        """False when it was not there."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
