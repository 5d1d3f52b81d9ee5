"""Which entries of a log are shown, in which rows, and which of them a search found. Pure."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import chop_cells

from wyolo_tui.present import plain
from wyolo_tui.prose import looks_like_error
from wyolo_tui.scrollback import Gap, begin

if TYPE_CHECKING:
    from broker.protocol.api import LogLine


class LogRows:
    def __init__(self) -> None:
        self.only_errors = False
        self.wrap_width = 0  # 0: a line is one row, cut at its end
        self.pattern: re.Pattern[str] | None = None
        self.found: list[int] = []  # first bytes of the lines that match
        self._entries: Sequence[LogLine | Gap] = ()
        self._shown: list[int] = []  # indexes into the entries
        self._tops: list[int] = []  # first row of each shown entry, when wrapped
        self._rows: list[tuple[int, int]] = []  # (index into shown, part), when wrapped

    def __len__(self) -> int:
        return len(self._rows) if self.wrap_width else len(self._shown)

    def index(self, entries: "Sequence[LogLine | Gap]") -> None:
        """All of them anew."""
        self._entries, self._shown, self._tops, self._rows, self.found = entries, [], [], [], []
        self.extend(0)

    def extend(self, start: int) -> bool:
        """Those from this one on, which are new. Whether any is shown."""
        new = [n for n in range(start, len(self._entries)) if self._is_shown(self._entries[n])]
        if self.pattern is not None:
            self.found += self._matching(new, self.pattern)
        if self.wrap_width:
            for n in new:
                self._tops.append(len(self._rows))
                self._rows += [(len(self._shown), part) for part in range(self._height(self._entries[n]))]
                self._shown.append(n)
        else:
            self._shown += new
        return bool(new)

    def search(self, pattern: re.Pattern[str] | None) -> None:
        self.pattern = pattern
        self.found = [] if pattern is None else self._matching(self._shown, pattern)

    def entry(self, row: int) -> "tuple[LogLine | Gap, int]":
        """What this row shows, and which part of it."""
        shown, part = self._rows[row] if self.wrap_width else (row, 0)
        return self._entries[self._shown[shown]], part

    def row(self, offset: int) -> int:
        """The row of the first shown entry that begins at this byte or behind it."""
        entry = bisect_left(self._entries, offset, key=begin)
        shown = bisect_left(self._shown, entry)
        if not self.wrap_width:
            return shown
        return self._tops[shown] if shown < len(self._tops) else len(self._rows)

    def next_match(self, offset: int) -> int | None:
        """The match behind the one at this byte; after the last the first."""
        return self.found[bisect_right(self.found, offset) % len(self.found)] if self.found else None

    def previous_match(self, offset: int) -> int | None:
        return self.found[bisect_left(self.found, offset) - 1] if self.found else None

    def _is_shown(self, entry: "LogLine | Gap") -> bool:
        return not self.only_errors or isinstance(entry, Gap) or looks_like_error(entry.text)

    def _height(self, entry: "LogLine | Gap") -> int:
        return 1 if isinstance(entry, Gap) else max(1, len(chop_cells(plain(entry.text), self.wrap_width)))

    def _matching(self, indexes: Sequence[int], pattern: re.Pattern[str]) -> list[int]:
        lines = (entry for n in indexes if not isinstance(entry := self._entries[n], Gap))
        return [line.offset for line in lines if pattern.search(plain(line.text))]
