"""The filter line of the jobs screen, previewed as it is typed, and the search in its log."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wyolo_tui.commands import Candidate, filter_words
from wyolo_tui.screens.page import Page
from wyolo_tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from broker.protocol.filter import Filter
    from broker.protocol.job import Job
    from wyolo_tui.screens.reading import Reading
    from wyolo_tui.widgets.detail import Detail
    from wyolo_tui.widgets.jobs_table import JobsTable


class Filtering(Page):
    """Mixed into JobsScreen, which has the table and the log."""

    def __init__(self) -> None:
        super().__init__()
        self.filter_text = ""
        self._filter_ids: frozenset[int] | None = None  # what the broker says matches, where only it knows
        self._before_filter = ""

    if TYPE_CHECKING:
        reading: Reading

        @property
        def table(self) -> JobsTable: ...
        @property
        def detail(self) -> Detail: ...
        def show_all(self) -> None: ...

    def action_filter(self) -> None:
        if isinstance(self.focused, LogView):
            self.open_prompt("search", "search", "")
        else:
            self.open_filter()

    def open_filter(self) -> None:
        self._before_filter = self.filter_text
        self.open_prompt("filter", "filter", self.filter_text, self._filter_words, self._filter_hint())

    def _filter_words(self, line: str) -> list[Candidate]:
        head, _, last = line.rpartition(" ")
        if not last:
            return []
        before = f"{head} " if head else ""
        return [Candidate(f"{before}{word}", word, "") for word in filter_words(last)][:8]

    def _filter_hint(self) -> str:
        wide = self.cockpit.size.width >= 120
        return (
            "state:failed @node user:ana map50>0.6 !regex words" if wide else "state: @node user: map50>0.6 !re words"
        )

    def prompt_edited(self, mode: str, text: str) -> None:
        if mode == "search":
            self.prompt.say(self.detail.log_view.search(text))
            return
        if not text:
            self.prompt.say(self._filter_hint())
        head, _, last = text.rpartition(" ")
        if last and filter_words(last):  # a term that is still being written filters nothing yet
            text = head
        problem = self.set_filter(text)
        if problem:
            self.prompt.say(problem, "bad")
        elif text:
            self.prompt.say(f"{len(self.table.order)} match")

    def prompt_done(self, mode: str, text: str) -> None:
        if mode == "filter":
            problem = self.set_filter(text)
            if problem:  # not what was shown of it while it was written: a part
                self.set_filter(self._before_filter)
                self.cockpit.say(f"filter: {problem}", "warning")
        else:
            self.detail.log_view.search(text)

    def prompt_left(self, mode: str) -> None:
        if mode == "filter":
            self.set_filter(self._before_filter)
        elif mode == "search":
            self.detail.log_view.search("")

    def set_filter(self, text: str) -> str:
        """What is wrong with it, or ''. With a wrong one the table stays as it is."""
        from broker.protocol.filter import FilterError, parse

        text = text.strip()
        try:
            found = parse(text) if text else None
        except FilterError as error:
            return f"{error.message}{f': {error.hint}' if error.hint else ''}"
        self.filter_text = text
        self._filter_ids = None
        self.table.order.matches = self._matcher(found)
        self._refilter()
        if found is not None and (found.metric_keys or self.cockpit.board.cursor is not None):
            self.reading.matching(text, bool(found.metric_keys))
        return ""

    def _matcher(self, found: "Filter | None") -> Callable[["Job"], bool] | None:
        if found is None:
            return None
        if found.metric_keys:
            return lambda job: self._filter_ids is not None and job.id in self._filter_ids
        return found.matches

    def matched(self, text: str, ids: Sequence[int]) -> None:
        """The broker's answer for a filter on metrics."""
        if text == self.filter_text:
            self._filter_ids = frozenset(ids)
            self._refilter()

    def _refilter(self) -> None:
        self.show_all()
        if self.prompt.mode == "filter" and self.filter_text:
            self.prompt.say(f"{len(self.table.order)} match")
