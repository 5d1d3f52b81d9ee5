"""The log of a job: a bounded piece of it, followed at its end, searched, wrapped. What is not held is shown as a gap,
and read when a person scrolls to it."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.message import Message
from textual.strip import Strip

from wyolo_tui.host import host_of
from wyolo_tui.keymap import bindings
from wyolo_tui.log_rows import LogRows
from wyolo_tui.present import Cell, clock, counted, plain, size
from wyolo_tui.prose import log_role
from wyolo_tui.scrollback import Gap, Scrollback
from wyolo_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from broker.protocol.api import LogChunk


class LogView(Lines):
    BINDINGS = bindings("moving", "log")
    has_cursor = False

    @dataclass
    class GapReached(Message):
        """A person scrolled to what is not held: its last lines are wanted, or (`forward`) its first."""

        attempt: int
        gap: Gap
        forward: bool

    @dataclass
    class Changed(Message):
        """Following, matches or what is shown changed: for the title."""

    @dataclass
    class Ended(Message):
        """A person wants to follow a log to which nothing is added any more."""

    def __init__(self, id: str = "log") -> None:
        super().__init__(id=id)
        self.following = True
        self.wrap = False
        self.times = False
        self.eof = False
        self.note = ""
        self.held = Scrollback()
        self._shows = LogRows()
        self._searched = ""  # as it was typed
        self._match = -1  # the first byte of the line that the search is at
        self._asked: Gap | None = None  # and not scrolled away from since
        self._forward = False  # its first lines, not its last
        self._placing = False  # what is scrolled is not scrolled by a person

    # --- content ---

    def clear(self, note: str = "") -> None:
        """To be filled from its end. What is searched for, and how it is shown, stays."""
        self.held = Scrollback()
        self.following, self.eof, self.note = True, False, note
        self._asked, self._match = None, -1
        self._index()
        self.scroll_to(y=0, animate=False)

    def add(self, chunk: "LogChunk") -> None:
        """Lines at the end. A line that is already there is not shown twice."""
        held = self.held
        if held.entries and chunk.attempt not in (0, held.attempt):
            self.clear()
            held = self.held
        fresh = held.add(chunk, self.following)
        self.eof = chunk.eof
        if held.is_full:
            self._let_go()
        elif fresh < len(held.entries):
            self._extend(fresh)
        else:
            self.redraw((self._count - 1,))  # a gap there may have grown
        if self.following:
            self._to_end()

    def fill(self, chunk: "LogChunk") -> None:
        """Lines of a gap. What is in view stays where it is."""
        at, under = self._top()
        if not self.held.fill(chunk):
            return
        if self.held.is_full:
            self.held.trim(self.held.at(at))
        self._index()
        self._put(at, under)

    def _let_go(self) -> None:
        """What is farthest from what is in view."""
        at, under = self._top()
        self.held.trim(len(self.held.entries) if self.following else self.held.at(at))
        self._index()
        self._put(at, under)

    def _top(self) -> tuple[int, int]:
        """What stays in view while a gap is filled: the first byte of the first line, and how many rows that is under
        the top; where the gap itself is first and read from its beginning, that."""
        at, under = 0, 0
        for row in range(self.first, min(self._count, self.first + self.page)):
            entry, part = self._shows.entry(row)
            if not isinstance(entry, Gap):
                return entry.offset, row - self.first - part
            if self._asked == entry and self._forward:
                return entry.start, row - self.first
            at, under = entry.end, row + 1 - self.first
        return at, under

    def _put(self, at: int, under: int) -> None:
        """Scroll the line that begins at this byte to where it was."""
        if self.following:
            self._to_end()
            return
        self._placing = True
        self.scroll_to(y=max(0, self._shows.row(at) - under), animate=False, immediate=True)
        self._placing = False

    def _index(self) -> None:
        """Which lines are shown, and in how many rows each."""
        self._shows.wrap_width = self._text_width() if self.wrap else 0
        self._shows.index(self.held.entries)
        self.count = len(self._shows)
        self.refresh()

    def _extend(self, start: int) -> None:
        if self._shows.extend(start):
            self.count = len(self._shows)
            self.refresh()

    def _text_width(self) -> int:
        return max(10, self.scrollable_content_region.width - (10 if self.times else 1))

    def on_resize(self) -> None:
        if self.wrap and self._shows.wrap_width != self._text_width():
            self._index()
        if self.following:
            self._to_end()

    # --- drawing ---

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        line, part = self._shows.entry(index)
        if isinstance(line, Gap):
            return self.strip([self._gap_cell(line)], width)
        text = plain(line.text)
        role = log_role(text)
        if self.wrap:
            pieces = chop_cells(text, self._shows.wrap_width)
            text = pieces[part] if part < len(pieces) else ""
        base, palette = self.base, self.palette
        segments: list[Segment] = [Segment(" ", base)]
        if self.times:
            zone = host_of(self).zone
            segments.append(Segment(f"{clock(line.at, zone) if part == 0 else '':<8} ", base + palette["faint"]))
        segments += self._highlighted(text, base + palette[role])
        if not self.wrap and cell_len(text) + 1 > width:
            strip = Strip(segments).crop(0, width - 1)
            return Strip([*strip, Segment(self.glyphs.ellipsis[:1], base + palette["faint"])])
        return Strip(segments).adjust_cell_length(width, base)

    def _gap_cell(self, gap: Gap) -> Cell:
        dots = self.glyphs.ellipsis
        return [
            (
                f" {dots} {size(gap.end - gap.start)} of the log is not shown here: scroll on to read it {dots}",
                "mark",
            )
        ]

    def _highlighted(self, text: str, style: Style) -> list[Segment]:
        pattern = self._shows.pattern
        if pattern is None:
            return [Segment(text, style)]
        out: list[Segment] = []
        at = 0
        for match in pattern.finditer(text):
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

    @property
    def _end(self) -> int:
        """The first row in view at the end."""
        return max(0, self._count - self.page)

    def _to_end(self) -> None:
        self.scroll_to(y=self._end, animate=False)

    def move(self, by: int) -> None:
        if by < 0:
            self._pause()
        super().move(by)
        self._look_for_gaps(min(max(0, self.first + by), self._end), up=by < 0)

    def _pause(self) -> None:
        if self.following:
            self.following = False
            self.post_message(self.Changed())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._placing:
            return
        up = new_value < old_value
        if up and new_value < self._end:
            self._pause()
        if not self.following:
            self._look_for_gaps(int(new_value), up)

    def _look_for_gaps(self, first: int, up: bool) -> None:
        """A person moves, and these rows come into view: what is not held of them is read, the nearest first."""
        if self.held.whole:
            return
        entries = (self._shows.entry(row)[0] for row in range(first, min(self._count, first + self.page)))
        gaps = [entry for entry in entries if isinstance(entry, Gap)]
        if not gaps:
            self._asked = None
        else:
            self._ask(gaps[-1] if up else gaps[0], forward=not up)

    def _ask(self, gap: Gap, forward: bool) -> None:
        if gap != self._asked:
            self._asked, self._forward = gap, forward
            self.post_message(self.GapReached(self.held.attempt, gap, forward))

    def action_cursor_first(self) -> None:
        """To the first line that was written."""
        first = self.held.entries[0] if self.held.entries else None
        if isinstance(first, Gap):
            self._ask(first, forward=True)
        self.move(-self._count)

    def action_cursor_last(self) -> None:
        self._follow()

    def action_follow(self) -> None:
        if self.eof:
            self.post_message(self.Ended())
        if self.following and not self.eof:
            self._pause()
        else:
            self._follow()

    def _follow(self) -> None:
        self.following = True
        last = self.held.entries[-1] if self.held.entries else None
        if isinstance(last, Gap):
            self._ask(last, forward=False)
        self._to_end()
        self.post_message(self.Changed())

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self._rebuild()

    def action_times(self) -> None:
        self.times = not self.times
        self._rebuild()

    def action_errors_only(self) -> None:
        self._shows.only_errors = not self._shows.only_errors
        self._rebuild()

    def _rebuild(self) -> None:
        at, under = self._top()
        self._index()
        self._put(at, under)
        self.post_message(self.Changed())

    # --- search ---

    def search(self, text: str) -> str:
        """What was found, in words; goes to the last of it. A text that is no regular expression is taken literally."""
        self._searched, self._match = text, -1
        if text:
            flags = re.NOFLAG if any(c.isupper() for c in text) else re.IGNORECASE
            try:
                pattern = re.compile(text, flags)
            except re.error:
                pattern = re.compile(re.escape(text), flags)
            self._shows.search(pattern)
            self._go(self._shows.previous_match(0))
        else:
            self._shows.search(None)
        self.refresh()
        self.post_message(self.Changed())
        return f"{counted(len(self._shows.found), 'line')}{self._of_what}" if text else ""

    @property
    def searching(self) -> bool:
        return bool(self._searched)

    @property
    def _of_what(self) -> str:
        """Among which lines that is."""
        return "" if self.held.whole else " in the lines read so far"

    def _go(self, offset: int | None) -> None:
        if offset is None:
            return
        self._match = offset
        self._pause()
        row = self._shows.row(offset)
        if not self.first <= row < self.first + self.page:
            self.scroll_to(y=max(0, row - self.page // 2), animate=False)
        self.post_message(self.Changed())

    def action_next_match(self) -> None:
        self._go(self._shows.next_match(self._match))

    def action_previous_match(self) -> None:
        self._go(self._shows.previous_match(self._match))

    @property
    def status(self) -> Cell:
        """For the title: what is switched on."""
        cell: Cell = []
        found = self._shows.found
        if self._searched:
            at = found.index(self._match) + 1 if self._match in found else 0
            cell.append((f"/{plain(self._searched)} {at}/{len(found)}{self._of_what}", "warn"))
        if self._shows.only_errors:
            cell.append((f"errors only{'' if self._searched else self._of_what}", "accent"))
        for on, word in ((self.wrap, "wrapped"), (self.times, "times")):
            if on:
                cell.append((word, "accent"))
        if self.eof:
            cell.append(("end" if self.following else "above the end", "dim"))
        else:
            cell.append(("following", "good") if self.following else ("paused", "dim"))
        return [part for n, word in enumerate(cell) for part in ([("  ", "")] if n else []) + [word]]
