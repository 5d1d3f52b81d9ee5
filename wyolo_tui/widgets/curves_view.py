"""The curves of a job: metrics and losses, as many charts as fit, drawn at most once a second and only when seen."""

from dataclasses import dataclass
from time import monotonic

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Grid, Vertical
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from broker.protocol.api import MetricTable
from wyolo_tui.host import Hosted
from wyolo_tui.keymap import bindings
from wyolo_tui.present import Cell, number
from wyolo_tui.series import SMOOTHING, Chart, at, charts, logarithmic, reduce
from wyolo_tui.widgets.bars import styled
from wyolo_tui.widgets.chart import ChartPlot, Drawn, Picture

PERIOD_S = 1.0
FRAME_S = 0.03
CHART_ROWS = 8  # the least that a chart is worth drawing in
CHART_COLUMNS = 44


class ChartBox(Vertical):
    """A title with its legend, and the chart."""

    class Ready(Message):
        """It can be drawn into."""

    def compose(self) -> ComposeResult:
        yield Static(classes="chart-title", markup=False)
        yield ChartPlot()

    def on_mount(self) -> None:
        self.post_message(self.Ready())


class CurvesView(Widget, Hosted, can_focus=True):
    BINDINGS = bindings("curves")
    DEFAULT_CSS = """
    CurvesView { height: 1fr; layout: vertical; }
    CurvesView #charts { height: 1fr; grid-gutter: 0 2; }
    CurvesView ChartBox { height: 1fr; }
    CurvesView .chart-title { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    CurvesView #no-curves { height: 1fr; padding: 1 2; display: none; }
    """

    @dataclass
    class Changed(Message):
        """What is switched on changed: for the title."""

    def __init__(self, id: str = "curves") -> None:
        super().__init__(id=id)
        self.table: MetricTable | None = None
        self.pinned: MetricTable | None = None
        self._focus_at = 0
        self._zoomed = False
        self._log = False
        self._by_time = False
        self._smoothing = 0
        self._scrub: int | None = None  # index into the epochs
        self._charts: list[Chart] = []
        self._timer: Timer | None = None
        self._filling: Timer | None = None
        self.waiting: list[tuple[ChartBox, Chart]] = []  # still to be drawn
        self._drawn_at = -PERIOD_S
        self._said: Cell = []
        self._note = "no epoch has finished yet"

    def compose(self) -> ComposeResult:
        yield Static(id="no-curves", markup=False)
        yield Grid(id="charts")

    # --- content ---

    def show(self, table: MetricTable | None, note: str = "no epoch has finished yet") -> None:
        other = table is None or self.table is None or table.job_id != self.table.job_id
        self.table, self._note = table, note
        if other:
            self._scrub = None
            self.draw()
        else:
            self.draw_soon()

    def draw_soon(self) -> None:
        """At most once in PERIOD_S: what came meanwhile is drawn together."""
        if self._timer is None:
            wait = max(0.0, self._drawn_at + PERIOD_S - monotonic())
            self._timer = self.set_timer(wait, self.draw) if wait else None
            if not wait:
                self.draw()

    def on_resize(self, _: events.Resize) -> None:
        self.draw()

    def on_show(self) -> None:
        self.draw()

    @on(ChartBox.Ready)
    def _ready(self) -> None:
        self.call_after_refresh(self._fill)

    def draw(self) -> None:
        self._timer = None
        if not self.is_mounted or not self.display or self.size.area == 0:
            return
        self._drawn_at = monotonic()
        table = self.table
        self._charts = charts(table, self._by_time, SMOOTHING[self._smoothing]) if table is not None else []
        empty = self.query_one("#no-curves", Static)
        grid = self.query_one("#charts", Grid)
        for widget, wanted in ((empty, not self._charts), (grid, bool(self._charts))):
            if widget.display != wanted:  # saying it again would lay out the whole screen again
                widget.display = wanted
        if not self._charts:
            empty.update(self._note, layout=False)
            return
        self._focus_at = min(self._focus_at, len(self._charts) - 1)
        shown = self._page()
        boxes = list(grid.query(ChartBox))
        if grid.styles.grid_size_columns != self._columns(len(shown)):
            grid.styles.grid_size_columns = self._columns(len(shown))
        if len(boxes) < len(shown):
            grid.mount(*(ChartBox() for _ in range(len(shown) - len(boxes))))
            self.call_after_refresh(self._fill)
        for n, box in enumerate(boxes):
            if box.display != (n < len(shown)):
                box.display = n < len(shown)
        self._fill()
        if self.status != self._said:
            self._said = self.status
            self.post_message(self.Changed())

    def _columns(self, shown: int) -> int:
        return 1 if shown < 2 else max(1, min(shown, 3, self.size.width // CHART_COLUMNS))

    def _page(self) -> list[Chart]:
        if self._zoomed:
            return [self._charts[self._focus_at]]
        columns = max(1, min(3, self.size.width // CHART_COLUMNS))
        rows = max(1, self.size.height // CHART_ROWS)
        size = columns * rows
        start = self._focus_at // size * size
        return self._charts[start : start + size]

    @property
    def settled(self) -> bool:
        """Every chart that there is room for has been drawn, and none is waiting."""
        boxes = [box.query(ChartPlot) for box in self.query(ChartBox) if box.display]
        drawn = sum(bool(plots) and plots.first().drawn for plots in boxes)
        return 0 < drawn == len(boxes) == len(self._page()) and not self.waiting and self._timer is None

    def _fill(self) -> None:
        """One chart in each frame: drawing them all at once would keep a key waiting."""
        shown = self._page() if self._charts else []
        if self._filling is not None:
            self._filling.stop()
        self.waiting = [
            (box, chart) for box, chart in zip(self.query(ChartBox), shown, strict=False) if box.query(ChartPlot)
        ]
        self._fill_next()

    def _fill_next(self) -> None:
        if not self.waiting:
            return
        box, chart = self.waiting.pop(0)
        if chart in self._charts:
            self._fill_box(box, chart)
        if self.waiting:
            self._filling = self.set_timer(FRAME_S, self._fill_next)

    def _fill_box(self, box: ChartBox, chart: Chart) -> None:
        palette, table = self.palette, self.table
        plot = box.query_one(ChartPlot)
        width = max(8, plot.size.width - 10)
        pinned = self._pinned_lines(chart)
        drawn = [Drawn(reduce(points, width), palette.css("line.pin")) for points in pinned if points]
        for n, line in enumerate(chart.lines):
            points = logarithmic(line.points) if self._log else line.points
            if points:
                drawn.append(Drawn(reduce(points, width), palette.css(f"line.{n}")))
        scrub_x = self._scrub_x()
        x_range = None
        if table is not None and not self._by_time and table.epochs:
            x_range = (float(min(1, table.epochs[0])), float(max(table.epochs[-1], 2)))
        plot.draw(
            Picture(
                drawn,
                axis=palette.css("axis"),
                tick=palette.css("tick"),
                log=self._log,
                scrub=scrub_x,
                x_range=x_range if not pinned else None,
                whole=not self._by_time,
                note="" if drawn else "nothing above 0: a logarithmic axis has no place for it",
            )
        )
        focused = chart is self._charts[self._focus_at]
        role = "accent.strong" if focused and self.has_focus else "strong"
        title: Cell = [(chart.title, role)]
        dash = "━" if self.glyphs.ellipsis == "…" else "-"
        for n, line in enumerate(chart.lines):
            value = at(line.points, scrub_x) if scrub_x is not None else line.points[-1][1]
            title += [("  ", ""), (f"{dash} ", f"line.{n}"), (line.label, "dim"), (f" {_brief(value)}", "")]
        box.query_one(Static).update(styled(title, palette), layout=False)

    def _pinned_lines(self, chart: Chart) -> list[list[tuple[float, float]]]:
        if self.pinned is None or self.table is None or self.pinned.job_id == self.table.job_id:
            return []
        names = {line.name for line in chart.lines}
        found = charts(self.pinned, self._by_time, SMOOTHING[self._smoothing])
        lines = [line.points for c in found for line in c.lines if line.name in names]
        return [logarithmic(points) if self._log else points for points in lines]

    def _scrub_x(self) -> float | None:
        table = self.table
        if self._scrub is None or table is None or not table.epochs:
            return None
        if not self._by_time:
            return float(table.epochs[self._scrub])
        return sum(seconds or 0.0 for seconds in table.seconds[: self._scrub + 1]) / 60

    @property
    def status(self) -> Cell:
        """For the title: what is switched on."""
        words: list[str] = []
        if self._scrub is not None and self.table is not None and self.table.epochs:
            words.append(f"values of epoch {self.table.epochs[self._scrub]}")
        if self._log:
            words.append("log axis")
        if self._smoothing:
            words.append(f"smoothed {SMOOTHING[self._smoothing]:g}")
        words.append("by minutes" if self._by_time else "by epoch")
        if self.pinned is not None:
            words.append(f"pinned #{self.pinned.job_id}")
        size = len(self._page()) if self._charts else 0
        if 0 < size < len(self._charts):
            words.append(f"chart {self._focus_at + 1} of {len(self._charts)}")
        return [("  ".join(words), "dim")]

    # --- keys ---

    def _again(self) -> None:
        self.draw()
        self.post_message(self.Changed())

    def on_focus(self) -> None:
        self._fill()

    def on_blur(self) -> None:
        self._fill()

    def action_focus_chart(self, step: int) -> None:
        if not self._charts:
            return
        if abs(step) == 2:
            step = step // 2 * self._columns(len(self._page()))
        self._focus_at = min(max(0, self._focus_at + step), len(self._charts) - 1)
        self._again()

    def action_zoom_chart(self) -> None:
        self._zoomed = not self._zoomed
        self._again()

    def action_log_axis(self) -> None:
        self._log = not self._log
        self._again()

    def action_smooth(self) -> None:
        self._smoothing = (self._smoothing + 1) % len(SMOOTHING)
        self._again()

    def action_time_axis(self) -> None:
        self._by_time = not self._by_time
        self._again()

    def action_pin(self) -> None:
        same = self.pinned is not None and self.table is not None and self.pinned.job_id == self.table.job_id
        self.pinned = None if same else self.table
        self._again()

    def action_scrub(self, step: int) -> None:
        if self.table is None or not self.table.epochs:
            return
        last = len(self.table.epochs) - 1
        at_ = last if self._scrub is None else self._scrub + step
        self._scrub = None if at_ > last else max(0, at_)
        self._again()


def _brief(value: float | None) -> str:
    """Short enough for a legend."""
    return "" if value is None else f"{value:.3f}" if 0.001 <= abs(value) < 100 else number(value)
