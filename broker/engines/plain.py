"""Files that a job has written, read without trusting what lies there."""

import os
import stat
from pathlib import Path

MAX_FETCH = 256 * 1024 * 1024  # bytes


def read_plain(path: Path, last: int | None = None) -> bytes:
    """A job may put anything in its directory: only a plain file is read, and of bounded size, or so many of its last
    bytes. Blocking.

    Raises FileNotFoundError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileNotFoundError(f"{path}: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or (last is None and status.st_size > MAX_FETCH):
            raise FileNotFoundError(f"{path} is not a plain file of at most {MAX_FETCH} bytes")
        left = MAX_FETCH if last is None else min(last, MAX_FETCH)
        os.lseek(handle, max(0, status.st_size - left), os.SEEK_SET)
        parts: list[bytes] = []
        while part := os.read(handle, min(left, 1 << 20)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)
