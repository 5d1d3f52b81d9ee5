"""Tables of the command line, as lines of styled text. On a terminal they fit its width; in a pipe nothing is cut."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.text import Text

from broker.protocol.fleet import GpuSample, Node
from broker.protocol.job import Attempt, Checkpoint, Job
from wyolo_tui.columns import COLUMNS, Column, Scene, layout
from wyolo_tui.present import Cell, Glyphs, bar, clock, day_and_clock, duration, fit, mib, plain, width_of

GAP = "  "

# The terminal's own colours: they are legible on whatever ground a person has chosen.
STYLES = {
    "strong": "bold",
    "dim": "dim",
    "head": "bold",
    "accent": "cyan",
    "good": "green",
    "warn": "yellow",
    "bad": "red",
    "state.running": "bold green",
    "state.starting": "cyan",
    "state.queued": "blue",
    "state.held": "dim",
    "state.unknown": "bold yellow",
    "state.completed": "green",
    "state.failed": "bold red",
    "state.stopped": "magenta",
    "bar.on": "cyan",
    "bar.done": "green",
    "bar.off": "bright_black",
    "bar.bad": "red",
    "spark": "cyan",
    "gauge.low": "green",
    "gauge.mid": "yellow",
    "gauge.high": "red",
    "yaml.key": "cyan",
    "yaml.number": "yellow",
    "yaml.text": "green",
    "yaml.word": "magenta",
}


def text(cell: Cell) -> Text:
    return Text.assemble(*((part, STYLES.get(role, "")) for part, role in cell))


def jobs_lines(
    jobs: Sequence[Job],
    *,
    width: int | None,
    glyphs: Glyphs,
    chosen: Collection[str],
    now: datetime,
    nodes: Sequence[Node] = (),
) -> Iterable[Text]:
    """A header, then a line for each job."""
    indexes = {gpu.uuid: gpu.index for node in nodes if node.sample for gpu in node.sample.gpus}
    scene = Scene(glyphs, now, indexes)
    digits = max((len(str(job.id)) for job in jobs), default=2)
    columns = (
        layout(width, chosen, digits) if width is not None else [column for column in COLUMNS if column.id in chosen]
    )
    rows = [[column.cell(job, column.width, scene) for column in columns] for job in jobs]
    if width is None:
        widths = [max([len(c.title), *(width_of(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    else:
        widths = [column.width for column in columns]
    return _lines(columns, widths, rows, glyphs)


def _lines(
    columns: Sequence[Column], widths: Sequence[int], rows: Sequence[Sequence[Cell]], glyphs: Glyphs
) -> Iterable[Text]:
    heads: list[Cell] = [[(column.title, "head")] for column in columns]
    for row in (heads, *rows):
        line = Text(end="")
        for i, cell in enumerate(row):
            line.append_text(_padded(cell, widths[i], columns[i].right, glyphs))
            line.append(GAP)
        line.rstrip()
        yield line


def _padded(cell: Cell, width: int, right: bool, glyphs: Glyphs) -> Text:
    missing = width - width_of(cell)
    if missing >= 0:
        padding = Text(" " * missing)
        return padding + text(cell) if right else text(cell) + padding
    line, left = Text(), width
    for part, role in cell:
        line.append(fit(part, min(left, cell_len(part)), glyphs.ellipsis), STYLES.get(role, ""))
        left -= min(left, cell_len(part))
    return line


def grid(heads: Sequence[str], rows: Iterable[Sequence[Cell | str]], right: Collection[int] = ()) -> Iterable[Text]:
    """A table whose columns are as wide as they need to be; those with nothing in them are left out.

    `right`: the columns of numbers.
    """
    cells = [[[(cell, "")] if isinstance(cell, str) else cell for cell in row] for row in rows]
    shown = [i for i in range(len(heads)) if not cells or any(width_of(row[i]) for row in cells)]
    cells.insert(0, [[(head, "head")] for head in heads])
    widths = {i: max(width_of(row[i]) for row in cells) for i in shown}
    for row in cells:
        line = Text(end="")
        for i in shown:
            padding = " " * (widths[i] - width_of(row[i]))
            line.append_text(Text(padding) + text(row[i]) if i in right else text(row[i]) + Text(padding))
            line.append(GAP)
        line.rstrip()
        yield line


def attempt_lines(attempts: Sequence[Attempt], now: datetime) -> Iterable[Text]:
    rows: list[list[Cell | str]] = []
    for attempt in attempts:
        end = attempt.ended_at or now
        how = "running" if attempt.ended_at is None else plain(str(attempt.reason or "ended"))
        code = "" if attempt.exit_code is None else str(attempt.exit_code)
        rows.append(
            [
                str(attempt.fence),
                plain(attempt.node),
                day_and_clock(attempt.started_at, now, None),
                duration((end - attempt.started_at).total_seconds()),
                how,
                code,
                [(_image(attempt.image), "dim")],
                plain(attempt.message),
            ]
        )
    return grid(["ATTEMPT", "NODE", "STARTED", "TOOK", "ENDED", "EXIT", "IMAGE", ""], rows, right={0, 5})


def _image(image: str) -> str:
    """Its name, and so much of its digest as tells it from others."""
    name, _, digest = plain(image).partition("@")
    return f"{name}@{digest.removeprefix('sha256:')[:12]}" if digest else name


def checkpoint_lines(checkpoints: Sequence[Checkpoint]) -> Iterable[Text]:
    rows = [
        [str(c.epoch), str(c.attempt), clock(c.at, None), [(c.sha256[:12], "dim")], plain(c.path)] for c in checkpoints
    ]
    return grid(["EPOCH", "ATTEMPT", "AT", "SHA256", "PATH"], rows, right={0, 1})


def node_lines(nodes: Sequence[Node], glyphs: Glyphs) -> Iterable[Text]:
    rows: list[list[Cell | str]] = []
    gpus: list[list[Cell | str]] = []
    for node in nodes:
        sample = node.sample
        role = "good" if node.state == "up" else "bad" if node.state == "unreachable" else "warn"
        rows.append(
            [
                plain(node.name),
                node.engine,
                [(node.state.value, role)],
                f"{node.slots_used}/{node.slots}",
                _gauge(sample.cpu_percent if sample else None, glyphs),
                _share(sample.memory_used_mib, sample.memory_total_mib, glyphs) if sample else "",
                _share(sample.shm_used_mib, sample.shm_total_mib, glyphs) if sample else "",
                _share(sample.disk_used_mib, sample.disk_total_mib, glyphs) if sample else "",
                " ".join(str(job) for job in node.jobs),
                plain(", ".join(f"{name}={value}" for name, value in sorted(node.labels.items()))),
                "; ".join(filter(None, (plain(_withheld(node)), plain(node.message)))),
            ]
        )
        gpus += [_gpu_row(node, gpu, glyphs) for gpu in (sample.gpus if sample else [])]
    heads = ["NODE", "ENGINE", "STATE", "SLOTS", "CPU", "MEMORY", "/dev/shm", "DISK", "JOBS", "LABELS", ""]
    yield from grid(heads, rows)
    if gpus:
        yield Text(end="")
        yield from grid(["GPU", "NAME", "LOAD", "MEMORY", "TEMP", "POWER", "JOBS", "OTHERS"], gpus)


def _withheld(node: Node) -> str:
    return "" if node.withheld is None else node.withheld.words(utc_now())


def _gpu_row(node: Node, gpu: GpuSample, glyphs: Glyphs) -> list[Cell | str]:
    others = [p for p in gpu.processes if p.job_id is None]
    watts = "" if gpu.power_w is None else f"{gpu.power_w:.0f}W"
    limit = "" if gpu.power_limit_w is None else f"/{gpu.power_limit_w:.0f}W"
    return [
        f"{plain(node.name)}:{gpu.index}",
        [(plain(gpu.name) + (" (lost)" if gpu.lost else ""), "bad" if gpu.lost else "")],
        _gauge(gpu.utilisation, glyphs),
        _share(gpu.memory_used_mib, gpu.memory_total_mib, glyphs),
        "" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f}{glyphs.degree}C",
        watts + limit,
        " ".join(str(job) for job in node.gpu_jobs.get(gpu.uuid, [])),
        f"{len(others)}: {mib(sum(p.memory_mib for p in others))}" if others else "",
    ]


def _gauge(percent: float | None, glyphs: Glyphs) -> Cell:
    if percent is None:
        return []
    role = "gauge.low" if percent < 70 else "gauge.mid" if percent < 90 else "gauge.high"
    return [*bar(percent / 100, 6, glyphs, role), (f" {percent:3.0f}%", "")]


def _share(used: int, total: int, glyphs: Glyphs) -> Cell:
    return [*_gauge(100 * used / total, glyphs)[:1], (f" {mib(used)}/{mib(total)}", "")] if total else []


def pairs(rows: Iterable[tuple[str, Cell | str]]) -> Iterable[Text]:
    """`name  value` lines; those without a value are left out."""
    shown = [(name, [(cell, "")] if isinstance(cell, str) else cell) for name, cell in rows]
    shown = [(name, cell) for name, cell in shown if width_of(cell)]
    wide = max((len(name) for name, _ in shown), default=0)
    for name, cell in shown:
        yield Text(f"{name:<{wide}}", style=STYLES["dim"], end="") + Text(GAP) + text(cell)


def utc_now() -> datetime:
    return datetime.now(UTC)
