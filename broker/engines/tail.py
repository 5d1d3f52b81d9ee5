"""The end of a growing log: bytes -> complete lines with their offsets, in bounded memory."""

import ctypes
import os
from pathlib import Path

from broker.engines.base import MAX_LINE, RawLine
from broker.plain import open_plain

CHUNK = 65_536  # bytes for each read
BACKLOG = 4 * 1024 * 1024  # bytes that a reader may be behind before it is moved on
PUNCH = 16 * 1024 * 1024  # bytes past the log's limit that are given back to the disk at a time
_RECORD = b"\x1e"
_KEEP_SIZE_PUNCH_HOLE = 0x03


class Lines:
    """Cuts a stream of bytes that begins at `offset` into lines."""

    def __init__(self, offset: int, mid_line: bool = False) -> None:
        """`mid_line`: the bytes up to the first newline are the rest of a line that nobody wants."""
        self._at = offset  # where the unfinished line begins
        self._kept = bytearray()  # its first bytes, at most MAX_LINE
        self._length = 0
        self._discard = mid_line

    def feed(self, data: bytes) -> list[RawLine]:
        """The lines that `data` completes."""
        *ended, rest = data.split(b"\n")
        lines: list[RawLine] = []
        for part in ended:
            self._grow(part)
            lines.extend(self._end(newline=1))
        self._grow(rest)
        return lines

    def flush(self) -> list[RawLine]:
        """The last line, where the stream ended without a newline."""
        return self._end(newline=0) if self._length else []

    def _grow(self, part: bytes) -> None:
        room = MAX_LINE - len(self._kept)
        self._kept += part if len(part) <= room else part[:room]
        self._length += len(part)

    def _end(self, newline: int) -> list[RawLine]:
        end = self._at + self._length + newline
        line = RawLine(self._at, end, bytes(self._kept), self._length - len(self._kept))
        wanted = not self._discard
        self._at, self._length, self._discard = end, 0, False
        self._kept.clear()
        return [line] if wanted else []


class Tail:
    """Reads a log from `offset`. A reader that has fallen far behind is moved on to the newest lines, and past `keep`
    bytes only lines with events are read, after a last one that shows that the limit was passed, and the disk's space
    is given back: a flood harms nobody."""

    def __init__(self, path: Path, offset: int, keep: int) -> None:
        """Raises FileNotFoundError, also where it is no plain file, and OSError."""
        self._fd = open_plain(path, os.O_RDWR)
        self._position = offset
        self._lines = Lines(offset)
        self._keep = keep
        self._punched = keep
        self._passed = offset > keep  # and that was shown

    def read(self) -> list[RawLine] | None:
        """The next complete lines (maybe none yet), or None when everything written so far has been read."""
        data = os.pread(self._fd, CHUNK, self._position)
        if not data:
            return None
        self._position += len(data)
        lines = self._lines.feed(data)
        if len(data) == CHUNK:
            self._catch_up()
        if self._position > self._keep:
            lines = [line for line in lines if self._is_wanted(line)]
            self._give_back()
        return lines

    def rest(self) -> list[RawLine]:
        """The unfinished last line; nothing more will come."""
        return self._lines.flush()

    def close(self) -> None:
        os.close(self._fd)

    def _is_wanted(self, line: RawLine) -> bool:
        if line.end <= self._keep or _RECORD in line.data:
            return True
        first, self._passed = not self._passed, True
        return first

    def _catch_up(self) -> None:
        size = os.fstat(self._fd).st_size
        if size - self._position > BACKLOG:
            self._position = size - CHUNK
            self._lines = Lines(self._position, mid_line=True)

    def _give_back(self) -> None:
        if self._position - self._punched > PUNCH:
            length = (self._position - self._punched) // 4096 * 4096
            _libc.fallocate(self._fd, _KEEP_SIZE_PUNCH_HOLE, self._punched, length)  # best effort: not all disks can
            self._punched += length


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
