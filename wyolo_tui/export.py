"""What a table shows, as CSV or JSON. Pure but for `write`, which leaves a whole file or none."""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.protocol.job import Job

FIELDS = (
    "id",
    "name",
    "state",
    "reason",
    "message",
    "priority",
    "user",
    "model",
    "task",
    "data",
    "node",
    "gpus",
    "epoch",
    "epochs",
    "fitness_name",
    "fitness",
    "best_fitness",
    "best_epoch",
    "submitted_at",
    "started_at",
    "ended_at",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def as_csv(jobs: Sequence["Job"]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(FIELDS)
    for job in jobs:
        row = job.model_dump(mode="json", include=set(FIELDS))
        writer.writerow([_cell(row[name]) for name in FIELDS])
    return out.getvalue()


def as_json(jobs: Sequence["Job"]) -> str:
    rows = [job.model_dump(mode="json", include=set(FIELDS)) for job in jobs]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Sequence["Job"]], str]] = {"csv": as_csv, "json": as_json}


def write(path: Path, text: str) -> None:
    """Raises OSError; a file that was there is kept until the new one is whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
