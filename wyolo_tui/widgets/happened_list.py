"""What happened, a line each, newest first. Only what is in view is worded; the line that a person is on stays in its
place while others come above it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual import events
from textual.message import Message
from textual.strip import Strip

from wyolo_tui.keymap import bindings
from wyolo_tui.present import Cell
from wyolo_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from broker.protocol.event import AuditEntry


class HappenedList(Lines):
    BINDINGS = bindings("moving")

    class NearEnd(Message):
        """The last entries that are held come into view."""

    class Opened(Message):
        """A double click: the same as enter."""

    def __init__(self, word: "Callable[[AuditEntry, int], Cell]") -> None:
        """`word` makes the line of an entry, for so many cells."""
        super().__init__(id="happened")
        self._word = word
        self._entries: Sequence[AuditEntry] = ()
        self._end = ""  # what stands under the last entry
        self._problem = ""  # what stands above the first, whatever is in view

    @property
    def current(self) -> "AuditEntry | None":
        return self._entries[self.cursor] if self.cursor < len(self._entries) else None

    @property
    def is_near_end(self) -> bool:
        """Less than a page is held below what is in view."""
        return len(self._entries) < self.first + 2 * self.page

    def replace(self, entries: "Sequence[AuditEntry]", end: str, problem: str) -> None:
        was, at_top = self.current, self.cursor == 0
        self._entries, self._end, self._problem = entries, end, problem
        self.header_lines = 1 if problem else 0
        at = 0 if at_top or was is None else self._position(was)
        first = self.first + at - self.cursor
        self.set_reactive(HappenedList.cursor, at)  # pyright: ignore[reportArgumentType]
        self.count = len(entries) + (1 if end else 0)
        self._fit()
        if not at_top and first != self.first:
            self.scroll_to(y=first, animate=False, immediate=True)
        self.refresh()

    def _position(self, was: "AuditEntry") -> int:
        """Where it is now; where it is gone, the line that the cursor is on."""
        same = (n for n, entry in enumerate(self._entries) if entry is was or (was.seq and entry.seq == was.seq))
        return next(same, min(self.cursor, max(0, len(self._entries) - 1)))

    # --- drawing ---

    def draw_header(self, y: int, width: int) -> Strip:
        return self.strip([[(f" {self._problem}", "warn")]], width)

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        if index >= len(self._entries):
            return self.strip([[(f" {self._end}", "dim")]], width)
        background = self.palette["cursor" if self.has_focus else "cursor.away"] if on_cursor else None
        return self.strip([[(" ", "")], self._word(self._entries[index], width - 1)], width, background)

    # --- moving ---

    def move(self, by: int) -> None:
        self.cursor = min(max(0, self.cursor + by), max(0, len(self._entries) - 1))

    def show(self, index: int) -> None:
        """With the last entry what stands under it."""
        super().show(self.count - 1 if index == len(self._entries) - 1 else index)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self.is_near_end:
            self.post_message(self.NearEnd())

    def on_resize(self) -> None:
        super().on_resize()
        if self.is_near_end:
            self.post_message(self.NearEnd())

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        index = -1 if at is None else at.y - self.header_lines + self.first
        if 0 <= index < len(self._entries):
            self.cursor = index
            if event.chain == 2:
                self.post_message(self.Opened())
