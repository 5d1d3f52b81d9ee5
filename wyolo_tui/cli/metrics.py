"""wyolo metrics: the numbers of each epoch."""

import csv
import sys
from math import isfinite
from typing import Annotated

import typer

from broker.protocol.api import MetricTable
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.cli.targets import OneJob, one
from wyolo_tui.cli.verb import verb
from wyolo_tui.present import Cell, number, plain, spark

SPARK_CELLS = 24
LOWER_IS_BETTER = ("loss", "_err")


@verb
async def command(
    cli: Session,
    *,
    job: OneJob,
    names: Annotated[
        str | None, typer.Option("--names", metavar="A,B,...", help="Only these, epoch by epoch; parts of names do.")
    ] = None,
    last: Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="Only the last N epochs.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV: epoch, attempt, seconds, then the metrics.")] = False,
) -> Exit:
    """Show how a training's losses and metrics went: each with its curve, first, last, best value and epoch."""
    async with cli.broker() as broker:
        found = await one(broker, job)
        table = await broker.metrics(found.id, last=last)
    if names is not None:
        table = _only(table, [name.strip() for name in names.split(",") if name.strip()])
    if cli.json:
        cli.emit(table)
    elif as_csv:
        _write_csv(table)
    elif not table.epochs:
        cli.note(f"job {found.id} has no metrics{'' if found.epochs else ': it is no training'} yet")
    else:
        _summary(cli, table)
        if names is not None:
            cli.say()
            _by_epoch(cli, table)
    return Exit.OK


def _only(table: MetricTable, wanted: list[str]) -> MetricTable:
    """The columns whose names contain one of the wanted. Raises BadUse with what there is."""
    kept = {
        name: values for name, values in table.columns.items() if any(word.lower() in name.lower() for word in wanted)
    }
    if not kept and table.columns:
        raise BadUse(f"no metric is called {', '.join(wanted)}", f"there are {', '.join(table.columns)}")
    return table.model_copy(update={"columns": kept})


def _summary(cli: Session, table: MetricTable) -> None:
    from wyolo_tui.cli.tables import grid

    rows: list[list[Cell | str]] = []
    for name, column in table.columns.items():
        points = [(e, v) for e, v in zip(table.epochs, column, strict=True) if v is not None]
        finite = [(e, v) for e, v in points if isfinite(v)]
        if not points:
            continue
        down = any(word in name for word in LOWER_IS_BETTER)
        best = (min if down else max)(finite, key=lambda point: point[1], default=None)
        curve = spark([v for _, v in points], SPARK_CELLS, cli.glyphs)
        known = not name.startswith("lr/") and best is not None
        rows.append(
            [
                plain(name),
                [(curve, "spark")],
                number(points[0][1]),
                number(points[-1][1]),
                [(number(best[1]), "good")] if known and best else "",
                f"at {best[0]}" if known and best else "",
            ]
        )
    cli.show(grid(["METRIC", "EPOCHS " + _span(table), "FIRST", "LAST", "BEST", ""], rows, right={2, 3, 4}))


def _by_epoch(cli: Session, table: MetricTable) -> None:
    from wyolo_tui.cli.tables import grid

    rows = [
        [str(epoch), *(number(column[i]) for column in table.columns.values())] for i, epoch in enumerate(table.epochs)
    ]
    heads = ["EPOCH", *(plain(name) for name in table.columns)]
    cli.show(grid(heads, rows, right=range(len(heads))))


def _span(table: MetricTable) -> str:
    return f"{table.epochs[0]}-{table.epochs[-1]}"


def _write_csv(table: MetricTable) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["epoch", "attempt", "seconds", *table.columns])
    for i, epoch in enumerate(table.epochs):
        attempt = table.attempts[i] if i < len(table.attempts) else ""
        seconds = table.seconds[i] if i < len(table.seconds) else ""
        out.writerow([epoch, attempt, seconds, *(column[i] for column in table.columns.values())])
    sys.stdout.flush()
