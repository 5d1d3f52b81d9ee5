"""A number whose screen is not there yet says plainly what comes, and what does it today."""

from collections.abc import Iterable

from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Static

from wyolo_tui.present import Cell
from wyolo_tui.screens.page import Page
from wyolo_tui.widgets.bars import SCREENS, styled

_COMES: dict[int, tuple[str, str]] = {
    3: (
        "the queue as a timetable: where and about when each waiting job starts, and behind which",
        "Today: the WHY column of the jobs screen (1) says what each job waits for.",
    ),
    4: (
        "sweeps: their trials, the best so far, what mattered; prune, pin, extend",
        "Today: a sweeper section of a configuration is kept with the job and not run.",
    ),
    5: (
        "up to six runs: their curves over each other, a final table, what differs",
        "Today: b pins a run's curves under another's (in its curves, m); D shows what differs in marked jobs.",
    ),
    6: (
        "what a run left: plots as pictures, checkpoints, exports; download",
        "Today: wyolo show ID prints the job's directory with all of it.",
    ),
    7: (
        "data sets: fingerprint, class balance, findings of the preflight",
        "Today: the submit form (n) shows the findings for the data set of a job.",
    ),
}


class SoonScreen(Page):
    scopes = ("anywhere",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def body(self) -> Iterable[Widget]:
        with Container(id="soon"):
            yield Static(id="words", markup=False)

    def board_replaced(self) -> None:
        super().board_replaced()
        self._say()

    def retheme(self) -> None:
        super().retheme()
        self._say()

    def _say(self) -> None:
        comes, today = _COMES[self.number]
        name = SCREENS[self.number - 1]
        parts: Cell = [
            (f"{name} is not built yet.\n\n", "strong"),
            ("It will show ", "dim"),
            (f"{comes}\n\n{today}\n\n", ""),
            *(
                (text, role)
                for key, word in (("1", "jobs"), ("2", "nodes"), ("8", "events"))
                for text, role in ((key, "key"), (f" {word}   ", "dim"))
            ),
        ]
        text = styled(parts, self.cockpit.palette)
        text.no_wrap, text.overflow = False, "fold"
        words = self.query_one("#words", Static)
        words.update(text)
