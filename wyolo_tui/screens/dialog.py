"""What every dialog has: a frame in the middle, and esc to leave it."""

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, cast

from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from wyolo_tui.present import Cell, Glyphs
from wyolo_tui.themes import Palette
from wyolo_tui.widgets.bars import styled

if TYPE_CHECKING:
    from rich.text import Text

    from wyolo_tui.app import WyoloApp

Result = TypeVar("Result")


class Dialog(ModalScreen[Result], Generic[Result]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "cancel", show=False)]

    @property
    def cockpit(self) -> "WyoloApp":
        return cast("WyoloApp", self.app)  # pyright: ignore[reportUnknownMemberType]

    @property
    def palette(self) -> Palette:
        return self.cockpit.palette

    @property
    def glyphs(self) -> Glyphs:
        return self.cockpit.glyphs

    def text(self, *lines: Cell) -> "Text":
        return styled(
            [part for n, line in enumerate(lines) for part in ([("\n", "")] if n else []) + line], self.palette
        )

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """What was typed behind the key that ends it is for what comes to light."""
        ended = super().dismiss(result)
        self.cockpit.prompt_ended()
        return ended

    def link_changed(self) -> None:
        """The broker went, or answers again."""

    def action_leave(self) -> None:
        self.dismiss(None)
