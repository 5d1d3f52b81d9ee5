"""Before something is lost: which jobs and epochs. Cancel is the default; only `y`, or the number typed, confirms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from broker.protocol.job import Job
from wyolo_tui.present import Cell, fit, plain, state_cell, width_of
from wyolo_tui.screens.dialog import Dialog
from wyolo_tui.verbs import MANY, lost
from wyolo_tui.widgets.field import Field

SHOWN = 8
_ASKS = {
    "kill": "Kill {}? What was not saved is lost.",
    "preempt": "Preempt {}? It is queued again, last of its priority.",
    "remove": "Delete {} from the list?",
}


@dataclass(frozen=True, slots=True)
class Answer:
    files: bool = False


class Number(Field):
    """Takes digits; all other keys are the dialog's."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character.isdigit()

    async def _on_key(self, event: events.Key) -> None:
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            event.prevent_default()  # Input's own handler would write it


class ConfirmDialog(Dialog[Answer]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "confirm", show=False),
        Binding("n,q,enter", "leave", show=False),
        Binding("f", "files", show=False),
    ]

    def __init__(self, verb: str, jobs: Sequence[Job], files: bool = False, node: str = "") -> None:
        super().__init__()
        self._verb, self._jobs, self._files = verb, jobs, files
        self._node = node  # of evict
        self._typed = len(jobs) > MANY

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -danger") as box:
            box.border_title = {"kill": "Kill", "preempt": "Preempt", "remove": "Delete"}.get(
                self._verb, f"Take back {plain(self._node)}"
            )
            yield Static(id="what", markup=False)
            if self._typed:
                yield Number(id="number", placeholder=f"type {len(self._jobs)} and enter to confirm", highlighter=None)
            yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        lines: list[Cell] = [[(self._question(), "strong")], []]
        for job in self._jobs[:SHOWN]:
            state = state_cell(job, self.glyphs)
            lines.append(
                [
                    (f"{job.id:>6}  ", "dim"),
                    (fit(plain(job.name), 28), "strong"),
                    ("  ", ""),
                    *state,
                    (" " * (13 - width_of(state)), ""),
                ]
            )
            lines.append([(" " * 8, ""), (lost(self._verb, job), "warn")])
        if len(self._jobs) > SHOWN:
            lines.append([(f"        and {len(self._jobs) - SHOWN} more", "dim")])
        self.query_one("#what", Static).update(self.text(*lines))
        self._keys()
        if self._typed:
            self.query_one(Input).focus()

    def _question(self) -> str:
        many = len(self._jobs) > 1
        if self._verb == "evict":
            who = (
                f"These {len(self._jobs)} jobs save and leave, and go"
                if many
                else "This job saves and leaves, and goes"
            )
            return f"{who} on elsewhere."
        return _ASKS[self._verb].format(f"these {len(self._jobs)} jobs" if many else "this job")

    def _keys(self) -> None:
        lines: list[Cell] = [[]]
        if self._verb == "remove":
            box = "x" if self._files else " "
            lines += [
                [
                    ("f", "key"),
                    (f"  [{box}] their files too: logs, checkpoints, results", "bad" if self._files else ""),
                ],
                [],
            ]
        confirm: Cell = [("y", "key"), (" yes    ", "")] if not self._typed else []
        lines.append([*confirm, ("esc", "key"), (" cancel", ""), ("   (the default)", "dim")])
        self.query_one("#keys", Static).update(self.text(*lines))

    def action_files(self) -> None:
        if self._verb == "remove":
            self._files = not self._files
            self._keys()

    def action_confirm(self) -> None:
        if not self._typed:
            self.dismiss(Answer(self._files))

    @on(Input.Submitted)
    def _number(self, event: Input.Submitted) -> None:
        if event.value.strip() == str(len(self._jobs)):
            self.dismiss(Answer(self._files))
        else:
            self.dismiss(None)
            self.cockpit.say("cancelled: the number was another")
