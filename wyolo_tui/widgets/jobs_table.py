"""The table of jobs. It draws the rows in view and nothing else, so that ten thousand cost what forty do."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from wyolo_tui.columns import GAP, USUAL, Column, Scene, layout
from wyolo_tui.host import host_of
from wyolo_tui.keymap import bindings
from wyolo_tui.order import SORTS, Order
from wyolo_tui.present import Cell, aligned
from wyolo_tui.widgets.lines import Lines

if TYPE_CHECKING:
    from broker.protocol.job import Job

MARGIN = 2  # cells at the left, for the mark
DRAWN_MOST = 500  # rows whose picture is kept


class JobsTable(Lines):
    BINDINGS = bindings("moving", "marking")
    header_lines = 1

    @dataclass
    class Chosen(Message):
        """The cursor is on another job."""

        job_id: int | None

    @dataclass
    class Opened(Message):
        """A double click: the same as enter."""

    @dataclass
    class NearEnd(Message):
        """The last rows that are held came into view."""

    def __init__(self, id: str = "jobs") -> None:
        super().__init__(id=id)
        self.order = Order()
        self.jobs: Mapping[int, Job] = {}
        self.marks: set[int] = set()
        self.chosen: Collection[str] = USUAL
        self.beside = False  # the details of the job are beside it
        self.empty: list[Cell] = []
        self._scene: Scene | None = None
        self._range_from: int | None = None
        self.trainings = True  # there is one among the jobs
        self._columns: list[Column] = []
        self._drawn: dict[int, tuple[Job, tuple[int, int, bool], Strip]] = {}  # what a row looked like when last drawn
        self._wanted: int | None = None
        self._current: int | None = None  # the job under the cursor, followed as rows move

    # --- what it shows ---

    @property
    def current(self) -> "Job | None":
        return self.jobs.get(self._current) if self._current is not None else None

    @property
    def targets(self) -> list["Job"]:
        """What a verb acts on: the marked jobs that are shown, or without any mark the one under the cursor.

        None where all marks are hidden by the filter: nobody means the job that happens to be under the cursor then.
        """
        if self.marks:
            return [self.jobs[id] for id in self.order.ids if id in self.marks]
        return [self.current] if self.current is not None else []

    @property
    def hidden_marks(self) -> int:
        return sum(1 for id in self.marks if self.order.position(id) is None)

    def replace(self, jobs: Mapping[int, "Job"], now: datetime, gpu_index: Mapping[str, int]) -> None:
        """Everything anew."""
        self._drawn.clear()
        self.jobs = jobs
        self.trainings = not jobs or any(job.kind == "train" for job in jobs.values())
        self._scene = Scene(self.glyphs, now, gpu_index, host_of(self).key)
        self.marks &= set(jobs)
        self.order.rebuild(jobs)
        self._settle()
        self.refresh()

    def update_rows(
        self, jobs: Mapping[int, "Job"], changed: Collection[int], now: datetime, gpu_index: Mapping[str, int]
    ) -> None:
        """Only the rows that changed and are in view are drawn again."""
        self.jobs = jobs
        self.trainings = self.trainings or any(id in jobs and jobs[id].kind == "train" for id in changed)
        self._scene = Scene(self.glyphs, now, gpu_index, host_of(self).key)
        self.marks.difference_update(id for id in changed if id not in jobs)
        if self.order.update(jobs, changed):
            self._settle()
            self.refresh()
            return
        ids = self.order.ids
        self.redraw(
            index for index in range(self.first, min(len(ids), self.first + self.page)) if ids[index] in changed
        )

    def select(self, job_id: int) -> bool:
        """Put the cursor on a job. One that is not there (yet) gets it as soon as it is."""
        at = self.order.position(job_id)
        self._wanted = job_id if at is None else None
        if at is None:
            return False
        self._current = job_id
        self.cursor = at
        self.post_message(self.Chosen(job_id))
        return True

    def fitting(self, chosen: Collection[str]) -> list[Column]:
        """Those of these columns that would be shown."""
        digits = len(str(max(self.jobs, default=0)))
        width = self.scrollable_content_region.width - MARGIN - 1
        return layout(width, chosen, digits, beside=self.beside, trainings=self.trainings)

    def relayout(self) -> None:
        columns = self.fitting(self.chosen)
        if columns != self._columns:
            self._columns = columns
            self._drawn.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        self._drawn.clear()
        super().notify_style_update()

    def _settle(self) -> None:
        """The cursor stays on its job wherever that went, or on its line where the job is gone."""
        self.count = len(self.order)
        if self._wanted is not None and self.order.position(self._wanted) is not None:
            self.select(self._wanted)
        at = self.order.position(self._current) if self._current is not None else None
        if at is not None:
            self.place(at)
        elif self.order.ids:
            self.place(min(self.cursor, len(self.order) - 1))
            self._announce()
        elif self._current is not None:
            self._current = None
            self.post_message(self.Chosen(None))
        self.relayout()

    def _announce(self) -> None:
        ids = self.order.ids
        job_id = ids[self.cursor] if self.cursor < len(ids) else None
        if job_id != self._current:
            self._current = job_id
            self.post_message(self.Chosen(job_id))

    def watch_cursor(self, before: int, after: int) -> None:
        super().watch_cursor(before, after)
        self._announce()
        if self._range_from is not None:
            self.refresh()
        if after >= self.count - self.page:
            self.post_message(self.NearEnd())

    def on_resize(self) -> None:
        self.relayout()
        self.show(self.cursor)

    def on_focus(self) -> None:
        self.redraw((self.cursor,))

    def on_blur(self) -> None:
        self.redraw((self.cursor,))

    # --- drawing ---

    def draw_header(self, y: int, width: int) -> Strip:
        arrow = self.glyphs.down if self.order.descending else self.glyphs.up
        cells: list[Cell] = [[(" " * MARGIN, "")]]
        for column in self._columns:
            on = column.id == self.order.column
            title = f"{column.title}{arrow}" if on and len(column.title) < column.width else column.title
            cells.append(aligned([(title, "head.on" if on else "head")], column.width, column.right, ""))
            cells.append([(" " * GAP, "")])
        return self.strip(cells, width)

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        job = self.jobs[self.order.ids[index]]
        marked = job.id in self.marks or self._in_range(index)
        look = (width, on_cursor and (2 if self.has_focus else 1), marked)
        known = self._drawn.get(job.id)
        if known is not None and known[0] is job and known[1] == look:
            return known[2]
        strip = self._draw_job(job, width, on_cursor, marked)
        if len(self._drawn) > DRAWN_MOST:
            self._drawn.clear()
        self._drawn[job.id] = (job, look, strip)
        return strip

    def _draw_job(self, job: "Job", width: int, on_cursor: bool, marked: bool) -> Strip:
        scene, palette, base = self._scene, self.palette, self.base
        assert scene is not None
        under = Style.null()
        if on_cursor:
            under = palette["cursor" if self.has_focus else "cursor.away"]
        elif marked:
            under = palette["marked"]
        segments = [Segment(f"{self.glyphs.mark} " if marked else "  ", base + palette["mark"] + under)]
        gap = Segment(" " * GAP, base + under)
        for column in self._columns:
            cell = aligned(column.cell(job, column.width, scene), column.width, column.right, self.glyphs.ellipsis)
            for text, role in cell:
                style = palette[role]
                segments.append(Segment(text, base + under + style if style.bgcolor else base + style + under))
            segments.append(gap)
        return Strip(segments).adjust_cell_length(width, base + under)

    def draw_empty(self, y: int, width: int) -> Strip:
        if self.count or not self.empty:
            return super().draw_empty(y, width)
        top = max(1, (self.size.height - len(self.empty)) // 3)
        line = y - top
        if not 0 <= line < len(self.empty):
            return super().draw_empty(y, width)
        cell = self.empty[line]
        left = max(0, (width - max(sum(len(t) for t, _ in c) for c in self.empty)) // 2)
        return self.strip([[(" " * left, "")], cell], width)

    def _in_range(self, index: int) -> bool:
        if self._range_from is None:
            return False
        low, high = sorted((self._range_from, self.cursor))
        return low <= index <= high

    # --- marks and order ---

    def action_mark(self) -> None:
        if self._current is None:
            return
        self.marks ^= {self._current}
        self.redraw((self.cursor,))
        self.move(1)
        self.post_message(self.Chosen(self._current))

    def action_range(self) -> None:
        if self._range_from is None:
            self._range_from = self.cursor
        else:
            low, high = sorted((self._range_from, self.cursor))
            self.marks.update(self.order.ids[low : high + 1])
            self._range_from = None
        self.refresh()
        self.post_message(self.Chosen(self._current))

    def action_clear_marks(self) -> None:
        self.marks.clear()
        self._range_from = None
        self.refresh()
        self.post_message(self.Chosen(self._current))

    @property
    def in_range(self) -> bool:
        return self._range_from is not None

    def sort_by(self, step: int) -> str:
        """The column to sort by moves one to the left or right; before the first is the natural order."""
        ids = ["", *(column.id for column in self._columns if column.id in SORTS)]
        at = ids.index(self.order.column) if self.order.column in ids else 0
        self.order.column = ids[(at + step) % len(ids)]
        self._reorder()
        return self.order.column

    def reverse(self) -> None:
        self.order.descending = not self.order.descending
        self._reorder()

    def _reorder(self) -> None:
        self.order.rebuild(self.jobs)
        self._settle()
        self.show(self.cursor)
        self.refresh()

    # --- the mouse ---

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is None:
            return
        if at.y == 0:
            x = MARGIN
            for column in self._columns:
                if x <= at.x < x + column.width + GAP and column.id in SORTS:
                    if self.order.column == column.id:
                        self.order.descending = not self.order.descending
                    self.order.column = column.id
                    self._reorder()
                x += column.width + GAP
            return
        index = at.y - 1 + self.first
        if index < self.count:
            self.cursor = index
            if event.chain == 2:
                self.post_message(self.Opened())
