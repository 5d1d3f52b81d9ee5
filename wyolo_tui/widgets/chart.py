"""One chart: textual-plot's axes and canvas, drawn thin, with its own lines: they must not keep a key waiting."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Grid
from textual.strip import Strip
from textual_hires_canvas import Canvas
from textual_plot import PlotWidget
from textual_plot.plot_widget import Legend

from wyolo_tui.braille import BLANK, polyline
from wyolo_tui.present import number
from wyolo_tui.series import Points
from wyolo_tui.ticks import roomy


@dataclass(frozen=True, slots=True)
class Drawn:
    points: Points
    style: str  # as Rich reads it


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a chart shows."""

    lines: Sequence[Drawn]  # in log10 where `log`
    axis: str
    tick: str
    log: bool = False
    scrub: float | None = None  # an x that is marked by a vertical line
    x_range: tuple[float, float] | None = None  # None: that of the lines
    whole: bool = False  # there is nothing between two whole x: they are epochs
    note: str = ""  # instead of it all


class Paper(Canvas):
    """A canvas whose lines have a style before it has a size too: without one the filter for NO_COLOR breaks."""

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        return strip if strip.cell_length else Strip.blank(self.size.width, self.rich_style)


class ChartPlot(PlotWidget, can_focus=False, inherit_bindings=False):
    """`draw` replaces everything; nothing is kept between two calls."""

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
        self._picture: Picture | None = None

    def compose(self) -> ComposeResult:
        with Grid():
            for name in ("margin-top", "margin-left", "plot", "margin-bottom"):
                yield Paper(1, 1, id=name)
        yield Legend(id="legend")

    def draw(self, picture: Picture) -> None:
        self._picture = picture
        self._rerender()

    @property
    def drawn(self) -> bool:
        return self._picture is not None and not self._needs_rerender

    def on_mount(self) -> None:
        """The plot clears itself as it is mounted: what was to be drawn before comes after that."""
        self.call_after_refresh(self._rerender)

    def _render_plot(self) -> None:
        canvas, left, below = (self.query_one(f"#{name}", Canvas) for name in ("plot", "margin-left", "margin-bottom"))
        picture = self._picture
        if picture is None or canvas.size.width < 4 or canvas.size.height < 3:
            return
        self._take_limits(picture)
        with ExitStack() as batch:
            for each in (canvas, left, below):
                batch.enter_context(each.batch_refresh())
                each.reset(each.size)
            if picture.note:
                _write(canvas, 1, canvas.size.height // 2, picture.note[: canvas.size.width - 2], picture.tick)
                return
            if picture.scrub is not None:
                x = self._cell_x(picture.scrub, canvas.size.width)
                for y in range(canvas.size.height - 1):
                    canvas.set_pixel(x, y, char="┆", style=picture.tick)
            for line in picture.lines:
                self._draw_line(canvas, line)
            self._draw_y_axis(canvas, left, picture)
            self._draw_x_axis(canvas, below, picture)

    def _take_limits(self, picture: Picture) -> None:
        xs = [x for line in picture.lines for x, _ in line.points] or [0.0, 1.0]
        ys = [y for line in picture.lines for _, y in line.points] or [0.0, 1.0]
        self._x_min, self._x_max = picture.x_range or (min(xs), max(xs))
        if self._x_min == self._x_max:
            self._x_min, self._x_max = self._x_min - 0.5, self._x_max + 0.5
        low, high = min(ys), max(ys)
        margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
        self._y_min, self._y_max = (0.0 if not picture.log and 0 <= low < margin else low - margin), high + margin

    def _draw_line(self, canvas: Canvas, line: Drawn) -> None:
        """To the right of the axis and above it."""
        across, up = self._x_max - self._x_min, self._y_max - self._y_min
        points = [((x - self._x_min) / across, (y - self._y_min) / up) for x, y in line.points]
        for (x, y), dots in polyline(points, canvas.size.width - 1, canvas.size.height - 1).items():
            seen = ord(canvas.get_pixel(x + 1, y)[0]) - BLANK
            canvas.set_pixel(x + 1, y, char=chr(BLANK + (dots | seen if 0 < seen < 256 else dots)), style=line.style)

    def _cell_x(self, x: float, width: int) -> int:
        return 1 + min(width - 2, max(0, int((x - self._x_min) / (self._x_max - self._x_min) * (width - 1))))

    def _cell_y(self, y: float, height: int) -> int:
        return min(height - 2, max(0, int((self._y_max - y) / (self._y_max - self._y_min) * (height - 1))))

    def _draw_y_axis(self, canvas: Canvas, left: Canvas, picture: Picture) -> None:
        height = canvas.size.height
        canvas.set_pixels([(0, y) for y in range(height - 1)], char="│", style=picture.axis)
        for tick in roomy(self._y_min, self._y_max, lambda tick: self._cell_y(tick, height), 2):
            y = self._cell_y(tick, height)
            canvas.set_pixel(0, y, char="┤", style=picture.axis)
            label = number(10**tick) if picture.log else _short(tick)
            _write(left, self.margin_left - 1 - len(label), y, label, picture.tick)

    def _draw_x_axis(self, canvas: Canvas, below: Canvas, picture: Picture) -> None:
        width, bottom = canvas.size.width, canvas.size.height - 1
        canvas.set_pixels([(x, bottom) for x in range(1, width)], char="─", style=picture.axis)
        canvas.set_pixel(0, bottom, char="└", style=picture.axis)
        apart = max(5, len(_short(self._x_min)), len(_short(self._x_max))) + 3
        for tick in roomy(self._x_min, self._x_max, lambda tick: self._cell_x(tick, width), apart, picture.whole):
            label = _short(tick)
            x = self._cell_x(tick, width)
            at = min(max(0, x - len(label) // 2), width - len(label)) + self.margin_left
            canvas.set_pixel(x, bottom, char="┴", style=picture.axis)
            _write(below, at, 0, label, picture.tick)


def _write(canvas: Canvas, x: int, y: int, text: str, style: str) -> None:
    for n, char in enumerate(text):
        if x + n >= 0:
            canvas.set_pixel(x + n, y, char=char, style=style)


def _short(value: float) -> str:
    """A tick's label: at most seven cells."""
    text = f"{value:.4g}"
    return text if len(text) <= 7 else f"{value:.1e}"
