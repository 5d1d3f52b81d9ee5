"""Where the axes of a chart have their numbers. Pure."""

from math import ceil, floor, log10

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
