"""The keys of a screen, grouped, with what each does. Made from the table of keys, so it is never out of date."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from wyolo_tui.keymap import KEYS, SCOPES, Key, printed
from wyolo_tui.present import Cell, aligned
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.widgets.text_view import TextView

FILTER_HELP: tuple[tuple[str, str], ...] = (
    ("state:failed", "also waiting, active, ended"),
    ("@attic", "on this node"),
    ("user:ana", "name: model: data: reason: ..."),
    ("map50>0.6", "epoch>10  fitness>0.5  best>=0.7"),
    ("!night", "not this pattern;  -term negates"),
    ("fruit", "words anywhere"),
)

TWO_COLUMNS = 90  # cells


class HelpDialog(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,q", "leave", show=False)]

    def __init__(self, scopes: Sequence[str], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._scopes, self._keymap = scopes, keymap

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = "Keys of this screen"
            yield TextView(id="help")
            yield Static(id="foot", markup=False)

    def on_mount(self) -> None:
        keys: Cell = [("esc", "key"), (" close   ", "dim"), ("j k", "key"), (" scroll   ", "dim")]
        self.query_one("#foot", Static).update(self.text([*keys, (":", "key"), (" says every verb in words", "dim")]))
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        view = self.query_one(TextView)
        width = view.size.width - 3
        columns = 2 if width >= TWO_COLUMNS else 1
        blocks = [self._block(scope) for scope in SCOPES if scope in self._scopes]
        if "table" in self._scopes:
            blocks.append(self._filter_block())
        stacks: list[list[Cell]] = [[] for _ in range(columns)]
        for block in blocks:
            shortest = min(stacks, key=len) if columns > 1 else stacks[0]
            if shortest:
                shortest.append([])
            shortest += block
        each = width // columns
        rows: list[Cell] = []
        for n in range(max(len(stack) for stack in stacks)):
            row: Cell = []
            for stack in stacks:
                row += aligned(stack[n] if n < len(stack) else [], each - 2, False, self.glyphs.ellipsis)
                row.append(("  ", ""))
            rows.append(row)
        view.show_lines(rows)
        view.focus()

    def _block(self, scope: str) -> list[Cell]:
        keys = [key for key in KEYS if key.scope == scope]
        if scope == "anywhere":
            keys = [key for key in keys if not key.id.startswith("app.screen_")]
        rows: list[Cell] = [[(SCOPES[scope], "accent.strong")], *(self._row(key) for key in keys)]
        if scope == "anywhere":
            rows.append([("1-8".rjust(9), "key"), ("  the screens", "")])
        return rows

    def _row(self, key: Key) -> Cell:
        keys = self._keymap.get(key.id, key.keys)
        shown = " ".join(printed(part.strip()) for part in keys.split(",")[:1])
        return [(shown.rjust(9), "key"), (f"  {key.help}", "")]

    def _filter_block(self) -> list[Cell]:
        rows: list[Cell] = [[("The filter line", "accent.strong")]]
        rows += [[(term.rjust(13), "key"), (f"  {text}", "")] for term, text in FILTER_HELP]
        return rows
