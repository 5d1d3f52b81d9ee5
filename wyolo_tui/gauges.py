"""A node as lines: gauges with their history, the jobs that own its GPUs, and processes that are not ours. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from math import ceil

from broker.protocol.fleet import GpuProcess, GpuSample, HostSample, Node, NodeState, Withheld
from broker.protocol.job import Job
from broker.protocol.states import Intent
from wyolo_tui.present import Cell, Glyphs, aligned, bar, duration, fit, gauge_role, mib, plain, spark, width_of

WARM_C = 80.0  # a GPU that is warmer deserves a look
WARM = 70.0  # per cent, where a gauge begins to warn
TWO_COLUMNS = 92  # cells

_STATE_ROLE = {
    NodeState.UP: "good",
    NodeState.DEGRADED: "warn",
    NodeState.UNREACHABLE: "bad",
    NodeState.DRAINING: "warn",
    NodeState.PAUSED: "warn",
}


@dataclass(frozen=True, slots=True)
class Gauge:
    label: str
    percent: float
    text: str
    role: str  # of its bar: busy is no alarm, full is one
    history: Sequence[float] = ()  # per cent, oldest first


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is for the person who looks."""

    now: datetime
    zone: tzinfo | None = None


def node_lines(node: Node, jobs: Mapping[int, Job], width: int, glyphs: Glyphs, clock: Clock) -> list[Cell]:
    lines = [_title(node, width, glyphs, clock)]
    if node.withheld is not None:
        lines.append(_withheld(node, node.withheld, jobs, clock))
    if node.message:
        lines.append([(plain(node.message), "warn")])
    lines.append([])
    sample = node.sample
    if sample is None:
        return [*lines, [("no reading yet", "dim")]]
    lines += _grid(_host(sample, node.history), width, glyphs)
    for gpu in sample.gpus:
        owners = sorted({*node.gpu_jobs.get(gpu.uuid, []), *(p.job_id for p in gpu.processes if p.job_id is not None)})
        lines += [[], _gpu_title(gpu, owners, jobs, glyphs)]
        if not gpu.lost:
            readings = [found for past in node.history if (found := _of(past, gpu.uuid)) is not None]
            lines += _grid(_gpu(gpu, readings, glyphs), width, glyphs)
            lines += _foreign([process for process in gpu.processes if process.job_id is None])
    if not sample.gpus:
        lines += _jobs_here(node, jobs)
        lines += [[], [("no GPU was found here: trainings run on the CPU", "dim")]]
    return lines


def short_line(node: Node, width: int, glyphs: Glyphs, clock: Clock) -> Cell:
    """One line for the list of nodes."""
    role = _STATE_ROLE[node.state]
    cell: Cell = [
        (fit(f"{glyphs.live} {plain(node.name)}", 18), role),
        (fit(_state(node, glyphs, clock), 14), role),
        (f"slots {node.slots_used}/{node.slots}".ljust(12), ""),
    ]
    sample = node.sample
    if sample is not None:
        memory = _percent(sample.memory_used_mib, sample.memory_total_mib)
        cell += [("cpu ", "dim"), *_mini(sample.cpu_percent, "bar.on", glyphs)]
        cell += [("  mem ", "dim"), *_mini(memory, gauge_role(memory), glyphs)]
        for gpu in sample.gpus:
            one: Cell = [(f"  {gpu.index} ", "dim"), *_mini(gpu.utilisation, "bar.on", glyphs)]
            if width_of(cell) + width_of(one) > width:
                break
            cell += one
    return aligned(cell, width, False, glyphs.ellipsis)


def _state(node: Node, glyphs: Glyphs, clock: Clock) -> str:
    """'paused →15:00': a column has no room for who it was."""
    said = node.withheld
    if said is None or said.until is None or node.state is not said.state:
        return node.state.value
    end = said.until.astimezone(clock.zone)
    soon = end.date() == clock.now.astimezone(clock.zone).date()
    return f"{node.state.value} {glyphs.arrow}{end:%H:%M}" if soon else f"{node.state.value} {glyphs.arrow}{end:%d %b}"


