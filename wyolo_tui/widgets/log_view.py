"""The log of a job: a bounded piece of it, followed at its end, searched, wrapped; older lines are read on demand."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip

from wyolo_tui.host import host_of
from wyolo_tui.keymap import bindings
from wyolo_tui.present import Cell, clock, plain
from wyolo_tui.prose import log_role, looks_like_error
from wyolo_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from broker.protocol.api import LogChunk, LogLine

KEEP = 5_000  # lines held; older ones are read again when a person scrolls up to them
SLACK = 500


class LogView(Lines):
    BINDINGS = bindings("moving", "log")
    has_cursor = False

    @dataclass
    class OlderWanted(Message):
        """A person scrolled to the first line that is held."""

        before: int  # bytes

    @dataclass
    class Changed(Message):
        """Following, matches or what is shown changed: for the title."""

    def __init__(self, id: str = "log") -> None:
        super().__init__(id=id)
        self.lines: list[LogLine] = []
        self.following = True
        self.wrap = False
        self.times = False
        self.only_errors = False
        self.eof = False
        self.note = ""
        self._pattern: re.Pattern[str] | None = None
        self._match = -1  # index into what is shown
        self._shown: list[int] = []  # indexes into lines
        self._tops: list[int] = []  # first row of each shown line, when wrapped
        self._rows: list[tuple[int, int]] = []  # (index into shown, part), when wrapped
        self._next_offset = 0
        self._asked_before: int | None = None
        self._wrap_width = 0

    # --- content ---

    def clear(self, note: str = "") -> None:
        self.lines, self._shown, self._rows, self._tops = [], [], [], []
        self.following, self.eof, self.note = True, False, note
        self._next_offset, self._asked_before, self._match = 0, None, -1
        self.count = 0
        self.scroll_to(y=0, animate=False)
        self.refresh()

    def add(self, chunk: "LogChunk") -> None:
        """Lines at the end. A line that is already there is not shown twice."""
        last = self.lines[-1].offset if self.lines else -1
        fresh = [line for line in chunk.lines if line.offset > last]
        self._next_offset, self.eof = chunk.next_offset, chunk.eof
        if not fresh:
            return
        self.lines += fresh
        if len(self.lines) > KEEP + SLACK and self.following:
            self.lines = self.lines[-KEEP:]
            self._asked_before = None
            self._index()
        elif len(self.lines) > 2 * KEEP:  # a person reads far up while much comes: what is newest is read again later
            self.lines = self.lines[: KEEP + SLACK]
            self.note = "more came: press f to follow the end"
            self._index()
        else:
            self._extend(len(self.lines) - len(fresh))
        if self.following:
            self._to_end()

    def prepend(self, chunk: "LogChunk") -> None:
        """Older lines, above. What is in view stays where it is."""
        first = self.lines[0].offset if self.lines else self._next_offset
        older = [line for line in chunk.lines if line.offset < first]
        self._asked_before = None
        if not older:
            self._asked_before = first
            return
        rows, at = self._count, self.first
        self.lines = older + self.lines
        self._index()
        self.scroll_to(y=at + self._count - rows, animate=False)

    @property
    def next_offset(self) -> int:
        return self._next_offset

    def _visible(self, line: "LogLine") -> bool:
        return not self.only_errors or looks_like_error(line.text)

    def _index(self) -> None:
        """Which lines are shown, and in how many rows each."""
        self._shown, self._rows, self._tops = [], [], []
        self._extend(0)
        self.refresh()

    def _extend(self, start: int) -> None:
        new = [index for index in range(start, len(self.lines)) if self._visible(self.lines[index])]
        if self.wrap:
            self._wrap_width = self._text_width()
            for index in new:
                self._tops.append(len(self._rows))
                parts = max(1, len(chop_cells(self._body(self.lines[index]), self._wrap_width)))
                self._rows += [(len(self._shown), part) for part in range(parts)]
                self._shown.append(index)
            self.count = len(self._rows)
        else:
            self._shown += new
            self.count = len(self._shown)
        if new:
            self.refresh()

    def _text_width(self) -> int:
        return max(10, self.scrollable_content_region.width - (10 if self.times else 1))

    def on_resize(self) -> None:
        if self.wrap and self._wrap_width != self._text_width():
            self._index()
        if self.following:
            self._to_end()

    # --- drawing ---

    def _body(self, line: "LogLine") -> str:
        return plain(line.text)

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        shown, part = self._rows[index] if self.wrap else (index, 0)
        line = self.lines[self._shown[shown]]
        text = self._body(line)
        if self.wrap:
            pieces = chop_cells(text, self._wrap_width)
            text = pieces[part] if part < len(pieces) else ""
        base, palette = self.base, self.palette
        segments: list[Segment] = [Segment(" ", base)]
        if self.times:
            zone = host_of(self).zone
            segments.append(Segment(f"{clock(line.at, zone) if part == 0 else '':<8} ", base + palette["faint"]))
        role = log_role(self._body(line))
        style = base + palette[role]
        segments += self._highlighted(text, style)
        if not self.wrap and cell_len(text) + 1 > width:
            strip = Strip(segments).crop(0, width - 1)
            return Strip([*strip, Segment(self.glyphs.ellipsis[:1], base + palette["faint"])])
        return Strip(segments).adjust_cell_length(width, base)

    def _highlighted(self, text: str, style: Style) -> list[Segment]:
        if self._pattern is None:
            return [Segment(text, style)]
        out: list[Segment] = []
        at = 0
        for match in self._pattern.finditer(text):
            if match.start() == match.end():
                break
            out.append(Segment(text[at : match.start()], style))
            out.append(Segment(match.group(), style + self.palette["match"]))
            at = match.end()
        out.append(Segment(text[at:], style))
        return [segment for segment in out if segment.text]

    def draw_empty(self, y: int, width: int) -> Strip:
        if y == 1 and not self._count and self.note:
            return self.strip([[("  " + self.note, "dim")]], width)
        return super().draw_empty(y, width)

    # --- moving ---

    def _to_end(self) -> None:
        self.scroll_to(y=max(0, self._count - self.page), animate=False)

    def move(self, by: int) -> None:
        if by < 0 and self.following:
            self.following = False
            self.post_message(self.Changed())
        super().move(by)
        if by < 0 and self.first + by <= 0:
            self._want_older()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        end = max(0, self._count - self.page)
        if new_value < old_value and self.following and new_value < end:
            self.following = False
            self.post_message(self.Changed())
        if new_value <= 0 and old_value > 0 and not self.following:
            self._want_older()

    def _want_older(self) -> None:
        first = self.lines[0].offset if self.lines else 0
        if first > 0 and self._asked_before != first:
            self._asked_before = first
            self.post_message(self.OlderWanted(first))

    def action_cursor_last(self) -> None:
        self.action_follow(always=True)

    def action_follow(self, always: bool = False) -> None:
        self.following = True if always else not self.following
        if self.following:
            self._to_end()
        self.post_message(self.Changed())

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self._rebuild()

    def action_times(self) -> None:
        self.times = not self.times
        self._rebuild()

    def action_errors_only(self) -> None:
        self.only_errors = not self.only_errors
        self._rebuild()

    def _rebuild(self) -> None:
        self._index()
        if self.following:
            self._to_end()
        self.post_message(self.Changed())

    # --- search ---

    def search(self, text: str) -> int:
        """How many lines match; goes to the last of them. A text that is no regular expression is taken literally."""
        if not text:
            self._pattern, self._match = None, -1
            self.refresh()
            self.post_message(self.Changed())
            return 0
        flags = re.NOFLAG if any(c.isupper() for c in text) else re.IGNORECASE
        try:
            self._pattern = re.compile(text, flags)
        except re.error:
            self._pattern = re.compile(re.escape(text), flags)
        found = self._matches()
        if found:
            self._go(found[-1])
        self.refresh()
        self.post_message(self.Changed())
        return len(found)

    def _matches(self) -> Sequence[int]:
        pattern = self._pattern
        if pattern is None:
            return []
        return [n for n, index in enumerate(self._shown) if pattern.search(self._body(self.lines[index]))]

    def _go(self, shown: int) -> None:
        self._match = shown
        self.following = False
        row = self._tops[shown] if self.wrap else shown
        if not self.first <= row < self.first + self.page:
            self.scroll_to(y=max(0, row - self.page // 2), animate=False)
        self.post_message(self.Changed())

    def action_next_match(self) -> None:
        found = self._matches()
        if found:
            at = bisect_right(found, self._match)
            self._go(found[at % len(found)])

    def action_previous_match(self) -> None:
        found = self._matches()
        if found:
            earlier = [n for n in found if n < self._match]
            self._go((earlier or found)[-1])

    @property
    def status(self) -> Cell:
        """For the title: what is switched on."""
        cell: Cell = []
        if self._pattern is not None:
            found = self._matches()
            at = found.index(self._match) + 1 if self._match in found else 0
            cell.append((f"/{plain(self._pattern.pattern)} {at}/{len(found)}", "warn"))
        for on, word in ((self.only_errors, "errors only"), (self.wrap, "wrapped"), (self.times, "times")):
            if on:
                cell.append((word, "accent"))
        live = self.following and not self.eof
        cell.append(("following" if live else "end" if self.eof else "paused", "good" if live else "dim"))
        return [part for n, word in enumerate(cell) for part in ([("  ", "")] if n else []) + [word]]
