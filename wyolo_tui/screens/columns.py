"""Which columns the table of jobs may show. Those that do not fit leave in their order of importance."""

from collections.abc import Callable, Collection
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from wyolo_tui.columns import COLUMNS, USUAL, Column
from wyolo_tui.present import Cell
from wyolo_tui.screens.dialog import Dialog


class ColumnsDialog(Dialog[frozenset[str]]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
        Binding("space", "switch", show=False),
        Binding("u", "usual", show=False),
        Binding("enter,W", "done", show=False),
    ]

    def __init__(
        self,
        chosen: frozenset[str],
        fitting: Callable[[Collection[str]], list[Column]],
        empty: frozenset[str] = frozenset(),
    ) -> None:
        """`fitting`: what the table would show of a choice. `empty`: columns in which no job has anything."""
        super().__init__()
        self._chosen = set(chosen)
        self._fitting = fitting
        self._empty = empty
        self._at = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "Columns"
            yield Static(markup=False)

    def on_mount(self) -> None:
        self._draw()

    def _draw(self) -> None:
        lines: list[Cell] = []
        shown = {column.id for column in self._fitting(self._chosen)}
        for n, column in enumerate(COLUMNS):
            box = "x" if column.id in self._chosen else " "
            on = n == self._at
            left_out = column.id in self._chosen and column.id not in shown
            why_not = "nothing is in it" if column.id in self._empty else "there is no room for it now"
            what = (why_not, "warn") if left_out else (column.help, "dim")
            lines.append([(f"[{box}] {column.title:<10}", "accent.strong" if on else ""), what])
        keys: Cell = [
            ("space", "key"),
            (" on or off   ", "dim"),
            ("u", "key"),
            (" the usual   ", "dim"),
            ("enter", "key"),
            (" done", "dim"),
        ]
        self.query_one(Static).update(self.text(*lines, [], keys))

    def action_move(self, step: int) -> None:
        self._at = (self._at + step) % len(COLUMNS)
        self._draw()

    def action_switch(self) -> None:
        self._chosen ^= {COLUMNS[self._at].id}
        self._draw()

    def action_usual(self) -> None:
        self._chosen = set(USUAL)
        self._draw()

    def action_done(self) -> None:
        self.dismiss(frozenset(self._chosen))
