"""The columns of the jobs table: what each shows, how wide, and which are there at a given width. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from broker.protocol.states import Priority
from wyolo_tui.present import (
    Cell,
    Glyphs,
    ago,
    by_key,
    duration,
    epoch_cell,
    fitness_cell,
    plain,
    state_cell,
    where,
    why,
)

if TYPE_CHECKING:
    from broker.protocol.job import Job


@dataclass(frozen=True, slots=True)
class Scene:
    """What a cell needs besides the job."""

    glyphs: Glyphs
    now: datetime
    gpu_index: Mapping[str, int]  # GPU uuid -> index on its node
    key: Callable[[str], str] | None = None  # on a screen with keys: what is printed on that of a binding


@dataclass(frozen=True, slots=True)
class Column:
    id: str
    title: str
    help: str
    width: int  # in cells, without the gap
    importance: int  # 1 stays longest when it gets narrow
    cell: Callable[["Job", int, Scene], Cell]
    grow: int = 0  # its share of the width that is left
    limit: int = 0  # grows to this at most; 0: no limit
    right: bool = False  # aligned right
    shrink: int = 0  # may be this narrow when the width is short; 0: its width


def _priority(job: "Job", width: int, scene: Scene) -> Cell:
    glyphs = scene.glyphs
    sign, role = {Priority.HIGH: (glyphs.up, "warn"), Priority.LOW: (glyphs.down, "dim")}.get(
        job.priority, (glyphs.dot, "faint")
    )
    return [(sign if width < 8 else f"{sign} {job.priority.value}", role)]


def _name(job: "Job", _: int, __: Scene) -> Cell:
    return [(plain(job.name), "")]


def _model(job: "Job", _: int, __: Scene) -> Cell:
    return [(plain(job.model), "dim")]


def _epoch(job: "Job", width: int, scene: Scene) -> Cell:
    return epoch_cell(job, width, scene.glyphs)


def _fitness(job: "Job", width: int, scene: Scene) -> Cell:
    return fitness_cell(job, width, scene.glyphs)


def _eta(job: "Job", _: int, __: Scene) -> Cell:
    return [(duration(job.eta_s), "")]


def _state(job: "Job", width: int, scene: Scene) -> Cell:
    return state_cell(job, scene.glyphs, word=width > 2)


def _why(job: "Job", _: int, scene: Scene) -> Cell:
    text, role = why(job)
    return [(by_key(text, scene.key) if scene.key is not None else text, role)]


COLUMNS: tuple[Column, ...] = (
    Column("id", "ID", "number", 4, 1, lambda job, _, __: [(str(job.id), "dim")], right=True),
    Column("state", "STATE", "state", 11, 1, _state),
    Column("name", "NAME", "name", 22, 1, _name, grow=3, limit=36, shrink=18),
    Column("model", "MODEL", "model or program", 12, 9, _model, grow=1, limit=18),
    Column("epoch", "EPOCH", "finished epochs", 12, 2, _epoch, grow=1, limit=22),
    Column("fitness", "FITNESS", "fitness so far, and the best", 12, 5, _fitness, grow=1, limit=24),
    Column("eta", "LEFT", "time until it is done", 7, 3, _eta, right=True),
    Column(
        "where",
        "NODE:GPU",
        "where it runs",
        8,
        6,
        lambda job, _, s: [(plain(where(job, dict(s.gpu_index))), "")],
        grow=1,
        limit=16,
    ),
    Column("user", "USER", "who asked for it", 6, 8, lambda job, _, __: [(plain(job.user), "dim")], limit=12, grow=1),
    Column("priority", "PRIO", "priority", 4, 7, _priority, grow=1, limit=8),
    Column("why", "WHY", "why it waits, or why it ended", 28, 4, _why, grow=8, shrink=12),
    Column(
        "age",
        "AGE",
        "since it was submitted",
        4,
        10,
        lambda job, _, s: [(ago(job.submitted_at, s.now), "dim")],
        right=True,
    ),
    Column(
        "data",
        "DATA",
        "data set",
        12,
        11,
        lambda job, _, __: [(plain(job.data.rsplit("/", 1)[-1]), "dim")],
        grow=1,
        limit=24,
    ),
)
BY_ID = {column.id: column for column in COLUMNS}
USUAL = frozenset({"id", "state", "name", "model", "epoch", "fitness", "eta", "where", "user", "priority", "why"})
OF_TRAININGS = frozenset({"epoch", "fitness", "eta"})  # with nothing in them for a command
GAP = 2
COMFORTABLE = 100


def layout(
    width: int,
    chosen: Collection[str] = USUAL,
    id_digits: int = 3,
    *,
    beside: bool = False,
    trainings: bool = True,
) -> list[Column]:
    """The chosen columns that fit into `width` cells, widened to fill it. The least important leave first.

    `beside`: the job's details stand beside the table and say why it waits or ended. `trainings`: there is one.
    """
    columns = [
        replace(column, width=max(2, id_digits)) if column.id == "id" else column
        for column in COLUMNS
        if column.id in chosen and (trainings or column.id not in OF_TRAININGS)
    ]

    def least(column: Column) -> int:
        """On a narrow screen the columns of trainings are squeezed; else the least important leave sooner instead."""
        squeezed = column.shrink or column.width
        return squeezed if width < COMFORTABLE and trainings else (squeezed + column.width) // 2

    while len(columns) > 1 and sum(least(c) + GAP for c in columns) - GAP > width:
        columns.remove(max(columns, key=lambda c: 6.5 if beside and c.id == "why" else c.importance))
    spare = width - sum(least(c) + GAP for c in columns) + GAP
    widths = {c.id: least(c) for c in columns}
    for column in sorted(columns, key=lambda c: c.importance):  # first back to their own width
        back = max(0, min(spare, column.width - widths[column.id]))
        widths[column.id] += back
        spare -= back
    while spare > 0:
        growing = [c for c in columns if c.grow and (not c.limit or widths[c.id] < c.limit)]
        if not growing:
            break
        share = max(1, spare // sum(c.grow for c in growing))
        for column in growing:
            extra = min(spare, share * column.grow, (column.limit or width) - widths[column.id])
            widths[column.id] += extra
            spare -= extra
    return [replace(column, width=widths[column.id]) for column in columns]
