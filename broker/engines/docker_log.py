"""A container's log as the daemon tells it -> a file on the broker's disk, every entry once, also across restarts.

The daemon sends entries (a line, or 16 KiB of a long one) with timestamps that repeat and, between stdout and stderr,
are not quite in order. So a place in the log is a timestamp well before it and the number of entries since then.
"""

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from broker.engines.docker_record import RecordFile

HEADER = 8  # bytes: stream, three zeros, length (big endian)
MARGIN_S = 2  # by which entries may be out of order
SAVE_S = 0.5  # between two records of the place
AGAIN_S = (0.05, 1.0)  # first and longest pause before a log that ended too early is read on
FULL_S = 1.0  # between two tries to write to a full disk


class Source(Protocol):
    """One container's log, on its daemon. Both raise EngineUnreachable."""

    def read(self, since: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """The multiplexed stream with timestamps, from `since` (seconds.nanoseconds) on, until the daemon ends it."""
        ...

    async def last(self) -> bytes:
        """The newest entry, as `read` would give it; empty where there is none."""
        ...


class Place:
    """Counts entries from two timestamps, the older of which is MARGIN_S or more in the past, or the beginning."""

    def __init__(self, since: bytes = b"", seen: int = 0) -> None:
        self.since = since
        self.seen = seen
        self._next: bytes | None = None
        self._next_seen = 0
        self._turn = b""  # the first entry after this time, which all before it keep to, is a place to count from

    def skip(self, at: bytes) -> None:
        """An entry that was counted before a restart."""
        if self._next is None:
            self._turn = max(self._turn, at)

    def count(self, at: bytes) -> None:
        if at >= self.since:
            self.seen += 1
        if self._next is not None and at >= self._next:
            self._next_seen += 1
        if at > self._turn:
            if self._next is not None:
                self.since, self.seen = self._next, self._next_seen
            self._next, self._next_seen, self._turn = at, 1, _later(at)


class Entries:
    """Cuts the daemon's stream into entries; the first `skip` of them are known already."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._skip = place.seen
        self._rest = b""
        self.last = b""  # the newest entry, timestamp included

    def feed(self, data: bytes) -> bytes:
        """What the new entries of `data` say."""
        buffer = self._rest + data if self._rest else data
        at, length = 0, len(buffer)
        out: list[bytes] = []
        count = self._place.count
        entry = b""
        while length - at >= HEADER:
            end = at + HEADER + int.from_bytes(buffer[at + 4 : at + HEADER], "big")
            if end > length:
                break
            entry = buffer[at + HEADER : end]
            at = end
            stamp, _, text = entry.partition(b" ")
            if self._skip:
                self._skip -= 1
                self._place.skip(stamp)
                continue
            count(stamp)
            out.append(text)
        if entry:
            self.last = entry
        self._rest = buffer[at:]
        return b"".join(out)


class Spool:
    """Writes one container's log to `path`. `run` is called once; `grown` is renewed with each growth."""

    def __init__(self, path: Path, source: Source, record: RecordFile) -> None:
        """Raises OSError."""
        self._source = source
        self._file = record
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        known = record.record
        if os.fstat(self._fd).st_size < known.spooled:  # the disk lost what was written last
            known.spooled, known.since, known.seen = 0, "", 0
        os.ftruncate(self._fd, known.spooled)
        self._place = Place(known.since.encode(), known.seen)
        self._size = known.spooled
        self._last = b""
        self._saved_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._nudged = False
        self._between = False  # entries are counted that are not all written
        self.heard_at = 0.0  # the loop's time
        self.grown = asyncio.Event()

    async def run(self, has_ended: Callable[[], Awaitable[bool]]) -> None:
        """Until `has_ended` (asked of the daemon) and all was read: the end of a stream alone proves nothing, a daemon
        that goes down ends its streams politely. Raises EngineUnreachable."""
        pause, ended = AGAIN_S[0], False
        try:
            while True:
                before = self._size
                await self._read(follow=not ended)
                if ended:
                    return
                ended = await has_ended()
                if ended and await self._is_whole():
                    return
                if not ended:
                    pause = AGAIN_S[0] if self._size > before else min(pause * 2, AGAIN_S[1])
                    await asyncio.sleep(pause)
        finally:
            self._save()

    def nudge(self) -> None:
        """The container is said to have ended: a stream that goes on in silence is given up, its rest asked for."""
        if self._reading is not None:
            self._nudged = True
            self._reading.cancel()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _read(self, *, follow: bool) -> None:
        self._reading = asyncio.ensure_future(self._pump(follow=follow))
        try:
            await self._reading
        except asyncio.CancelledError:
            if not self._nudged or (own := asyncio.current_task()) is None or own.cancelling():
                self._reading.cancel()
                raise
        finally:
            self._reading, self._nudged = None, False

    async def _pump(self, *, follow: bool) -> None:
        entries = Entries(self._place)
        loop = asyncio.get_running_loop()
        async with aclosing(self._source.read(_asked(self._place.since), follow=follow)) as stream:
            async for data in stream:
                self.heard_at = loop.time()
                text = entries.feed(data)
                self._last = entries.last or self._last
                if text:
                    await self._write(text)
                    if self.heard_at - self._saved_at > SAVE_S:
                        self._save()
                        self._saved_at = self.heard_at

    async def _is_whole(self) -> bool:
        return await self._source.last() == self._last

    async def _write(self, text: bytes) -> None:
        """While our disk is full the daemon keeps what comes."""
        rest = memoryview(text)
        self._between = True
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                await asyncio.sleep(FULL_S)
        self._size += len(text)
        self._between = False
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()

    def _save(self) -> None:
        if self._between:
            return
        known = self._file.record
        known.spooled, known.since, known.seen = self._size, self._place.since.decode(), self._place.seen
        self._file.save()


def _asked(since: bytes) -> str:
    """A timestamp of the log (RFC 3339, nanoseconds) as the daemon wants to be asked: seconds.nanoseconds."""
    if not since:
        return "0"
    whole, _, fraction = since.decode().rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return f"{seconds:.0f}.{fraction or '0'}"


def _later(at: bytes) -> bytes:
    whole, dot, fraction = at.decode(errors="replace").partition(".")
    try:
        moved = datetime.fromtimestamp(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + MARGIN_S, UTC)
    except ValueError:
        return at
    return f"{moved:%Y-%m-%dT%H:%M:%S}{dot}{fraction}".encode()
