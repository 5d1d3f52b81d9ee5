"""Files in a job's directory, opened without trusting what lies there: the job may have put anything in their place.

A FIFO would hold up whoever opens it until somebody opens its other end, and a link would lead elsewhere.
"""

import errno
import os
import stat
from pathlib import Path

MAX_FETCH = 256 * 1024 * 1024  # bytes


def open_plain(path: Path | str, flags: int) -> int:
    """A descriptor of a plain file. Never waits. Raises FileNotFoundError where something else lies there, OSError."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if _is_something_else(path):
            raise _not_plain(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _not_plain(path)
    return handle


def read_plain(path: Path, last: int | None = None) -> bytes:
    """All of a plain file of bounded size, or so many of its last bytes. Blocking. Raises FileNotFoundError."""
    try:
        handle = open_plain(path, os.O_RDONLY)
    except OSError as error:
        raise FileNotFoundError(f"{path}: {error.strerror}") from error
    try:
        size = os.fstat(handle).st_size
        if last is None and size > MAX_FETCH:
            raise FileNotFoundError(f"{path} has more than {MAX_FETCH} bytes")
        left = MAX_FETCH if last is None else min(last, MAX_FETCH)
        os.lseek(handle, max(0, size - left), os.SEEK_SET)
        parts: list[bytes] = []
        while part := os.read(handle, min(left, 1 << 20)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def _is_something_else(path: Path | str) -> bool:
    try:
        return not stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _not_plain(path: Path | str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "not a plain file", str(path))
