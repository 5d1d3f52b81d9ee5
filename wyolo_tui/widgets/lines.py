"""A list of lines that draws only what is in view, with a cursor or without. Tables, logs and texts are made of it."""

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.filter import ANSIToTruecolor, LineFilter
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from wyolo_tui.host import Hosted
from wyolo_tui.present import Cell


class Lines(ScrollView, Hosted, can_focus=True):
    """`count` lines; subclasses draw one in `draw_line`. With a `header`, the first line stays in place."""

    header_lines = 0
    cursor = reactive(0, repaint=False)
    has_cursor = True

    DEFAULT_CSS = """
    Lines { overflow-x: hidden; overflow-y: scroll; scrollbar-size-vertical: 1; height: 1fr; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._count = 0
        self._base: Style | None = None

    # --- what a subclass says ---

    def draw_line(self, index: int, width: int, on_cursor: bool) -> Strip:
        raise NotImplementedError

    def draw_header(self, y: int, width: int) -> Strip:
        return Strip.blank(width)

    def draw_empty(self, y: int, width: int) -> Strip:
        return Strip.blank(width, self.base)

    # --- drawing ---

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Without the search for the terminal's own colours, a tenth of each paint: all that is drawn here has the
        theme's."""
        return [each for each in super().get_line_filters() if not isinstance(each, ANSIToTruecolor)]

    @property
    def count(self) -> int:
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        if count != self._count:
            self._count = count
            self._fit()
        if self.has_cursor and self.cursor >= count:
            self.cursor = max(0, count - 1)

    @property
    def page(self) -> int:
        """Lines in view, without the header."""
        return max(1, self.scrollable_content_region.height - self.header_lines)

    @property
    def first(self) -> int:
        """The first line in view."""
        return int(self.scroll_offset.y)

    def _fit(self) -> None:
        """Without the layout of the whole screen that a new virtual size asks for: a log grows four times a second."""
        size = Size(self.scrollable_content_region.width, self._count + self.header_lines)
        if size.width != self.virtual_size.width or not self.show_vertical_scrollbar:
            self.virtual_size = size
            return
        self.set_reactive(Widget.virtual_size, size)  # pyright: ignore[reportArgumentType]
        self.vertical_scrollbar.window_virtual_size = size.height
        self.scroll_y = min(self.scroll_y, self.max_scroll_y)

    @property
    def base(self) -> Style:
        """What is under everything that is drawn here. Looked up once: it asks all ancestors."""
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def notify_style_update(self) -> None:
        self._base = None
        super().notify_style_update()

    def on_resize(self) -> None:
        self._fit()

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width or self.size.width
        if y < self.header_lines:
            return self.draw_header(y, width)
        index = y - self.header_lines + self.first
        if index >= self._count:
            return self.draw_empty(y, width)
        return self.draw_line(index, width, self.has_cursor and index == self.cursor)

    def redraw(self, indexes: Iterable[int]) -> None:
        """Only those of these lines that are in view."""
        first, page = self.first, self.page
        regions = [
            Region(0, index - first + self.header_lines, self.size.width, 1)
            for index in indexes
            if first <= index < first + page
        ]
        if regions:
            self.refresh(*regions)

    def strip(self, cells: Iterable[Cell], width: int, background: Style | None = None) -> Strip:
        """Cells one after another, padded to `width`. The background goes under what has none of its own."""
        palette = self.palette
        under = background or Style.null()
        base = self.base + under
        segments = [
            Segment(text, base + palette[role] + under if background else base + palette[role])
            for cell in cells
            for text, role in cell
            if text
        ]
        return Strip(segments).adjust_cell_length(width, base)

    # --- the cursor ---

    def watch_cursor(self, before: int, after: int) -> None:
        self.redraw((before, after))
        self.show(after)

    def show(self, index: int) -> None:
        """Scroll as little as brings this line into view."""
        first, page = self.first, self.page
        if index < first:
            self.scroll_to(y=index, animate=False)
        elif index >= first + page:
            self.scroll_to(y=index - page + 1, animate=False)

    def place(self, index: int) -> None:
        """Put the cursor on a line without a word to anyone: its line moved, not the person."""
        self.set_reactive(Lines.cursor, index)  # pyright: ignore[reportArgumentType]

    def move(self, by: int) -> None:
        if self.has_cursor:
            self.cursor = min(max(0, self.cursor + by), max(0, self._count - 1))
        else:
            self.scroll_to(y=self.first + by, animate=False)

    def action_cursor_down(self) -> None:
        self.move(1)

    def action_cursor_up(self) -> None:
        self.move(-1)

    def action_cursor_first(self) -> None:
        self.move(-self._count)

    def action_cursor_last(self) -> None:
        self.move(self._count)

    def action_half_down(self) -> None:
        self.move(max(1, self.page // 2))

    def action_half_up(self) -> None:
        self.move(-max(1, self.page // 2))
