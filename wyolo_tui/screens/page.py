"""What every screen has: the bars, the prompt, and the keys that work anywhere."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from textual import events, on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.signal import Signal
from textual.widget import Widget
from textual.widgets import Input

from wyolo_tui.board import Change
from wyolo_tui.commands import PLACES, Candidate, Command, CommandError, complete, parse
from wyolo_tui.keymap import KEYS, OPENS_PROMPT, bindings
from wyolo_tui.present import Cell
from wyolo_tui.widgets.bars import NARROW, KeyBar, TopBar
from wyolo_tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from wyolo_tui.app import WyoloApp

Complete = Callable[[str], Sequence[Candidate]]


class Page(Screen[None]):
    BINDINGS = bindings("anywhere")
    AUTO_FOCUS = ""  # each page says what has the focus
    number = 0
    scopes: Sequence[str] = ("anywhere", "moving")  # for its help

    def __init__(self) -> None:
        super().__init__()
        self._before_prompt: Widget | None = None

    def compose(self) -> ComposeResult:
        yield TopBar(self.number)
        yield from self.body()
        yield Prompt()
        yield KeyBar()

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    @property
    def cockpit(self) -> "WyoloApp":
        return cast("WyoloApp", self.app)  # pyright: ignore[reportUnknownMemberType]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where a text is written, the keys that open the prompt are letters like any other."""
        return action not in OPENS_PROMPT or not isinstance(self.focused, Input)

    @property
    def narrow(self) -> bool:
        return self.cockpit.size.width < NARROW

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    # --- what the app tells it ---

    def board_replaced(self) -> None:
        """Everything anew: after a snapshot, and when this screen comes to the front."""
        self._draw_bars()

    def board_changed(self, change: Change) -> None:
        if change.totals or change.nodes or change.jobs:
            self._draw_top()

    def happened(self) -> None:
        """Something was heard that belongs into the trail of events."""

    def link_changed(self) -> None:
        self._draw_bars()

    def retheme(self) -> None:
        self._draw_bars()

    # --- the bars ---

    def hints(self) -> list[str]:
        """Ids of the bindings that matter where the focus is; 'id=label' gives one another label."""
        return []

    def note(self) -> Cell:
        """What the last line says before the keys: how many are marked."""
        return []

    def _draw_top(self) -> None:
        app = self.cockpit
        self.query_one(TopBar).update(app.board, app.link_state, app.glyphs, app.palette, app.options.zone)

    def draw_keys(self) -> None:
        labels = {key.id: key.label for key in KEYS}
        named = [hint.partition("=") for hint in self.hints()]
        hints = [(self.cockpit.key(id), label or labels[id]) for id, _, label in named]
        bar = self.query_one(KeyBar)
        bar.display = not self.prompt.display  # which has its own: these would only be written into it
        self.set_class(self.prompt.display, "-prompting")
        bar.update(hints, self.cockpit.palette, self.note())

    def _draw_bars(self) -> None:
        self._draw_top()
        self.draw_keys()

    def on_mount(self) -> None:
        signal = cast(Signal[object], self.bindings_updated_signal)  # pyright: ignore[reportUnknownMemberType]
        signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _: object) -> None:
        self.draw_keys()

    def on_screen_suspend(self) -> None:
        self.add_class("-behind")

    def on_screen_resume(self) -> None:
        self.remove_class("-behind")
        self.board_replaced()

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._draw_bars)

    @on(TopBar.ScreenClicked)
    def _screen_clicked(self, event: TopBar.ScreenClicked) -> None:
        self.cockpit.go(event.number)

    # --- keys that work anywhere ---

    def action_go(self, number: int) -> None:
        self.cockpit.go(number)

    def action_next_theme(self) -> None:
        self.cockpit.next_theme()

    def action_leave(self) -> None:
        self.cockpit.exit(message="The jobs go on. `wyolo` opens this screen again.")

    def action_help(self) -> None:
        from wyolo_tui.screens.help import HelpDialog

        self.cockpit.push_screen(HelpDialog(self.scopes, self.cockpit.keys))

    def action_reload(self) -> None:
        self.cockpit.reload()

    def action_undo(self) -> None:
        self.cockpit.undo()

    async def action_next_pane(self) -> None:
        self.focus_next()

    async def action_previous_pane(self) -> None:
        self.focus_previous()

    def action_back(self) -> None:
        self.cockpit.go(1)

    def action_filter(self) -> None:
        """`/`: on screens without a filter it looks for jobs."""
        self.cockpit.filter_jobs()

    # --- the command line ---

    def action_command(self) -> None:
        self.open_command("")

    def open_command(self, text: str) -> None:
        self.open_prompt("command", ":", text, self._complete)

    def _complete(self, line: str) -> list[Candidate]:
        board = self.cockpit.board
        return complete(line, sorted(board.jobs, reverse=True)[:200], paths_like, list(board.nodes))

    @on(Prompt.Left)
    def _prompt_left(self, event: Prompt.Left) -> None:
        self.prompt.close()
        self.prompt_left(event.mode)
        self.refocus()
        self.cockpit.prompt_ended()

    @on(Prompt.Done)
    def _prompt_done(self, event: Prompt.Done) -> None:
        self._do(event)
        self.cockpit.prompt_ended()

    def _do(self, event: Prompt.Done) -> None:
        if event.mode != "command":
            self.prompt.close()
            self.prompt_done(event.mode, event.text)
            self.refocus()
            return
        if not event.text:
            self.prompt.close()
            self.refocus()
            return
        try:
            command = parse(event.text)
        except CommandError as error:
            self.prompt.say(str(error), "bad")
            return
        self.prompt.close()
        self.refocus()
        self.run_command(command)

    @on(Prompt.Edited)
    def _prompt_edited(self, event: Prompt.Edited) -> None:
        if event.mode == "command":
            self.prompt.say("")
        else:
            self.prompt_edited(event.mode, event.text)

    def prompt_edited(self, mode: str, text: str) -> None:
        pass

    def prompt_done(self, mode: str, text: str) -> None:
        pass

    def prompt_left(self, mode: str) -> None:
        pass

    def home(self) -> Widget | None:
        """What has the focus unless a person put it elsewhere."""
        return None

    def open_prompt(
        self, mode: str, sign: str, text: str = "", complete: Complete | None = None, hint: str = ""
    ) -> None:
        if not self.prompt.display:
            self._before_prompt = self.focused
        self.prompt.open(mode, sign, text, complete, hint)
        self.draw_keys()

    def refocus(self) -> None:
        """The prompt has closed: the focus goes back to where it was."""
        before = self._before_prompt
        seen = before is not None and before.display and all(node.display for node in before.ancestors_with_self)
        self.set_focus(before if seen else self.home())
        self.draw_keys()

    def run_command(self, command: Command) -> None:
        """What every screen knows; the rest belongs to the jobs screen."""
        match command.name:
            case "theme":
                self._theme(command)
            case "undo":
                self.action_undo()
            case "refresh":
                self.action_reload()
            case "help":
                self.action_help()
            case "node":
                self.cockpit.nodes.say(command)
            case "quit":
                self.action_leave()
            case name if name in PLACES:
                self.cockpit.go(PLACES.index(name) + 1)
            case _:
                self.cockpit.go(1)
                self.cockpit.call_after_refresh(self._on_jobs, command)

    def _on_jobs(self, command: Command) -> None:
        page = cast(Any, self.cockpit).page
        if page is not None and page is not self:
            page.run_command(command)

    def _theme(self, command: Command) -> None:
        from wyolo_tui.themes import NAMES, named

        if not command.words:
            self.cockpit.next_theme()
            return
        wanted = command.words[0]
        if (name := named(wanted)) is not None:
            self.cockpit.theme = name
        else:
            self.cockpit.say(f"no theme {wanted!r}: {', '.join(n.removeprefix('wyolo-') for n in NAMES)}", "warning")


def paths_like(start: str) -> list[str]:
    """The folders and YAML files whose path begins with this text, at most 50."""
    path = Path(start).expanduser()
    folder = path if start.endswith("/") or not start else path.parent
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    prefix = "" if not start or start.endswith("/") else path.name
    return [
        f"{entry}/" if entry.is_dir() else str(entry)
        for entry in found
        if entry.name.startswith(prefix)
        and (prefix.startswith(".") or not entry.name.startswith("."))
        and (entry.is_dir() or entry.suffix in (".yaml", ".yml"))
    ][:50]