def _withheld(node: Node, said: Withheld, jobs: Mapping[int, Job], clock: Clock) -> Cell:
    """What that means for jobs, and how long it lasts."""
    here = [job for id in node.jobs if (job := jobs.get(id)) is not None]
    leaving = sum(job.intent is Intent.EVICT for job in here)
    cell: Cell = [("Nothing new starts here", "warn")]
    if leaving:
        cell.append((f"; {_counted(leaving)} to save and leave", ""))
    if staying := len(node.jobs) - leaving:
        cell.append((f"; {_counted(staying)} to end", ""))
    if not node.jobs:
        cell.append(("; nothing runs here now", "good"))
    if said.until is not None:
        cell.append((f"; it ends in {duration((said.until - clock.now).total_seconds())}", ""))
    return [*cell, (".", "")]


def _counted(jobs: int) -> str:
    return "one job is" if jobs == 1 else f"{jobs} jobs are"


def _title(node: Node, width: int, glyphs: Glyphs, clock: Clock) -> Cell:
    """What does not fit is left out whole."""
    role = _STATE_ROLE[node.state]
    words = node.state.value
    if node.withheld is not None:
        said = plain(node.withheld.words(clock.now, clock.zone))
        words = said if node.state is node.withheld.state else f"{words}, {said}"
    cell: Cell = [
        (f"{glyphs.live} ", role),
        (plain(node.name), "strong"),
        (f"  {words}", role),
    ]
    parts: list[Cell] = [
        [(f"   {plain(node.engine)} engine", "dim")],
        [("   slots ", "dim"), (f"{node.slots_used}/{node.slots}", "strong")],
        [(f"   {node.cpus:g} cores", "dim")],
        [(f"   load {node.sample.load1:.1f}", "dim")] if node.sample is not None else [],
        *([(f"   {plain(name)}={plain(value)}", "dim")] for name, value in sorted(node.labels.items())),
    ]
    for part in parts:
        if width_of(cell) + width_of(part) <= width:
            cell += part
    return cell


def _host(sample: HostSample, history: Sequence[HostSample]) -> list[Gauge]:
    def past(read: Callable[[HostSample], float]) -> list[float]:
        return [read(reading) for reading in history]

    memory = _percent(sample.memory_used_mib, sample.memory_total_mib)
    gauges = [
        Gauge("CPU", sample.cpu_percent, f"{sample.cpu_percent:.0f} %", "bar.on", past(lambda s: s.cpu_percent)),
        Gauge(
            "memory",
            memory,
            _of_total(sample.memory_used_mib, sample.memory_total_mib),
            gauge_role(memory),
            past(lambda s: _percent(s.memory_used_mib, s.memory_total_mib)),
        ),
    ]
    for label, used, total in (
        ("/dev/shm", sample.shm_used_mib, sample.shm_total_mib),
        ("disk", sample.disk_used_mib, sample.disk_total_mib),
    ):
        if total:
            percent = _percent(used, total)
            gauges.append(Gauge(label, percent, _of_total(used, total), gauge_role(percent)))
    return gauges


def _gpu_title(gpu: GpuSample, owners: Sequence[int], jobs: Mapping[int, Job], glyphs: Glyphs) -> Cell:
    head: Cell = [(f"GPU {gpu.index}", "accent.strong"), (f"  {plain(gpu.name)}", "dim")]
    if gpu.lost:
        return [*head, ("   fell off the bus: set aside", "bad")]
    for id in owners:
        job = jobs.get(id)
        head += [("   ", ""), (f"{glyphs.arrow} {id} ", "state.running"), (plain(job.name) if job else "", "")]
    return head if owners else [*head, ("   free", "good")]


