"""Lines in braille dots, two across and four down in each cell. Pure."""

from collections.abc import Sequence
from itertools import pairwise

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # rows from above, columns from the left
BLANK = 0x2800

Cells = dict[tuple[int, int], int]  # (x, y) of a cell -> its dots


def polyline(points: Sequence[tuple[float, float]], width: int, height: int) -> Cells:
    """The line through points given in 0..1 from the lower left, in `width` x `height` cells."""
    across, down = width * 2 - 1, height * 4 - 1
    dots = [(round(min(1.0, max(0.0, x)) * across), down - round(min(1.0, max(0.0, y)) * down)) for x, y in points]
    cells: Cells = {}
    for x, y in dots[:1]:
        _set(cells, x, y)
    for (x0, y0), (x1, y1) in pairwise(dots):
        _segment(cells, x0, y0, x1, y1)
    return cells


def _segment(cells: Cells, x0: int, y0: int, x1: int, y1: int) -> None:
    """Bresenham's algorithm."""
    dx, dy = abs(x1 - x0), -abs(y1 - y0)
    step_x, step_y = (1 if x0 < x1 else -1), (1 if y0 < y1 else -1)
    error = dx + dy
    while True:
        _set(cells, x0, y0)
        if (x0, y0) == (x1, y1):
            return
        twice = 2 * error
        if twice >= dy:
            error += dy
            x0 += step_x
        if twice <= dx:
            error += dx
            y0 += step_y


def _set(cells: Cells, x: int, y: int) -> None:
    cell = (x >> 1, y >> 2)
    cells[cell] = cells.get(cell, 0) | _DOTS[y & 3][x & 1]
