"""Home: the queue and the selected job on one screen."""

from collections.abc import Callable, Sequence
from datetime import datetime

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.timer import Timer

from broker.protocol.event import EpochDone
from broker.protocol.filter import Filter, FilterError, parse
from broker.protocol.job import Job, JobState
from wyolo_tui.board import Change
from wyolo_tui.columns import USUAL
from wyolo_tui.commands import Candidate, Command, filter_words
from wyolo_tui.keymap import bindings
from wyolo_tui.messages import AuditRead, JobRead, LogRead, MetricsRead
from wyolo_tui.present import Cell, plain
from wyolo_tui.screens.job_keys import JobKeys
from wyolo_tui.screens.page import Page
from wyolo_tui.screens.reading import Reading
from wyolo_tui.series import with_epoch
from wyolo_tui.widgets.bars import styled
from wyolo_tui.widgets.detail import TABS, Detail
from wyolo_tui.widgets.jobs_table import JobsTable
from wyolo_tui.widgets.log_view import LogView

SETTLE_S = 0.12  # a cursor that rests this long on a job has its log and curves read
WIDE, SHORT = 140, 30
SHARES = (30, 40, 50, 60, 70, 80)  # per cent of the screen for the table


class JobsScreen(JobKeys, Page):
    BINDINGS = bindings("table", "making", "control", "looking")
    number = 1
    scopes = ("anywhere", "moving", "table", "making", "control", "looking", "log", "curves")

    def __init__(self) -> None:
        super().__init__()
        self.filter_text = ""
        self._share: int | None = None  # index into SHARES; None: what suits the screen
        self._zoomed = False
        self._filter_ids: frozenset[int] | None = None  # what the broker says matches, where only it knows
        self._before_filter = ""
        self._settling: Timer | None = None
        self._reading = Reading(self)

    def body(self) -> ComposeResult:
        with Container(id="split"):
            yield JobsTable()
            yield Detail()

    @property
    def table(self) -> JobsTable:
        return self.query_one(JobsTable)

    @property
    def detail(self) -> Detail:
        return self.query_one(Detail)

    @property
    def now(self) -> datetime:
        return self.cockpit.now

    def on_mount(self) -> None:
        self.table.empty = self._nothing_yet()
        self.table.focus()
        self._arrange()

    # --- what the app tells it ---

    def board_replaced(self) -> None:
        super().board_replaced()
        app = self.cockpit
        self.table.empty = self._nothing_yet()
        self.table.replace(app.board.jobs, app.now, app.gpu_index)
        self._arrange()
        self._title()
        job = self.table.current
        if job is not None and (self.detail.job is None or self.detail.job.id != job.id):
            self._settle()
        elif job is not None:
            self.detail.describe(job, app.now)
            self._reading.again()

    def board_changed(self, change: Change) -> None:
        super().board_changed(change)
        app = self.cockpit
        if change.jobs and self.detail.display == (not app.board.jobs) and not self._zoomed:
            self._arrange()
        if change.jobs or change.nodes:
            self.table.update_rows(app.board.jobs, change.jobs, app.now, app.gpu_index)
            self._title()
        shown = self.detail.job
        if shown is not None and shown.id in change.jobs:
            job = app.board.jobs.get(shown.id)
            self.detail.describe(job, app.now)
            if job is not None:
                self._reading.job_changed(shown, job)
        for event in change.epochs:
            self._epoch_done(event)

    def _epoch_done(self, event: EpochDone) -> None:
        curves = self.detail.curves
        if curves is not None and curves.table is not None and curves.table.job_id == event.job_id:
            self.detail.show_curves(with_epoch(curves.table, event))

    def retheme(self) -> None:
        super().retheme()
        self.table.empty = self._nothing_yet()
        self.table.refresh()
        self.detail.redraw()
        self.detail.describe(self.detail.job, self.now)
        self._title()

    # --- how it is laid out ---

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        width, height = self.cockpit.size
        self.set_class(width >= WIDE, "-wide")
        self.set_class(height < SHORT, "-short")
        self.set_class(width < 100, "-narrow")
        self.set_class(self._zoomed, "-zoomed")
        share = f"{SHARES[self._share_now]}%"
        table, detail = self.table.styles, self.detail.styles
        nothing = self.cockpit.board.loaded and not self.cockpit.board.jobs
        self.table.display, self.detail.display = not self._zoomed, self._zoomed or (height >= SHORT and not nothing)
        alone = not self.detail.display or not self.table.display
        if width >= WIDE:
            table.width, table.height, detail.width, detail.height = ("1fr" if alone else share), "1fr", "1fr", "1fr"
        else:
            table.width, table.height, detail.width, detail.height = "1fr", ("1fr" if alone else share), "1fr", "1fr"

    @property
    def _share_now(self) -> int:
        return self._share if self._share is not None else 3 if self.cockpit.size.width >= WIDE else 2

    def _title(self) -> None:
        app, table = self.cockpit, self.table
        palette = app.palette
        title: Cell = [(f"Jobs {len(table.order)}", "strong")]
        if app.board.cursor is not None and not self.filter_text:
            title.append(("+", "dim"))
        if self.filter_text:
            title += [(f" of {len(app.board.jobs)}  ", "dim"), (f" {plain(self.filter_text)} ", "chip")]
        if table.marks:
            title += [("  ", ""), (f"{len(table.marks)} marked", "mark")]
        if table.order.column:
            title.append((f"  by {table.order.column}", "dim"))
        table.border_title = styled(title, palette)  # pyright: ignore[reportAttributeAccessIssue]

    def _nothing_yet(self) -> list[Cell]:
        app = self.cockpit
        if not app.board.loaded:
            return [[("connecting to the broker ", "dim"), (app.link_state.address, "")]]
        if app.board.jobs:
            return [
                [("No job matches ", ""), (plain(self.filter_text), "accent")],
                [],
                [(f"{app.key('app.back'):>5}", "key"), ("  show all jobs", "dim")],
                [(f"{app.key('app.filter'):>5}", "key"), ("  change the filter", "dim")],
            ]
        rows = (
            ("make.submit", "submit a job from a file"),
            ("make.paste", "submit a job from pasted YAML"),
            ("app.command", "command line, for example  :submit sample_configs/minimal.yaml"),
            ("app.help", "all keys of this screen"),
        )
        return [
            [("There are no jobs yet.", "strong")],
            [("What you queue here goes on when you leave.", "dim")],
            [],
            *([(f"{app.key(id):>5}", "key"), (f"  {text}", "")] for id, text in rows),
        ]

    def hints(self) -> list[str]:
        focused = self.focused
        if isinstance(focused, LogView):
            return ["log.follow", "log.wrap", "log.times", "log.errors", "app.filter=search", "log.next", "app.next_tab",
                    "app.next_pane", "app.back"]  # fmt: skip
        if focused is not None and focused.id == "curves":
            return ["curves.zoom", "curves.log", "curves.smooth", "curves.axis", "curves.pin", "curves.back",
                    "curves.on", "app.next_tab", "app.next_pane"]  # fmt: skip
        if focused is not None and self.detail in focused.ancestors:
            return ["app.previous_tab", "app.next_tab", "app.next_pane", "app.back", "job.stop", "job.resume"]
        job = self.table.current
        if job is None:
            return ["make.submit", "make.paste", "app.theme", "app.quit"]
        verbs = {
            JobState.QUEUED: ["job.hold", "make.edit", "job.raise", "job.lower", "job.stop"],
            JobState.HELD: ["job.hold", "make.edit", "job.stop", "job.delete"],
            JobState.COMPLETED: ["job.rerun", "make.clone", "job.delete"],
            JobState.FAILED: ["look.why", "job.resume", "job.rerun", "make.clone", "job.delete"],
            JobState.STOPPED: ["job.resume", "job.rerun", "make.clone", "job.delete"],
        }.get(job.state, ["job.stop", "look.why", "job.preempt", "job.kill"])
        return ["make.submit", *verbs[:2], "look.log", "look.metrics", "look.detail", "app.filter", *verbs[2:], "move.mark",
                "app.quit"]  # fmt: skip

    def note(self) -> Cell:
        if self.table.in_range:
            return [("marking a range: move, then v", "mark")]
        marks = len(self.table.marks)
        return [(f"{marks} marked", "mark")] if marks else []

    # --- the selected job ---

    @on(JobsTable.Chosen)
    def _chosen(self, _: JobsTable.Chosen) -> None:
        self._title()
        self.draw_keys()
        job = self.table.current
        if job is not None and self.detail.job is not None and job.id == self.detail.job.id:
            return
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        job = self.table.current
        if (job.id if job else None) == (self.detail.job.id if self.detail.job else None):
            return
        self.detail.choose(job, self.now)
        self._reading.start(job)
        self.draw_keys()

    @on(Detail.TabChanged)
    def _tab_changed(self) -> None:
        self._reading.want(*self.detail.shown)
        self.draw_keys()

    @on(JobRead)
    def _job_read(self, message: JobRead) -> None:
        if self.detail.job is not None and self.detail.job.id == message.job.id:
            self.detail.show_config(message.job)

    @on(LogRead)
    def _log_read(self, message: LogRead) -> None:
        if self.detail.job is not None and self.detail.job.id == message.job_id:
            if message.fresh:
                self.detail.log_view.clear()
            self.detail.add_log(message.chunk, message.older)

    @on(LogView.OlderWanted)
    def _older_wanted(self, message: LogView.OlderWanted) -> None:
        self._reading.older(message.before)

    @on(MetricsRead)
    def _metrics_read(self, message: MetricsRead) -> None:
        if self.detail.job is not None and self.detail.job.id == message.table.job_id:
            self.detail.show_curves(message.table)

    @on(AuditRead)
    def _audit_read(self, message: AuditRead) -> None:
        if self.detail.job is not None and self.detail.job.id == message.job_id:
            self.detail.show_events(message.entries, self.now)

    @on(JobsTable.NearEnd)
    def _near_end(self) -> None:
        self._reading.older_jobs()

    # --- panes ---

    async def open_tab(self, tab: str) -> None:
        """Show a tab, full size where there is no room for a split, with the focus on it."""
        self._settle()
        if self.cockpit.size.height < SHORT:
            self._zoomed = True
        self._arrange()
        await self.detail.select(tab)
        self.detail.view.focus()

    async def action_detail(self) -> None:
        if self.table.current is None:
            return
        self._zoomed = not self._zoomed or self.focused is self.table
        self._settle()
        self._arrange()
        (self.detail.view if self._zoomed else self.table).focus()

    @on(JobsTable.Opened)
    async def _opened(self) -> None:
        await self.action_detail()

    async def action_show_tab(self, tab: str) -> None:
        if self.table.current is not None:
            await self.open_tab(tab)

    async def _step_tab(self, step: int) -> None:
        await self.detail.select(TABS[(TABS.index(self.detail.tab) + step) % len(TABS)])

    async def action_next_tab(self) -> None:
        await self._step_tab(1)

    async def action_previous_tab(self) -> None:
        await self._step_tab(-1)

    async def action_next_pane(self) -> None:
        if self.focused is self.table:
            if self.detail.display:
                self.detail.view.focus()
            else:
                await self.action_detail()
        else:
            self._zoomed = False
            self._arrange()
            self.table.focus()

    async def action_previous_pane(self) -> None:
        await self.action_next_pane()

    def action_resize_pane(self, step: int) -> None:
        if self.focused is not self.table:
            step = -step
        self._share = min(max(0, self._share_now + step), len(SHARES) - 1)
        self._arrange()

    def action_back(self) -> None:
        if self._zoomed or self.focused is not self.table:
            self._zoomed = False
            self._arrange()
            self.table.focus()
        elif self.table.in_range:
            self.table.action_clear_marks()
        elif self.filter_text:
            self.set_filter("")

    def refocus(self) -> None:
        (self.detail.view if self._zoomed else self.table).focus()

    # --- the filter and the search ---

    def action_filter(self) -> None:
        if isinstance(self.focused, LogView):
            self.prompt.open("search", "search", "", None, "enter: search   esc: leave")
            return
        self._before_filter = self.filter_text
        self.prompt.open("filter", "filter", self.filter_text, self._filter_words, self._filter_hint())

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
            found = self.detail.log_view.search(text)
            self.prompt.say(f"{found} lines" if text else "")
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
            if problem:
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
            self._reading.matching(text, bool(found.metric_keys))
        return ""

    def _matcher(self, found: Filter | None) -> Callable[[Job], bool] | None:
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
        app = self.cockpit
        self.table.empty = self._nothing_yet()
        self.table.replace(app.board.jobs, app.now, app.gpu_index)
        self._title()
        if self.prompt.mode == "filter" and self.filter_text:
            self.prompt.say(f"{len(self.table.order)} match")

    # --- columns ---

    def action_sort_by(self, step: int) -> None:
        self.table.sort_by(step)
        self._title()

    def action_reverse(self) -> None:
        self.table.reverse()

    def action_columns(self) -> None:
        from wyolo_tui.screens.columns import ColumnsDialog

        def chosen(ids: frozenset[str] | None) -> None:
            if ids is not None:
                self.table.chosen = ids or USUAL
                self.table.relayout()

        self.cockpit.push_screen(ColumnsDialog(frozenset(self.table.chosen)), chosen)

    def sort_on(self, column: str) -> None:
        self.table.order.column = column
        self.board_replaced()

    def run_command(self, command: Command) -> None:
        if not self.run_job_command(command):
            super().run_command(command)
