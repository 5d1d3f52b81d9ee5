"""The selected job: two or three lines that say what it does, and its log, curves, configuration and events as tabs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from broker.protocol.states import FINAL
from wyolo_tui.host import Hosted, host_of
from wyolo_tui.present import Cell, plain, state_cell
from wyolo_tui.prose import audit_line, config_lines, headline
from wyolo_tui.widgets.bars import NARROW, styled, titled
from wyolo_tui.widgets.lines import Lines
from wyolo_tui.widgets.log_view import LogView
from wyolo_tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from broker.protocol.api import LogChunk, MetricTable
    from broker.protocol.event import AuditEntry
    from broker.protocol.job import Job
    from wyolo_tui.widgets.curves_view import CurvesView

ROOMY = 34  # lines that hold the curves and the log together
LOW = 12  # lines that are too few for more than one about the job
TABS = ("log", "curves", "config", "events")
_TITLES = {"log": "Log", "curves": "Curves", "config": "Config", "events": "Events"}


class Detail(Vertical, Hosted):
    DEFAULT_CSS = """
    Detail { height: 1fr; }
    Detail #about { height: 3; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Detail.-low #about { height: 1; }
    Detail #tabs { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Detail #views { height: 1fr; }
    Detail.-roomy #log { border-top: solid $border-blurred; height: 2fr; }
    Detail.-roomy #curves { height: 3fr; }
    """

    @dataclass
    class TabChanged(Message):
        tab: str

    def __init__(self, id: str = "detail") -> None:
        super().__init__(id=id)
        self.job: Job | None = None
        self.metrics: MetricTable | None = None  # of the job, once they were read: maybe before there is a view of them
        self.tab = "log"
        self._arranged = False
        self._title: Cell = []
        self._about: Cell = []
        self._tab_line: Cell = []

    def compose(self) -> ComposeResult:
        yield Static(id="about", markup=False)
        yield Static(id="tabs", markup=False)
        with Vertical(id="views"):
            yield LogView()
            for tab in ("config", "events"):
                view = TextView(id=tab)
                view.display = False
                yield view

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def curves(self) -> "CurvesView | None":
        """There once a person has looked at curves: what draws them takes a while to import."""
        found = self.query("#curves")
        return cast("CurvesView", found.first()) if found else None

    @property
    def view(self) -> Widget:
        """What the current tab shows, and gets the focus."""
        return self.query_one(f"#{self.tab}")

    # --- content ---

    def choose(self, job: "Job | None", now: datetime) -> None:
        """Another job: everything about the one before is gone."""
        self.job = job
        self.metrics = None
        self.log_view.search("")
        self.log_view.clear("" if job is None else self._log_note(job))
        self.query_one("#config", TextView).show_lines([], "reading the configuration")
        self.query_one("#events", TextView).show_lines([], "reading the events")
        if self.curves is not None and (job is None or not job.epoch):
            self.curves.show(None, "" if job is None else self._curves_note(job))
        self.describe(job, now)

    def describe(self, job: "Job | None", now: datetime) -> None:
        """The same job, as it is now."""
        self.job = job
        title: Cell = []
        lines: list[Cell] = []
        if job is not None:
            title = [(f" {job.id} ", "chip"), (f" {plain(job.name)}  ", "strong"), *state_cell(job, self.glyphs)]
            lines = headline(job, now, host_of(self).key)[: 1 if self.has_class("-low") else 3]
        if title != self._title:
            self._title = title
            self._draw_title()
        about = [part for n, line in enumerate(lines) for part in ([("\n", "")] if n else []) + line]
        if about != self._about:
            self._about = about
            text = styled(about, self.palette)
            text.overflow = "ellipsis"
            self.query_one("#about", Static).update(text, layout=False)
        self._draw_tabs()

    def _draw_title(self) -> None:
        narrow = host_of(self).size.width < NARROW
        self.border_title = titled(self._title, self.palette, narrow)  # pyright: ignore[reportAttributeAccessIssue]

    def show_config(self, job: "Job") -> None:
        self.query_one("#config", TextView).show_lines(config_lines(job))

    def show_events(self, entries: Sequence["AuditEntry"], now: datetime) -> None:
        host = host_of(self)
        cells = [audit_line(entry, now, host.zone, self.glyphs, host.key) for entry in reversed(entries)]
        self.query_one("#events", TextView).show_lines(cells, "nothing has happened yet")

    def show_curves(self, table: "MetricTable") -> None:
        self.metrics = table
        if self.curves is not None and self.job is not None:
            self.curves.show(table, self._curves_note(self.job))

    def add_log(self, chunk: "LogChunk", missed: bool) -> None:
        view = self.log_view
        if missed:
            view.fill(chunk)
        else:
            view.add(chunk)
        self._draw_tabs()

    # --- tabs ---

    @property
    def shown(self) -> tuple[str, ...]:
        """The tabs in view: where there is room, the curves and the log together."""
        if self.has_class("-roomy") and self.tab in ("log", "curves"):
            return ("log", "curves")
        return (self.tab,)

    async def select(self, tab: str) -> None:
        had_focus = self.has_focus_within
        self.tab = tab
        await self._arrange()
        self._draw_tabs()
        if had_focus:
            self.view.focus()
        self.post_message(self.TabChanged(tab))

    async def _arrange(self) -> None:
        if "curves" in self.shown and self.curves is None:
            # what draws curves takes a while to import: not while someone waits for a key
            await asyncio.to_thread(import_module, "wyolo_tui.widgets.curves_view")
            from wyolo_tui.widgets.curves_view import CurvesView

            if self.curves is None:
                curves = CurvesView()
                curves.show(self.metrics, self._curves_note(self.job) if self.job is not None else "")
                await self.query_one("#views").mount(curves, before=0)
        for name in TABS:
            for view in self.query(f"#{name}"):
                if view.display != (name in self.shown):
                    view.display = name in self.shown

    async def on_resize(self) -> None:
        self._draw_title()
        self.set_class(self.size.height <= LOW, "-low")
        roomy = self.size.height >= ROOMY
        if roomy != self.has_class("-roomy") or not self._arranged:
            self._arranged = True
            self.set_class(roomy, "-roomy")
            await self._arrange()
            self._draw_tabs()
            self.post_message(self.TabChanged(self.tab))

    def redraw(self) -> None:
        """In another theme."""
        self._title, self._about, self._tab_line = [], [], []
        for view in self.query(Lines):
            view.refresh()
        if self.curves is not None:
            self.curves.draw()

    def _draw_tabs(self) -> None:
        cell: Cell = []
        for name in TABS:
            on = name == self.tab
            role = "accent.strong" if on else "tab.on" if name in self.shown else "tab.off"
            cell += [(f"[{_TITLES[name]}]" if on else _TITLES[name], role), ("  ", "")]
        status: Cell = []
        if "curves" in self.shown and self.curves is not None:
            status += [*self.curves.status, ("   ", "")]
        if "log" in self.shown:
            status += self.log_view.status
        cell = [*cell, (" ", ""), *status]
        if cell != self._tab_line:
            self._tab_line = cell
            self.query_one("#tabs", Static).update(styled(cell, self.palette), layout=False)

    def on_log_view_changed(self) -> None:
        self._draw_tabs()

    def on_curves_view_changed(self) -> None:
        self._draw_tabs()

    async def on_click(self, event: events.Click) -> None:
        if event.widget is not None and event.widget.id == "tabs":
            x = 1
            for name in TABS:
                end = x + len(_TITLES[name]) + (2 if name == self.tab else 0)
                if x <= event.x < end:
                    await self.select(name)
                    return
                x = end + 2

    def _log_note(self, job: "Job") -> str:
        return "it has not started: there is no log yet" if job.fence == 0 else "no line yet"

    def _curves_note(self, job: "Job") -> str:
        if job.kind == "command":
            return "a command has no curves"
        return "no epoch was finished" if job.state in FINAL else "no epoch has finished yet"
