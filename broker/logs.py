"""An attempt's output as people read it: lines by byte offset, without the trainer's events, harmless and bounded.

Blocking: call it in a thread. It reads files that a process may be writing, and trusts nothing that it finds there.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from broker.beside import LOG, TIMES, beside
from broker.plain import open_plain
from broker.protocol.api import LogChunk, LogLine
from broker.protocol.job import Attempt
from broker.protocol.text import harmless
from broker.protocol.training import RECORD_SEPARATOR, TRAINER_EVENT

MOST_LINES = 10_000
CHUNK_BYTES = 4 << 20  # read for one chunk; a line that is longer goes on in another one
TAIL_BYTES = 16 << 20  # how far back a tail looks
BLOCK_BYTES = 1 << 18
TIMES_BYTES = 1 << 20  # of the index, for one chunk
_RS = RECORD_SEPARATOR.encode()


@dataclass(frozen=True, slots=True)
class _Line:
    offset: int
    data: bytes  # with its newline, where it has one

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


def read(
    attempt: Attempt,
    offset: int | None = None,
    limit: int = 1000,
    tail: int | None = None,
    since: datetime | None = None,
    *,
    before: int | None = None,
) -> LogChunk:
    """Up to `limit` lines from `offset` bytes (the beginning) and from `since` on, or the last `tail` of these, as far
    as the byte `before`.

    The end of a line that is still being written is left for the next time.
    """
    directory = Path(attempt.directory)
    ended = attempt.ended_at is not None
    start, length, end = offset or 0, 0, offset or 0
    lines: list[_Line] = []
    try:
        with _opened(beside(directory, LOG)) as file:
            length = file.seek(0, 2)
            if before is not None and before < length:
                length, ended = before, False
            if since is not None:
                start = max(start, _offset_at(beside(directory, TIMES), since))
            start = min(start, length)
            if tail is not None:
                lines, start, end = _tail(file, start, length, min(tail, MOST_LINES), ended)
            else:
                lines, end = _forward(file, start, length, min(limit, MOST_LINES), ended)
    except FileNotFoundError:
        pass
    return LogChunk(
        job_id=attempt.job_id,
        attempt=attempt.fence,
        lines=_shown(lines, beside(directory, TIMES)),
        start=start,
        next_offset=end,
        eof=ended and end >= length,
    )


def size(attempt: Attempt) -> int:
    """Bytes of output so far."""
    try:
        return beside(Path(attempt.directory), LOG).stat().st_size
    except OSError:
        return 0


def _opened(path: Path) -> BinaryIO:
    """Raises FileNotFoundError."""
    return os.fdopen(open_plain(path, os.O_RDONLY), "rb")


# --- lines ---


def _forward(file: BinaryIO, start: int, length: int, limit: int, ended: bool) -> tuple[list[_Line], int]:
    """The lines from `start` on, and where the next one begins."""
    lines: list[_Line] = []
    end, stop = start, min(length, start + CHUNK_BYTES)
    for line in _split(file, start, stop, whole=ended and stop == length):
        if len(lines) == limit:
            break
        end = line.end
        if not _is_event(line.data):
            lines.append(line)
    return lines, end


def _tail(file: BinaryIO, start: int, length: int, count: int, ended: bool) -> tuple[list[_Line], int, int]:
    """The last `count` lines, looked for further and further back; where what was looked at begins, and where the line
    after it does."""
    back = max(1 << 16, 256 * count)
    while True:
        begin = max(start, length - min(back, TAIL_BYTES))
        lines, seen, end = list[_Line](), begin, begin
        for line in _split(file, begin, length, whole=ended):
            end = line.end
            if line.offset == begin > start:  # half a line
                seen = end
            elif not _is_event(line.data):
                lines.append(line)
        if len(lines) >= count or begin == start or back >= TAIL_BYTES:
            if len(lines) > count:
                lines = lines[len(lines) - count :]
                seen = lines[0].offset if lines else end
            return lines, seen, end
        back *= 8


def _split(file: BinaryIO, start: int, stop: int, whole: bool) -> Iterator[_Line]:
    """Lines between two offsets. `whole`: what stands after the last newline is a line as well."""
    file.seek(start)
    at, rest, left = start, b"", stop - start
    while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
        left -= len(block)
        *complete, rest = (rest + block).split(b"\n")
        for text in complete:
            yield (line := _Line(at, text + b"\n"))
            at = line.end
        if len(rest) >= CHUNK_BYTES:
            yield (line := _Line(at, rest))
            at, rest = line.end, b""
    if rest and whole:
        yield _Line(at, rest)


def _is_event(data: bytes) -> bool:
    """What only looks like an event is shown."""
    if not data.startswith(_RS):
        return False
    try:
        TRAINER_EVENT.validate_json(data[1:])
    except ValidationError:
        return False
    return True


def _shown(lines: list[_Line], times: Path) -> list[LogLine]:
    index = _entries(times, lines[0].offset, lines[-1].offset) if lines else []
    shown: list[LogLine] = []
    entry, at = 0, None
    for line in lines:
        while entry < len(index) and index[entry][0] <= line.offset:
            at = datetime.fromtimestamp(index[entry][1] / 1000, UTC)
            entry += 1
        shown.append(LogLine(offset=line.offset, at=at, text=_text(line.data)))
    return shown


def _text(data: bytes) -> str:
    """A progress bar that draws itself again and again may be long: only what it ended with is looked at."""
    line = data.rstrip(b"\r\n")
    last = line.rpartition(b"\r")[2]
    return harmless((last if last.strip() else line).decode("utf-8", "replace"))


# --- the index of times: lines sorted by both numbers ---


def _entries(path: Path, first: int, last: int) -> list[tuple[int, int]]:
    """(offset, epoch_ms) from the entry that covers offset `first` to the one that covers `last`."""
    try:
        with _opened(path) as file:
            file.seek(_before(file, 0, first))
            found: list[tuple[int, int]] = []
            for raw in file.read(TIMES_BYTES).splitlines():
                entry = _entry(raw)
                if entry is not None and entry[0] > last:
                    break
                if entry is not None:
                    found.append(entry)
            return found
    except FileNotFoundError:
        return []


def _offset_at(path: Path, when: datetime) -> int:
    """The offset of the first output that was read at `when` or later; all there is where nothing was."""
    wanted = int(when.timestamp() * 1000)
    try:
        with _opened(path) as file:
            file.seek(_before(file, 1, wanted))
            for raw in file:
                entry = _entry(raw)
                if entry is not None and entry[1] >= wanted:
                    return entry[0]
    except FileNotFoundError:
        return 0
    return 1 << 62


def _before(file: BinaryIO, column: int, wanted: int) -> int:
    """Where an entry begins after which the first one with `column` >= `wanted` is near; found by halving."""
    low, high = 0, file.seek(0, 2)
    while high - low > 4096:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        begin = file.tell()
        entry = _entry(file.readline())
        if entry is not None and entry[column] < wanted and begin < high:
            low = begin
        else:
            high = middle
    return low


def _entry(raw: bytes) -> tuple[int, int] | None:
    """None for one that was cut off."""
    offset, _, at = raw.strip().partition(b" ")
    return (int(offset), int(at)) if offset.isdigit() and at.isdigit() else None
