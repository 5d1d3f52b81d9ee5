"""Lines of text to read: a configuration, an audit trail, a reason. Only what is in view is drawn."""

from collections.abc import Sequence

from textual.strip import Strip

from wyolo_tui.keymap import bindings
from wyolo_tui.present import Cell
from wyolo_tui.widgets.lines import Lines


class TextView(Lines):
    BINDINGS = bindings("moving")
    has_cursor = False

    def __init__(self, *, id: str | None = None, note: str = "") -> None:
        super().__init__(id=id)
        self._cells: Sequence[Cell] = []
        self.note = note

    def show_lines(self, cells: Sequence[Cell], note: str = "") -> None:
        self._cells, self.note = cells, note or self.note
        self.count = len(cells)
        self.refresh()

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        return self.strip([[(" ", "")], self._cells[index]], width)

    def draw_empty(self, y: int, width: int) -> Strip:
        if y == 1 and not self.count and self.note:
            return self.strip([[("  " + self.note, "dim")]], width)
        return super().draw_empty(y, width)