def _gpu(gpu: GpuSample, readings: Sequence[GpuSample], glyphs: Glyphs) -> list[Gauge]:
    memory = _percent(gpu.memory_used_mib, gpu.memory_total_mib)
    gauges = [
        Gauge("busy", gpu.utilisation, f"{gpu.utilisation:.0f} %", "bar.on", [g.utilisation for g in readings]),
        Gauge(
            "memory",
            memory,
            _of_total(gpu.memory_used_mib, gpu.memory_total_mib),
            gauge_role(memory),
            [_percent(g.memory_used_mib, g.memory_total_mib) for g in readings],
        ),
    ]
    if gpu.temperature_c is not None:
        role = gauge_role(gpu.temperature_c - WARM_C + WARM)
        past = [g.temperature_c or 0.0 for g in readings]
        gauges.append(Gauge("temp", gpu.temperature_c, f"{gpu.temperature_c:.0f} {glyphs.degree}C", role, past))
    if gpu.power_w is not None:
        limit = gpu.power_limit_w or gpu.power_w or 1.0
        text = f"{gpu.power_w:.0f}/{limit:.0f} W" if gpu.power_limit_w else f"{gpu.power_w:.0f} W"
        past = [_percent(g.power_w or 0.0, limit) for g in readings]
        gauges.append(Gauge("power", _percent(gpu.power_w, limit), text, "bar.on", past))
    return gauges


def _foreign(processes: Sequence[GpuProcess]) -> list[Cell]:
    if not processes:
        return []
    cell: Cell = [("  not ours: ", "warn")]
    for n, process in enumerate(processes[:4]):
        cell += [(", " if n else "", "dim"), (plain(process.name) or "?", "")]
        cell += [(f" pid {process.pid}", "dim"), (f" {mib(process.memory_mib)}", "")]
    if len(processes) > 4:
        cell.append((f" and {len(processes) - 4} more", "dim"))
    return [cell]


def _jobs_here(node: Node, jobs: Mapping[int, Job]) -> list[Cell]:
    if not node.jobs:
        return []
    cell: Cell = [("runs", "dim")]
    for id in node.jobs[:6]:
        job = jobs.get(id)
        cell += [("  ", ""), (str(id), "state.running"), (f" {plain(job.name)}" if job else "", "")]
    return [[], cell]


def _grid(gauges: Sequence[Gauge], width: int, glyphs: Glyphs) -> list[Cell]:
    """Side by side where there is room."""
    columns = 2 if width >= TWO_COLUMNS else 1
    each = (width - 3 * (columns - 1)) // columns
    lines: list[Cell] = []
    for row in range(ceil(len(gauges) / columns)):
        line: Cell = []
        for gauge in gauges[row * columns : (row + 1) * columns]:
            line += [*aligned(_drawn(gauge, each, glyphs), each, False, ""), ("   ", "")]
        lines.append(line[:-1])
    return lines


def _drawn(gauge: Gauge, width: int, glyphs: Glyphs) -> Cell:
    """Label, bar, value, history."""
    past = 20 if width >= 60 else 10
    size = max(6, min(40, width - 11 - 15 - past))
    cell: Cell = [(f"  {gauge.label:<9}", "dim"), *bar(gauge.percent / 100, size, glyphs, gauge.role)]
    cell.append((f" {gauge.text:<13} ", ""))
    if gauge.history and width_of(cell) + past <= width:
        cell.append((spark(gauge.history, past, glyphs, 0.0, 100.0), "history"))
    return cell


def _mini(percent: float, role: str, glyphs: Glyphs) -> Cell:
    return [*bar(percent / 100, 5, glyphs, role), (f"{percent:4.0f}%", "")]


def _of(sample: HostSample, uuid: str) -> GpuSample | None:
    return next((gpu for gpu in sample.gpus if gpu.uuid == uuid), None)


def _percent(used: float, total: float) -> float:
    return 100 * used / total if total else 0.0


def _of_total(used: float, total: float) -> str:
    return f"{mib(used)}/{mib(total)}"
