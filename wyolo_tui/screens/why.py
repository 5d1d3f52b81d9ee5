"""Why a job waits, or why it ended, in full: what a table's cell has no room for."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from broker.protocol.job import Job
from broker.protocol.states import FINAL, WAITING, JobState
from wyolo_tui.present import Cell, by_key, plain, state_cell, why
from wyolo_tui.prose import headline
from wyolo_tui.screens.dialog import Dialog

_RESUMES = ("job.resume", "resumes it from its newest good checkpoint")
_CAN = {  # by the ids of keys
    JobState.FAILED: (_RESUMES, ("job.rerun", "runs it again"), ("make.clone", "clones it to change it")),
    JobState.STOPPED: (_RESUMES,),
    JobState.QUEUED: (("job.raise", "raises its priority"), ("job.earlier", "moves it up")),
    JobState.UNKNOWN: (("job.resolve", "says what became of it: that it is gone, or alive"),),
}


class WhyDialog(Dialog[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w,q,enter", "leave", show=False)]

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = f"Why: job {self._job.id}"
            yield Static(id="why", markup=False)

    def on_mount(self) -> None:
        job = self._job
        text, role = why(job)
        lines: list[Cell] = [
            [(plain(job.name), "strong"), ("   ", ""), *state_cell(job, self.glyphs)],
            [],
            [(by_key(text, self.cockpit.key) or _nothing_said(job), role)],
            [],
            *headline(job, self.cockpit.now, self.cockpit.key)[:2],
        ]
        lines += [[(f"- {plain(warning)}", "warn")] for warning in job.warnings]
        if job.state in _CAN:
            can = ", ".join(f"{self.cockpit.key(id)} {does}" for id, does in _CAN[job.state])
            lines += [[], [(can, "dim")]]
        shown = self.text(*lines)
        shown.no_wrap = False
        shown.overflow = "fold"
        self.query_one(Static).update(shown)


def _nothing_said(job: Job) -> str:
    if job.state in WAITING:
        return "it waits; the broker has not said yet for what"
    if job.state is JobState.COMPLETED:
        return "it ran to its end"
    return "no reason was given" if job.state in FINAL else "it runs; nothing holds it up"
