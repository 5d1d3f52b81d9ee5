"""The line at the bottom that a person types into: commands, the filter, a search. With completion and history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from wyolo_tui.commands import Candidate
from wyolo_tui.host import host_of
from wyolo_tui.present import Cell
from wyolo_tui.themes import Palette
from wyolo_tui.widgets.bars import styled
from wyolo_tui.widgets.field import Field

SHOWN = 8
_KEYS = {
    "command": (("enter", "do it"), ("tab", "complete"), ("up", "said before"), ("esc", "leave")),
    "filter": (("enter", "keep"), ("tab", "complete"), ("up", "said before"), ("esc", "as it was")),
    "search": (("enter", "keep"), ("up", "said before"), ("esc", "leave")),
}


class Line(Field):
    """An input whose arrows and tab belong to the prompt."""

    @dataclass
    class Pressed(Message):
        key: str

    async def _on_key(self, event: events.Key) -> None:
        if event.key in ("up", "down", "tab", "shift+tab", "escape"):
            self.post_message(self.Pressed(event.key))
            event.stop()
            event.prevent_default()


class Prompt(Vertical):
    DEFAULT_CSS = """
    Prompt { height: auto; display: none; }
    Prompt #candidates { height: auto; max-height: 9; padding: 0 1; }
    Prompt Horizontal { height: 1; }
    Prompt #sign { width: auto; padding: 0 1; }
    Prompt Input { height: 1; border: none; padding: 0; width: 1fr; }
    Prompt #hint { width: auto; padding: 0 1; }
    Prompt #prompt-keys { height: 1; padding: 0 1; }
    """

    @dataclass
    class Edited(Message):
        mode: str
        text: str

    @dataclass
    class Done(Message):
        mode: str
        text: str

    @dataclass
    class Left(Message):
        """Escape: what it changed is put back."""

        mode: str

    def __init__(self) -> None:
        super().__init__()
        self.mode = ""
        self._candidates: Sequence[Candidate] = []
        self._chosen = -1
        self._history: dict[str, list[str]] = {}
        self._at = 0
        self._complete: Callable[[str], Sequence[Candidate]] | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="candidates", markup=False)
        with Horizontal():
            yield Static(id="sign", markup=False)
            yield Line(id="line", select_on_focus=False, highlighter=None)
            yield Static(id="hint", markup=False)
        yield Static(id="prompt-keys", markup=False)

    @property
    def palette(self) -> Palette:
        return host_of(self).palette

    def open(
        self,
        mode: str,
        sign: str,
        text: str = "",
        complete: Callable[[str], Sequence[Candidate]] | None = None,
        hint: str = "",
    ) -> None:
        self.mode, self._complete = mode, complete
        self._at = len(self._history.get(mode, []))
        self.display = True
        line = self.query_one(Line)
        self.query_one("#sign", Static).update(Text(sign, self.palette["key"]))
        keys: Cell = [part for key, word in _KEYS[mode] for part in ((key, "key"), (f" {word}  ", "dim"))]
        self.query_one("#prompt-keys", Static).update(styled(keys, self.palette))
        line.value = text
        line.cursor_position = len(text)
        self.screen.set_focus(line)  # now: `focus()` would leave the next keys to whoever has it
        self.say(hint)
        self._offer(text)

    def close(self) -> None:
        self.display = False
        self.mode = ""

    def say(self, text: str, role: str = "dim") -> None:
        """A word at the right of the line: how many match, or what is wrong."""
        self.query_one("#hint", Static).update(Text(text, self.palette[role]))

    def remember(self, mode: str, text: str) -> None:
        kept = [line for line in self._history.get(mode, []) if line != text]
        self._history[mode] = [*kept, text][-100:]

    def _offer(self, text: str) -> None:
        self._candidates = self._complete(text) if self._complete is not None else []
        self._chosen = -1
        self._draw()

    def _draw(self) -> None:
        box = self.query_one("#candidates", Static)
        box.display = bool(self._candidates)
        start = max(0, self._chosen - SHOWN + 1)
        rows: list[Cell] = []
        width = max((len(c.label) for c in self._candidates), default=0) + 2
        for n, candidate in enumerate(self._candidates[start : start + SHOWN], start=start):
            on = n == self._chosen
            rows.append([(f" {candidate.label:<{width}}", "accent.strong" if on else ""), (candidate.help, "dim")])
        if len(self._candidates) > start + SHOWN:
            rows.append([(f" {len(self._candidates) - start - SHOWN} more: tab", "faint")])
        text = Text("\n", end="").join([styled(row, self.palette) for row in rows])
        box.update(text)

    @on(Input.Changed)
    def _edited(self, event: Input.Changed) -> None:
        event.stop()
        if self._chosen >= 0 and self._candidates and event.value == self._candidates[self._chosen].text:
            return
        self._offer(event.value)
        self.post_message(self.Edited(self.mode, event.value))

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if text:
            self.remember(self.mode, text)
        self.post_message(self.Done(self.mode, text))

    @on(Line.Pressed)
    def _pressed(self, event: Line.Pressed) -> None:
        event.stop()
        line = self.query_one(Line)
        match event.key:
            case "escape":
                self.post_message(self.Left(self.mode))
            case "tab" | "shift+tab" if self._candidates:
                if len(self._candidates) == 1:
                    line.value = self._candidates[0].text
                else:
                    step = 1 if event.key == "tab" else -1
                    self._chosen = (self._chosen + step) % len(self._candidates)
                    line.value = self._candidates[self._chosen].text
                    self._draw()
                line.cursor_position = len(line.value)
            case "up" | "down":
                past = self._history.get(self.mode, [])
                self._at = min(max(0, self._at + (-1 if event.key == "up" else 1)), len(past))
                line.value = past[self._at] if self._at < len(past) else ""
                line.cursor_position = len(line.value)
            case _:
                pass
