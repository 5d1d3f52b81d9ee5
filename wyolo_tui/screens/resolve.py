"""A person's word about jobs of which nobody knows: gone, or alive. Cancel is the default."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from broker.protocol.job import Job
from wyolo_tui.present import Cell, by_key, plain, state_cell, why
from wyolo_tui.screens.dialog import Dialog

Verdict = Literal["gone", "alive"]
SHOWN = 6


class ResolveDialog(Dialog[Verdict]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "say('gone')", show=False),
        Binding("a", "say('alive')", show=False),
        Binding("n,q,u,enter", "leave", show=False),
    ]

    def __init__(self, jobs: Sequence[Job]) -> None:
        super().__init__()
        self._jobs = jobs

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -danger") as box:
            box.border_title = "Unknown"
            yield Static(id="what", markup=False)

    def on_mount(self) -> None:
        many = len(self._jobs) > 1
        it, they = ("these jobs", "they are") if many else ("this job", "it is")
        lines: list[Cell] = [[(f"What became of {it}? The node is out of reach, so nobody knows.", "strong")], []]
        for job in self._jobs[:SHOWN]:
            where = [(f" on {plain(job.node)}", "dim")] if job.node else []
            lines.append(
                [(f"{job.id:>6}  ", "dim"), (f"{plain(job.name)}  ", "strong"), *state_cell(job, self.glyphs), *where]
            )
            lines.append([(" " * 8, ""), (by_key(why(job)[0], self.cockpit.key), "dim")])
        if len(self._jobs) > SHOWN:
            lines.append([(f"        and {len(self._jobs) - SHOWN} more", "dim")])
        lines += [
            [],
            [("g", "key"), (f"  {they} gone: ", "strong"), (self._goes_on(), "")],
            [("   Look there first: one that still runs would then run twice.", "warn")],
            [("a", "key"), (f"  {they} alive: ", "strong"), ("wait, and go on looking", "")],
            [],
            [("esc", "key"), (" cancel", ""), ("   (the default)", "dim")],
        ]
        shown = self.text(*lines)
        shown.no_wrap = False
        self.query_one(Static).update(shown)

    def _goes_on(self) -> str:
        [job, *others] = self._jobs
        if others:
            return "queue them again, from their newest checkpoints"
        if job.epoch:
            return f"queue it again, from its checkpoint of about epoch {job.epoch}"
        return "queue it again, from the start"

    def action_say(self, verdict: Verdict) -> None:
        self.dismiss(verdict)
