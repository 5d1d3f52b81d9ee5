"""One chart: textual-plot's canvas with thin axes, a legend in its title line and values where a person reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from textual_hires_canvas import Canvas, HiResMode
from textual_plot import PlotWidget
from textual_plot.axis_formatter import NumericAxisFormatter
from textual_plot.plot_widget import LinePlot, VLinePlot

from wyolo_tui.present import number
from wyolo_tui.series import Points


@dataclass(frozen=True, slots=True)
class Drawn:
    points: Points
    style: str  # as Rich reads it


class ChartPlot(PlotWidget, can_focus=False, inherit_bindings=False):
    """Lines over an x axis. `draw` replaces everything; nothing is kept between two calls."""

    DEFAULT_CSS = """
    ChartPlot { height: 1fr; }
    ChartPlot Grid { grid-size: 2 3; }
    ChartPlot #legend { display: none; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, allow_pan_and_zoom=False)
        self.set_reactive(PlotWidget.margin_top, 0)
        self.set_reactive(PlotWidget.margin_bottom, 1)
        self.set_reactive(PlotWidget.margin_left, 8)
        self._axis, self._tick = "white", "white"
        self._log = False
        self._formatter = NumericAxisFormatter()
        self._wanted: tuple[list[LinePlot], list[VLinePlot], tuple[float, float, float, float]] | None = None

    def draw(
        self,
        lines: Sequence[Drawn],
        *,
        unicode: bool,
        log: bool,
        axis: str,
        tick: str,
        scrub: float | None = None,
        x_range: tuple[float, float] | None = None,
    ) -> None:
        """Lines are given already in log10 where `log`. `scrub`: an x that is marked by a vertical line."""
        self._axis, self._tick, self._log = axis, tick, log
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
        margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
        left, right = x_range or ((min(xs), max(xs)) if xs else (0.0, 1.0))
        if left == right:
            left, right = left - 0.5, right + 0.5
        bottom = 0.0 if not log and 0 <= low < margin else low - margin
        mode = HiResMode.BRAILLE if unicode else None
        marks = [] if scrub is None else [VLinePlot(x=scrub, line_style=tick)]
        self._wanted = [_line(line, mode) for line in lines if line.points], marks, (left, right, bottom, high + margin)
        self._take()

    @property
    def drawn(self) -> bool:
        return self._wanted is not None and not self._needs_rerender

    def on_mount(self) -> None:
        """The plot clears itself as it is mounted: what was to be drawn before comes after that."""
        self.call_after_refresh(self._take)

    def _take(self) -> None:
        if self._wanted is None:
            return
        datasets, self._v_lines, (self._x_min, self._x_max, self._y_min, self._y_max) = self._wanted
        self._datasets = list(datasets)
        self._labels = [None] * len(self._datasets)
        self._v_lines_labels = [None] * len(self._v_lines)
        self._rerender()

    def _render_plot(self) -> None:
        canvas = self.query_one("#plot", Canvas)
        if canvas._canvas_size.width < 4 or canvas._canvas_size.height < 3:  # pyright: ignore[reportPrivateUsage]
            return
        canvas.reset()
        for line in self._v_lines:
            x, _ = self.get_pixel_from_coordinate(line.x, self._y_min)
            for y in range(canvas.size.height - 1):
                canvas.set_pixel(x, y, char="┆", style=line.line_style)
        for dataset in self._datasets:
            if isinstance(dataset, LinePlot):
                self._render_line_plot(dataset)
                if len(dataset.x) == 1:  # a single point is a line to nowhere
                    x, y = self.get_pixel_from_coordinate(dataset.x[0], dataset.y[0])
                    canvas.set_pixel(x, y, char="•", style=dataset.line_style)
        self._render_axes(canvas)

    def _render_axes(self, canvas: Canvas) -> None:
        width, height = canvas.size
        left, below = self.query_one("#margin-left", Canvas), self.query_one("#margin-bottom", Canvas)
        left.reset()
        below.reset()
        for y in range(height - 1):
            canvas.set_pixel(0, y, char="│", style=self._axis)
        for x in range(1, width):
            canvas.set_pixel(x, height - 1, char="─", style=self._axis)
        canvas.set_pixel(0, height - 1, char="└", style=self._axis)
        used = height
        for tick in sorted(self._formatter.get_ticks(self._y_min, self._y_max, max(2, height // 3))):
            if not self._y_min <= tick <= self._y_max:
                continue
            _, y = self.get_pixel_from_coordinate(self._x_min, tick)
            y = min(max(0, y), height - 2)
            if used - y < 2:
                continue
            used = y
            canvas.set_pixel(0, y, char="┤", style=self._axis)
            label = number(10**tick) if self._log else _short(tick)
            _write(left, self.margin_left - 1 - len(label), y, label, self._tick)
        end = 0
        for tick in self._formatter.get_ticks(self._x_min, self._x_max, max(2, width // 10)):
            if not self._x_min <= tick <= self._x_max or (tick != int(tick) and self._x_max - self._x_min > 3):
                continue
            x, _ = self.get_pixel_from_coordinate(tick, self._y_min)
            label = _short(tick)
            at = min(max(0, x - len(label) // 2), width - len(label)) + self.margin_left
            if at < end:
                continue
            end = at + len(label) + 1
            canvas.set_pixel(min(max(1, x), width - 1), height - 1, char="┴", style=self._axis)
            _write(below, at, 0, label, self._tick)


def _line(line: Drawn, mode: HiResMode | None) -> LinePlot:
    values = np.array(line.points, dtype=float)
    return LinePlot(x=values[:, 0], y=values[:, 1], line_style=line.style, hires_mode=mode)


def _write(canvas: Canvas, x: int, y: int, text: str, style: str) -> None:
    for n, char in enumerate(text):
        if x + n >= 0:
            canvas.set_pixel(x + n, y, char=char, style=style)


def _short(value: float) -> str:
    """A tick's label: at most seven cells."""
    text = f"{value:.4g}"
    return text if len(text) <= 7 else f"{value:.1e}"
