"""From a table of metrics to the lines of the charts: which go together, smoothed, reduced to a chart's width. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.protocol.api import MetricTable
    from broker.protocol.event import EpochDone

Points = list[tuple[float, float]]
SMOOTHING = (0.0, 0.6, 0.9)  # weights of what was before, as TensorBoard's


@dataclass(frozen=True, slots=True)
class Line:
    name: str  # of the column
    label: str  # 'train', 'val', 'mAP50'
    points: Points


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    lines: tuple[Line, ...]


def charts(table: "MetricTable", by_time: bool = False, smoothing: float = 0.0) -> list[Chart]:
    """The metrics, then each loss with its training and validation lines, then the learning rate."""
    xs = _elapsed(table) if by_time else [float(epoch) for epoch in table.epochs]
    metrics: list[Line] = []
    losses: dict[str, list[Line]] = {}
    rates: list[Line] = []
    others: list[Line] = []
    for name, column in table.columns.items():
        points = [(x, y) for x, y in zip(xs, column, strict=False) if x is not None and y is not None and isfinite(y)]
        if not points:
            continue
        group, _, rest = name.partition("/")
        line = Line(name, short(name), smooth(points, smoothing))
        if "loss" in name and group in ("train", "val"):
            losses.setdefault(rest, []).append(Line(name, group, line.points))
        elif group == "metrics":
            metrics.append(line)
        elif group == "lr":
            rates.append(line)
        elif name != "fitness":
            others.append(line)
    ordered = sorted(metrics, key=lambda line: _METRIC_ORDER.get(line.label, 9))
    found: list[Chart] = []
    if ordered:
        found.append(Chart("metrics", tuple(ordered[:6])))
    found += [
        Chart(rest.replace("_", " "), tuple(sorted(lines, key=lambda line: line.label)))
        for rest, lines in losses.items()
    ]
    if others:
        found.append(Chart("other", tuple(others[:6])))
    if rates:
        found.append(Chart("learning rate", tuple(rates[:1])))  # groups differ by a factor, if at all
    return found


_METRIC_ORDER = {"mAP50": 0, "mAP50-95": 1, "precision": 2, "recall": 3, "top1": 0, "top5": 1}


def short(name: str) -> str:
    """'metrics/mAP50-95(B)' -> 'mAP50-95'; a second head keeps its letter: 'mAP50 M'."""
    label = name.partition("/")[2] or name
    if label.endswith("(B)"):
        return label[:-3]
    if label.endswith(")") and "(" in label:
        return label[:-1].replace("(", " ")
    return label.removeprefix("accuracy_")


def smooth(points: Points, weight: float) -> Points:
    """An exponential moving average, unbiased at its start."""
    if not weight:
        return points
    out: Points = []
    mean, seen = 0.0, 0.0
    for x, y in points:
        mean = mean * weight + y * (1 - weight)
        seen = seen * weight + (1 - weight)
        out.append((x, mean / seen))
    return out


def reduce(points: Points, width: int) -> Points:
    """At most 2 * width points: of each of `width` buckets, the least and the largest, in their order."""
    if len(points) <= 2 * width or width < 1:
        return points
    out: Points = []
    size = len(points) / width
    for n in range(width):
        bucket = points[int(n * size) : max(int(n * size) + 1, int((n + 1) * size))]
        low, high = min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])
        out += [low] if low == high else sorted((low, high))
    if out[-1] != points[-1]:
        out[-1] = points[-1]
    return out


def logarithmic(points: Points) -> Points:
    """log10 of what is positive."""
    return [(x, log10(y)) for x, y in points if y > 0]


def at(points: Points, x: float) -> float | None:
    """The value at x, or at the nearest point before it."""
    before = [y for px, y in points if px <= x]
    return before[-1] if before else None


def _elapsed(table: "MetricTable") -> Sequence[float | None]:
    """Minutes of training at the end of each epoch."""
    total = 0.0
    out: list[float | None] = []
    for seconds in table.seconds or [None] * len(table.epochs):
        total += seconds or 0.0
        out.append(total / 60)
    return out


def with_epoch(table: "MetricTable", event: "EpochDone") -> "MetricTable":
    """The table with an epoch that has just finished. One that is there already (an attempt went back) is replaced."""
    keep = [n for n, epoch in enumerate(table.epochs) if epoch < event.epoch]
    names = [*table.columns, *(name for name in event.values if name not in table.columns)]
    size = len(table.epochs)
    columns = {
        name: [*((table.columns.get(name) or [None] * size)[n] for n in keep), event.values.get(name)] for name in names
    }
    seconds = table.seconds or [None] * size
    attempts = table.attempts or [1] * size
    update = {
        "epochs": [*(table.epochs[n] for n in keep), event.epoch],
        "seconds": [*(seconds[n] for n in keep), event.seconds],
        "attempts": [*(attempts[n] for n in keep), event.attempt],
        "columns": columns,
    }
    return table.model_copy(update=update)
