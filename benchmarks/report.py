"""What a benchmark prints: one row for each thing measured, beside its baseline or peer of the same run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    ours: str
    beside: str  # the baseline or peer, measured in the same run
    aim: str  # what we want of it
    met: bool | None  # None: shown for comparison only


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile; `share` in 0..1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def markdown(rows: Sequence[Row]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    lines = ["| what | wyolo | beside it, same run | aim | met |", "|---|---|---|---|---|"]
    lines += [f"| {r.what} | {r.ours} | {r.beside} | {r.aim} | {marks[r.met]} |" for r in rows]
    return "\n".join(lines)
