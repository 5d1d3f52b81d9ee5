"""Before a form is left with something in it that is nowhere else. To write on is the default."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from wyolo_tui.screens.dialog import Dialog


class DiscardDialog(Dialog[bool]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "discard", show=False),
        Binding("n,q,enter", "leave", show=False),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -danger") as box:
            box.border_title = "Discard"
            yield Static(
                self.text(
                    [("Discard what is written here? It was not submitted.", "strong")],
                    [],
                    [
                        ("y", "key"),
                        (" discard    ", ""),
                        ("esc", "key"),
                        (" write on", ""),
                        ("   (the default)", "dim"),
                    ],
                ),
                markup=False,
            )

    def action_discard(self) -> None:
        self.dismiss(True)
