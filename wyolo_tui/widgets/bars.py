"""The first lines of every screen (broker, GPUs, queue, screens) and the last one (the keys that matter here)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget

from broker.protocol.states import JobState
from wyolo_tui.board import Board
from wyolo_tui.host import host_of
from wyolo_tui.present import Cell, Glyphs, bar, clock, duration, width_of
from wyolo_tui.themes import Palette

NARROW = 100  # cells; below, panels have no sides
SCREENS = ("Jobs", "Nodes", "Plan", "Sweeps", "Compare", "Artifacts", "Datasets", "Events")


@dataclass(frozen=True, slots=True)
class LinkState:
    address: str = ""
    up: bool = False
    as_of: datetime | None = None  # when it was last true, while the broker is out of reach
    why: str = ""


def headline(board: Board, link: LinkState, glyphs: Glyphs, width: int, zone: tzinfo | None) -> Cell:
    """As much as fits, the most important first."""
    if link.up:
        where: Cell = [(f"{glyphs.live} ", "good"), (link.address, "")]
    elif link.as_of is not None:
        where = [(f" {glyphs.lost} out of reach, as of {clock(link.as_of, zone)} ", "chip.warn")]
    else:
        where = [(f"{glyphs.lost} ", "warn"), (link.why or f"connecting to {link.address}", "warn")]
    parts: list[Cell] = [where]
    if board.loaded:
        busy, total = board.gpus
        if total:
            gauge = [] if width < 100 else [*bar(busy / total, min(8, total * 2), glyphs, "bar.on"), (" ", "")]
            parts.append([("GPU ", "dim"), *gauge, (f"{busy}/{total}", "strong")])
        else:
            used, slots = board.slots
            parts.append([("slots ", "dim"), (f"{used}/{slots}", "strong")])
        queued, held = board.count(JobState.QUEUED), board.count(JobState.HELD)
        parts.append([("queue ", "dim"), (str(queued), "strong"), *([(f" +{held} held", "dim")] if held else [])])
        parts.append([("failed today ", "dim"), (str(board.failed_today), "bad" if board.failed_today else "strong")])
        if board.drain_s is not None and (queued or board.count(JobState.RUNNING, JobState.STARTING)):
            parts.append([("drains in ", "dim"), (duration(board.drain_s) or "0s", "strong")])
        if unknown := board.count(JobState.UNKNOWN):
            parts.append([(f"{unknown} unknown", "warn")])
    out: Cell = [(" wyolo ", "chip"), (" ", "")]
    room = width - width_of(out) - 1
    for n, part in enumerate(parts):
        gap = 3 if n else 0
        if width_of(part) + gap > room:
            continue
        out += [(" " * gap, ""), *part]
        room -= width_of(part) + gap
    return out


class TopBar(Widget):
    """One line of state and, where there is height for it, one of screens."""

    DEFAULT_CSS = "TopBar { height: 2; padding: 0 1; } TopBar.-low { height: 1; }"

    @dataclass
    class ScreenClicked(Message):
        number: int

    def __init__(self, screen_number: int) -> None:
        super().__init__()
        self._number = screen_number
        self._text: Text = Text()

    def update(self, board: Board, link: LinkState, glyphs: Glyphs, palette: Palette, zone: tzinfo | None) -> None:
        width = host_of(self).size.width - 2
        text = styled(headline(board, link, glyphs, width, zone), palette)
        if host_of(self).size.height >= 28:
            text.append("\n")
            text.append_text(styled(self._tabs(width), palette))
        if text != self._text or text.spans != self._text.spans:
            self._text = text
            self.refresh()

    def _tabs(self, width: int) -> Cell:
        cell: Cell = []
        for n, name in enumerate(SCREENS, start=1):
            on = n == self._number
            cell += [(f"{n} ", "key" if on else "faint"), (name, "tab.on" if on else "tab.off"), ("   ", "")]
        return cell

    def render(self) -> Text:
        return self._text

    def on_resize(self) -> None:
        self.set_class(host_of(self).size.height < 28, "-low")

    def on_click(self, event: events.Click) -> None:
        if event.y != 1:
            return
        x = 1
        for n, name in enumerate(SCREENS, start=1):
            if x <= event.x < x + len(name) + 3:
                self.post_message(self.ScreenClicked(n))
            x += len(name) + 5


ALWAYS = (("?", "help"), (":", "command"))


class KeyBar(Widget):
    """The keys that matter where the focus is; at its end those that always do."""

    DEFAULT_CSS = "KeyBar { height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._text: Text = Text()

    def update(self, hints: Sequence[tuple[str, str]], palette: Palette, note: Cell | None = None) -> None:
        """`hints`: (keys, label), the most important first."""
        width = host_of(self).size.width - 2
        tail: Cell = []
        for keys, label in ALWAYS:
            tail += [("  " if tail else "", ""), (keys, "key"), (f" {label}", "dim")]
        cell: Cell = list(note or [])
        if cell:
            cell.append(("   ", ""))
        for keys, label in hints:
            part: Cell = [(keys, "key"), (f" {label}", "dim"), ("  ", "")]
            if width_of(cell) + width_of(part) + width_of(tail) > width:
                break
            cell += part
        cell.append((" " * (width - width_of(cell) - width_of(tail)), ""))
        text = styled([*cell, *tail], palette)
        if text != self._text or text.spans != self._text.spans:
            self._text = text
            self.refresh()

    def render(self) -> Text:
        return self._text


def titled(cell: Cell, palette: Palette, narrow: bool) -> Text:
    """For a border: where it has no corners, Textual leaves no room around a title."""
    return styled([(" ", ""), *cell, (" ", "")] if narrow else cell, palette)


def styled(cell: Cell, palette: Palette) -> Text:
    text = Text(no_wrap=True, overflow="crop", end="")
    for part, role in cell:
        text.append(part, palette[role])
    return text
