"""Where the axes of a chart have their numbers. Pure."""

from collections.abc import Callable
from itertools import pairwise
from math import ceil, floor, log10

MOST = 8  # intervals
_NEAR = 1e-9  # of an axis: a tick at its very end is on it


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, evenly, in at most `most` intervals. `whole`:
    there is nothing between two whole numbers."""
    power = 10.0 ** floor(log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most + _NEAR)
    if whole:
        step = max(1.0, step)
    near = (high - low) * _NEAR
    return [n * step for n in range(ceil((low - near) / step), floor((high + near) / step) + 1)]


def roomy(low: float, high: float, cell: Callable[[float], int], apart: int, whole: bool = False) -> list[float]:
    """As many ticks as leave so many cells from each to the next. `cell`: where on the screen one is."""
    for most in range(MOST, 0, -1):
        found = ticks(low, high, most, whole)
        if all(abs(cell(after) - cell(before)) >= apart for before, after in pairwise(found)):
            return found
    return []
