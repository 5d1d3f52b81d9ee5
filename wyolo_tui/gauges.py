"""A node as lines: gauges with their history, the jobs that own its GPUs, and processes that are not ours. Pure."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from broker.protocol.fleet import GpuProcess, GpuSample, HostSample, Node, NodeState
from broker.protocol.job import Job
from wyolo_tui.present import Cell, Glyphs, aligned, bar, fit, gauge_role, mib, plain, spark, width_of

Row = tuple[str, float, str, list[float], str]  # label, per cent, value, history, the role of its bar

_STATE_ROLE = {
    NodeState.UP: "good",
    NodeState.DEGRADED: "warn",
    NodeState.UNREACHABLE: "bad",
    NodeState.DRAINING: "warn",
    NodeState.PAUSED: "warn",
}
WARM_C = 80.0  # a GPU that is warmer deserves a look
WARM = 70.0  # per cent, where a gauge begins to warn


def node_lines(node: Node, jobs: Mapping[int, Job], width: int, glyphs: Glyphs) -> list[Cell]:
    lines = [_title(node, glyphs), []]
    sample = node.sample
    if node.message:
        lines.insert(1, [(plain(node.message), "warn")])
    if sample is None:
        return [*lines, [("no reading yet", "dim")]]
    history = node.history
    lines += _host(sample, history, width, glyphs)
    if not sample.gpus:
        lines += _jobs_here(node, jobs)
        lines += [[], [("no GPU was found here: trainings run on the CPU", "dim")]]
        return lines
    for gpu in sample.gpus:
        lines.append([])
        readings = [found for past in history if (found := _of(past, gpu.uuid)) is not None]
        lines += _gpu(gpu, readings, node.gpu_jobs.get(gpu.uuid, []), jobs, width, glyphs)
    return lines


def short_line(node: Node, width: int, glyphs: Glyphs) -> Cell:
    """One line for the list of nodes."""
    sample = node.sample
    cell: Cell = [(fit(f"{glyphs.live} {plain(node.name)}", 18), _STATE_ROLE[node.state]),
                  (fit(node.state.value, 12), _STATE_ROLE[node.state]),
                  (f"slots {node.slots_used}/{node.slots}".ljust(13), "")]  # fmt: skip
    if sample is not None:
        cell += [("cpu ", "dim"), *_mini(sample.cpu_percent, glyphs), ("  mem ", "dim"),
                 *_mini(_percent(sample.memory_used_mib, sample.memory_total_mib), glyphs, True)]  # fmt: skip
        for gpu in sample.gpus:
            cell += [(f"  {gpu.index} ", "dim"), *_mini(gpu.utilisation, glyphs)]
    return aligned(cell, width, False, glyphs.ellipsis)


def _title(node: Node, glyphs: Glyphs) -> Cell:
    cell: Cell = [(f"{glyphs.live} ", _STATE_ROLE[node.state]), (plain(node.name), "strong"),
                  (f"  {node.state.value}", _STATE_ROLE[node.state]), (f"   {plain(node.engine)}", "dim"),
                  ("   slots ", "dim"), (f"{node.slots_used}/{node.slots}", "strong"),
                  (f"   {node.cpus:g} cores", "dim")]  # fmt: skip
    if node.sample is not None:
        cell.append((f"   load {node.sample.load1:.1f}", "dim"))
    return cell


def _host(sample: HostSample, history: Sequence[HostSample], width: int, glyphs: Glyphs) -> list[Cell]:
    def series(read: Callable[[HostSample], float]) -> list[float]:
        return [read(past) for past in history]

    memory = _percent(sample.memory_used_mib, sample.memory_total_mib)
    cells = [
        ("CPU", sample.cpu_percent, f"{sample.cpu_percent:.0f} %", series(lambda s: s.cpu_percent), "bar.on"),
        ("memory", memory, _of_total(sample.memory_used_mib, sample.memory_total_mib),
         series(lambda s: _percent(s.memory_used_mib, s.memory_total_mib)),
         gauge_role(memory)),
    ]  # fmt: skip
    rest: list[Row] = []
    for name, used, total in (
        ("/dev/shm", sample.shm_used_mib, sample.shm_total_mib),
        ("disk", sample.disk_used_mib, sample.disk_total_mib),
    ):
        if total:
            percent = _percent(used, total)
            rest.append((name, percent, _of_total(used, total), [], gauge_role(percent)))
    return _grid([*cells, *rest], width, glyphs)


def _gpu(
    gpu: GpuSample,
    readings: Sequence[GpuSample],
    owners: Sequence[int],
    jobs: Mapping[int, Job],
    width: int,
    glyphs: Glyphs,
) -> list[Cell]:
    head: Cell = [(f"GPU {gpu.index}", "accent.strong"), (f"  {plain(gpu.name)}", "dim")]
    if gpu.lost:
        return [[*head, ("   fell off the bus: set aside", "bad")]]
    owned = sorted(set(owners) | {p.job_id for p in gpu.processes if p.job_id is not None})
    for id in owned:
        job = jobs.get(id)
        head += [("   ", ""), (f"{glyphs.arrow} {id} ", "state.running"), (plain(job.name) if job else "", "")]
    if not owned:
        head.append(("   free", "good"))
    memory = _percent(gpu.memory_used_mib, gpu.memory_total_mib)
    rows = [
        ("busy", gpu.utilisation, f"{gpu.utilisation:.0f} %", [g.utilisation for g in readings], "bar.on"),
        ("memory", memory, _of_total(gpu.memory_used_mib, gpu.memory_total_mib),
         [_percent(g.memory_used_mib, g.memory_total_mib) for g in readings], gauge_role(memory)),
    ]  # fmt: skip
    if gpu.temperature_c is not None:
        role = gauge_role(gpu.temperature_c - WARM_C + WARM)
        rows.append(("temp", gpu.temperature_c, f"{gpu.temperature_c:.0f} {glyphs.degree}C",
                     [g.temperature_c or 0 for g in readings], role))  # fmt: skip
    if gpu.power_w is not None:
        limit = gpu.power_limit_w or gpu.power_w or 1
        text = f"{gpu.power_w:.0f}/{gpu.power_limit_w:.0f} W" if gpu.power_limit_w else f"{gpu.power_w:.0f} W"
        rows.append(
            ("power", 100 * gpu.power_w / limit, text, [100 * (g.power_w or 0) / limit for g in readings], "bar.on")
        )
    lines = [head, *_grid(rows, width, glyphs)]
    foreign = [process for process in gpu.processes if process.job_id is None]
    if foreign:
        lines.append(_foreign(foreign))
    return lines


def _foreign(processes: Sequence[GpuProcess]) -> Cell:
    cell: Cell = [("  not ours: ", "warn")]
    for n, process in enumerate(processes[:4]):
        cell += [(", " if n else "", "dim"), (plain(process.name) or "?", ""), (f" pid {process.pid}", "dim"),
                 (f" {mib(process.memory_mib)}", "")]  # fmt: skip
    if len(processes) > 4:
        cell.append((f" and {len(processes) - 4} more", "dim"))
    return cell


def _jobs_here(node: Node, jobs: Mapping[int, Job]) -> list[Cell]:
    if not node.jobs:
        return []
    cell: Cell = [("runs", "dim")]
    for id in node.jobs[:6]:
        job = jobs.get(id)
        cell += [("  ", ""), (str(id), "state.running"), (f" {plain(job.name)}" if job else "", "")]
    return [[], cell]


def _grid(rows: Sequence[Row], width: int, glyphs: Glyphs) -> list[Cell]:
    """Gauges side by side: label, bar, value, history."""
    columns = 2 if width >= 92 else 1
    each = (width - 3 * (columns - 1)) // columns
    lines: list[Cell] = []
    for at in range(ceil(len(rows) / columns)):
        line: Cell = []
        for n in range(columns):
            index = at * columns + n
            if index < len(rows):
                line += aligned(_gauge(*rows[index], each, glyphs), each, False, "") + ([("   ", "")] if n == 0 else [])
        lines.append(line)
    return lines


def _gauge(label: str, percent: float, text: str, history: list[float], role: str, width: int, glyphs: Glyphs) -> Cell:
    past = 20 if width >= 60 else 10
    size = max(6, min(40, width - 11 - 15 - past))
    cell: Cell = [(f"  {label:<9}", "dim"), *bar(percent / 100, size, glyphs, role), (f" {text:<13} ", "")]
    if history and width_of(cell) + past <= width:
        cell.append((spark(history, past, glyphs, 0.0, 100.0), "history"))
    return cell


def _mini(percent: float, glyphs: Glyphs, high_is_bad: bool = False) -> Cell:
    return [*bar(percent / 100, 5, glyphs, gauge_role(percent) if high_is_bad else "bar.on"), (f"{percent:4.0f}%", "")]


def _of(sample: HostSample, uuid: str) -> GpuSample | None:
    return next((gpu for gpu in sample.gpus if gpu.uuid == uuid), None)


def _percent(used: float, total: float) -> float:
    return 100 * used / total if total else 0.0


def _of_total(used: float, total: float) -> str:
    return f"{mib(used)}/{mib(total)}"
