"""A file that takes up space while there is some, so that final states can still be written when there is none."""

import os
import shutil
from pathlib import Path

SIZE = 8 * 1024 * 1024  # bytes
SPARE = 1024 * 1024  # bytes that must be free besides it


class Ballast:
    def __init__(self, path: Path) -> None:
        self._path = path

    def restore(self) -> bool:
        """Make it if it is not there. False when the disk has no room for it and a little more."""
        free = shutil.disk_usage(self._path.parent).free
        if self._path.is_file() and self._path.stat().st_size >= SIZE:
            return free >= SPARE
        if free < SIZE + SPARE:
            return False
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)
