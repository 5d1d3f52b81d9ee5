"""How long a node is paused: a length, a time of day, or nothing: until it is resumed."""

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input, Static

from broker.protocol.fleet import Node, NodeState, Withheld
from wyolo_tui.present import Cell, plain
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.when import Pause, WhenError, pause
from wyolo_tui.widgets.field import Field

USUAL = "1h"


class PauseDialog(Dialog[Pause]):
    def __init__(self, node: Node, now: bool = False) -> None:
        super().__init__()
        self._node, self._moves = node, now

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = f"Pause {plain(self._node.name)}" + (" now" if self._moves else "")
            yield Static(id="what", markup=False)
            yield Field(USUAL, id="length", placeholder="until it is resumed", highlighter=None, select_on_focus=True)
            yield Static(id="means", markup=False)

    def on_mount(self) -> None:
        count = len(self._node.jobs)
        many = f"The {count} jobs there" if count > 1 else "The job there"
        if not count:
            rest = "Nothing runs there."
        elif self._moves:
            rest = f"{many} {'save and leave' if count > 1 else 'saves and leaves'}, to go on elsewhere."
        else:
            rest = f"{many} {'go on to their' if count > 1 else 'goes on to its'} end."
        self.query_one("#what", Static).update(self.text([("Nothing new starts there. ", "strong"), (rest, "")], []))
        self.query_one(Input).focus()
        self._say(USUAL)

    @on(Input.Changed)
    def _edited(self, event: Input.Changed) -> None:
        self._say(event.value)

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        try:
            self.dismiss(pause(event.value, self.cockpit.now, self.cockpit.zone))
        except WhenError:
            self._say(event.value)
            self.cockpit.prompt_ended()

    def _say(self, text: str) -> None:
        now, zone = self.cockpit.now, self.cockpit.zone
        try:
            end = pause(text, now, zone).end(now)
        except WhenError as error:
            said: Cell = [(f"{error}: {error.hint}", "bad")]
        else:
            words = Withheld(state=NodeState.PAUSED, since=now, until=end).words(now, zone)
            said = [(words if end is not None else f"{words} until it is resumed", "accent.strong")]
        examples: Cell = [("45m, 1h30m, 2d, 17:00, or nothing: until it is resumed", "dim")]
        keys: Cell = [("enter", "key"), (" pause   ", ""), ("esc", "key"), (" cancel", "")]
        self.query_one("#means", Static).update(self.text(said, [], examples, [], keys))
