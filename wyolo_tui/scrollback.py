"""What of a log is held, and the gaps in it: what is left out never looks as if it were not written. Pure."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.protocol.api import LogChunk, LogLine

KEEP = 5_000  # lines held
SLACK = 500  # more, before the farthest from view are let go


@dataclass(frozen=True, slots=True)
class Gap:
    """Output that is not held: the bytes from `start` up to `end`."""

    start: int
    end: int


def begin(entry: "LogLine | Gap") -> int:
    """The first byte of it."""
    return entry.start if isinstance(entry, Gap) else entry.offset


class Scrollback:
    """Of one attempt. Its entries together are all output up to `next_offset`, in order."""

    def __init__(self) -> None:
        self.entries: list[LogLine | Gap] = []
        self.attempt = 0
        self.next_offset = 0
        self.whole = True  # no gap

    def add(self, chunk: "LogChunk", following: bool) -> int:
        """What was written next; from which entry on there are new ones. A line that is already there comes no second
        time.

        With a gap at the end, where a person reads far up while much comes, what comes makes that larger; `following`:
        it is shown, behind the gap.
        """
        known, first = self.next_offset, len(self.entries)
        self.attempt, self.next_offset = chunk.attempt, max(known, chunk.next_offset)
        last = self.entries[-1] if self.entries else None
        open_gap = last if isinstance(last, Gap) else None
        if open_gap is not None and not following:
            self.entries[-1] = Gap(open_gap.start, self.next_offset)
            return first
        fresh = [line for line in chunk.lines if line.offset >= known]
        if fresh and chunk.start > known:
            gap = Gap(known if open_gap is None else open_gap.start, chunk.start)
            self.entries[first if open_gap is None else first - 1 :] = [gap]
            self.whole = False
        self.entries += fresh
        return first

    def fill(self, chunk: "LogChunk") -> bool:
        """Put what was read of a gap into its place. Whether that is less than it was."""
        at = self.at(chunk.start + 1) - 1
        gap = self.entries[at] if at >= 0 else None
        if not isinstance(gap, Gap) or chunk.attempt != self.attempt:
            return False
        low, high = chunk.start, min(gap.end, chunk.next_offset)
        if low >= high:
            return False
        self.entries[at : at + 1] = [
            *([Gap(gap.start, low)] if gap.start < low else []),
            *(line for line in chunk.lines if low <= line.offset < high),
            *([Gap(high, gap.end)] if high < gap.end else []),
        ]
        self._count_gaps()
        return True

    @property
    def is_full(self) -> bool:
        return len(self.entries) > KEEP + SLACK

    def trim(self, near: int) -> None:
        """Let go of the entries that are farthest from the one at the index `near`."""
        low = max(0, min(near - KEEP // 2, len(self.entries) - KEEP))
        kept = self.entries[low : low + KEEP]
        if low:
            start = begin(self.entries[0])
            kept[:1] = [Gap(start, kept[0].end)] if isinstance(kept[0], Gap) else [Gap(start, kept[0].offset), kept[0]]
        if low + KEEP < len(self.entries):
            start = begin(self.entries[low + KEEP])
            last = kept[-1]
            kept[-1:] = (
                [Gap(last.start, self.next_offset)] if isinstance(last, Gap) else [last, Gap(start, self.next_offset)]
            )
        self.entries = kept
        self._count_gaps()

    def at(self, offset: int) -> int:
        """The index of the first entry that begins at this byte or behind it."""
        return bisect_left(self.entries, offset, key=begin)

    def _count_gaps(self) -> None:
        self.whole = not any(isinstance(entry, Gap) for entry in self.entries)
