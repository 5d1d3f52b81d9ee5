"""Home: the queue and the selected job on one screen."""

from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.timer import Timer
from textual.widget import Widget

from wyolo_tui.board import Change
from wyolo_tui.columns import OF_TRAININGS, USUAL
from wyolo_tui.commands import Command
from wyolo_tui.keymap import bindings
from wyolo_tui.messages import AuditRead, JobRead, LogRead, MetricsRead
from wyolo_tui.present import Cell, plain
from wyolo_tui.screens.filtering import Filtering
from wyolo_tui.screens.job_keys import JobKeys
from wyolo_tui.screens.jobs_words import CURVES_HINTS, LOG_HINTS, TEXT_HINTS, hints_for, no_jobs, no_match
from wyolo_tui.screens.reading import Reading
from wyolo_tui.series import with_epoch
from wyolo_tui.widgets.bars import NARROW, titled
from wyolo_tui.widgets.detail import TABS, Detail
from wyolo_tui.widgets.jobs_table import JobsTable
from wyolo_tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from broker.protocol.event import EpochDone

CLOCK_S = 1.0
WIDE, SHORT = 140, 30
SHARES = (30, 40, 50, 60, 70, 80)  # per cent of the screen for the table


class JobsScreen(JobKeys, Filtering):
    BINDINGS = bindings("panes", "table", "making", "control", "looking")
    number = 1
    scopes = ("anywhere", "panes", "moving", "marking", "table", "making", "control", "looking", "log", "curves")

    def __init__(self) -> None:
        super().__init__()
        self._share: int | None = None  # index into SHARES; None: what suits the screen
        self._titled: tuple[Cell, str, bool] = ([], "", False)  # setting it again would draw the whole table again
        self._zoomed = False
        self._settling: Timer | None = None
        self._moved_at = float("-inf")  # the cursor, by the monotonic clock
        self.reading = Reading(self)

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
        self.set_interval(CLOCK_S, self._tick)

    def _tick(self) -> None:
        """Time has passed: the words about the job say how much."""
        if self.detail.job is not None and self.is_current:
            self.detail.describe(self.detail.job, self.now)

    # --- what the app tells it ---

    def board_replaced(self) -> None:
        super().board_replaced()
        app = self.cockpit
        self._arrange()
        self.show_all()
        job = self.table.current
        if job is not None and (self.detail.job is None or self.detail.job.id != job.id):
            self._settle()
        elif job is not None:
            self.detail.describe(job, app.now)
            self.reading.again()

    def show_all(self) -> None:
        """The table anew: with another filter, order or board."""
        app = self.cockpit
        self.table.empty = self._nothing_yet()
        self.table.replace(app.board.jobs, app.now, app.gpu_index)
        self._title()

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
                self.reading.job_changed(shown, job)
        for event in change.epochs:
            self._epoch_done(event)
        if self.table.current is not None and self.table.current.id in change.jobs:
            self.draw_keys()

    def _epoch_done(self, event: "EpochDone") -> None:
        known = self.detail.metrics
        if known is not None and known.job_id == event.job_id:
            self.detail.show_curves(with_epoch(known, event))

    def retheme(self) -> None:
        super().retheme()
        self.table.notify_style_update()
        self.table.empty = self._nothing_yet()
        self.table.refresh()
        self.detail.redraw()
        self.detail.describe(self.detail.job, self.now)
        self._title()

    # --- how it is laid out ---

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()
        self._title()

    def _arrange(self) -> None:
        width, height = self.cockpit.size
        self.set_class(width >= WIDE, "-wide")
        self.set_class(height < SHORT, "-short")
        self.set_class(width < NARROW, "-narrow")
        self.set_class(self._zoomed, "-zoomed")
        share = f"{SHARES[self._share_now]}%"
        table, detail = self.table.styles, self.detail.styles
        nothing = self.cockpit.board.loaded and not self.cockpit.board.jobs
        self.table.display, self.detail.display = not self._zoomed, self._zoomed or (height >= SHORT and not nothing)
        self.table.beside = width >= WIDE
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
        palette, narrow = app.palette, app.size.width < NARROW
        title: Cell = [(f"Jobs {len(table.order)}", "strong")]
        if app.board.cursor is not None and not self.filter_text:
            title.append(("+", "dim"))
        if self.filter_text:
            title += [(f" of {len(app.board.jobs)}  ", "dim"), (f" {plain(self.filter_text)} ", "chip")]
        if table.marks:
            title += [("  ", ""), *self._marks()]
        if table.order.column:
            title.append((f"  by {table.order.column}", "dim"))
        if (title, palette.theme, narrow) != self._titled:
            self._titled = (title, palette.theme, narrow)
            table.border_title = titled(title, palette, narrow)  # pyright: ignore[reportAttributeAccessIssue]

    def _nothing_yet(self) -> list[Cell]:
        app = self.cockpit
        if not app.board.loaded:
            return [[("connecting to the broker ", "dim"), (app.link_state.address, "")]]
        return no_match(self.filter_text, app.key) if app.board.jobs else no_jobs(app.key)

    def hints(self) -> list[str]:
        focused = self.focused
        if isinstance(focused, LogView):
            return LOG_HINTS
        if focused is not None and focused.id == "curves":
            return CURVES_HINTS
        if focused is not None and self.detail in focused.ancestors:
            return TEXT_HINTS
        return hints_for(self.table.current)

    def note(self) -> Cell:
        if self.table.in_range:
            return [("marking a range: move, then v", "mark")]
        return self._marks() if self.table.marks else []

    def _marks(self) -> Cell:
        hidden = self.table.hidden_marks
        shown: Cell = [(f"{len(self.table.marks) - hidden} marked", "mark")]
        return [*shown, (f", {hidden} more hidden", "warn")] if hidden else shown

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
        before, self._moved_at = self._moved_at, monotonic()
        options = self.cockpit.options
        roams = self._moved_at - before < options.roam_s
        self._settling = self.set_timer(options.roam_s if roams else options.settle_s, self._settle)

    def _settle(self) -> None:
        self._settling = None
        job = self.table.current
        if (job.id if job else None) == (self.detail.job.id if self.detail.job else None):
            return
        self.detail.choose(job, self.now)
        self.reading.start(job)
        self.draw_keys()

    @on(Detail.TabChanged)
    def _tab_changed(self) -> None:
        self.reading.want(*self.detail.shown)
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
            self.detail.add_log(message.chunk, message.missed)

    @on(LogView.GapReached)
    def _gap_reached(self, message: LogView.GapReached) -> None:
        self.reading.gap(message.attempt, message.gap, message.forward)

    @on(LogView.Ended)
    def _log_ended(self) -> None:
        self.cockpit.say("the log has ended: nothing more is added to it")

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
        self.reading.older_jobs()

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
        if self._chosen_job() is None:
            return
        self._zoomed = not self._zoomed or self.focused is self.table
        self._settle()
        self._arrange()
        (self.detail.view if self._zoomed else self.table).focus()

    @on(JobsTable.Opened)
    async def _opened(self) -> None:
        await self.action_detail()

    async def action_show_tab(self, tab: str) -> None:
        if self._chosen_job() is not None:
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
        if self.focused is self.detail.log_view and self.detail.log_view.searching:
            self.detail.log_view.search("")
        elif self._zoomed or self.focused is not self.table:
            self._zoomed = False
            self._arrange()
            self.table.focus()
        elif self.table.in_range:
            self.table.action_clear_marks()
        elif self.filter_text:
            self.set_filter("")

    def home(self) -> Widget:
        return self.detail.view if self._zoomed else self.table

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

        empty = frozenset[str]() if self.table.trainings else OF_TRAININGS
        self.cockpit.push_screen(ColumnsDialog(frozenset(self.table.chosen), self.table.fitting, empty), chosen)

    def sort_on(self, column: str) -> None:
        self.table.order.column = column
        self.show_all()

    def run_command(self, command: Command) -> None:
        if not self.run_job_command(command):
            super().run_command(command)
