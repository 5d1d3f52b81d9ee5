"""From a model to what is seen: cells of (text, role) pairs. Pure; a role is a meaning, themes.py gives it its colour.

What others wrote (names, messages, log lines) goes through `plain` here, at the edge, and is never read as markup.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from math import isfinite
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from broker.protocol.states import ACTIVE, FINAL, WAITING, EndReason, Intent, JobState
from broker.protocol.text import harmless

if TYPE_CHECKING:
    from broker.protocol.job import Job

Cell = list[tuple[str, str]]  # (text, role), in order


def plain(text: str) -> str:
    """What others wrote, as one line that can do nothing to a terminal."""
    return harmless(text)


@dataclass(frozen=True, slots=True)
class Glyphs:
    states: dict[JobState, str]
    eighths: str  # how much of a cell is filled, from nothing to all
    spark: str  # heights, low to high
    mark: str
    up: str
    down: str
    live: str
    lost: str
    ellipsis: str
    dot: str
    track: str
    arrow: str
    degree: str


UNICODE = Glyphs(
    states={
        JobState.RUNNING: "▶",
        JobState.STARTING: "◔",
        JobState.QUEUED: "○",
        JobState.HELD: "‖",
        JobState.UNKNOWN: "?",
        JobState.COMPLETED: "✓",
        JobState.FAILED: "✗",
        JobState.STOPPED: "■",
    },
    eighths=" ▏▎▍▌▋▊▉█",
    spark="▁▂▃▄▅▆▇█",
    mark="●",
    up="▲",
    down="▼",
    live="●",
    lost="○",
    ellipsis="…",
    dot="·",
    track=" ",
    arrow="→",
    degree="°",
)
ASCII = Glyphs(
    states={
        JobState.RUNNING: ">",
        JobState.STARTING: "~",
        JobState.QUEUED: ".",
        JobState.HELD: "=",
        JobState.UNKNOWN: "?",
        JobState.COMPLETED: "+",
        JobState.FAILED: "x",
        JobState.STOPPED: "#",
    },
    eighths=".#",
    spark="_.-=+*%#",
    mark="*",
    up="^",
    down="v",
    live="*",
    lost="o",
    ellipsis="~",
    dot="-",
    track=".",
    arrow="->",
    degree="",
)

REASONS = {
    EndReason.COMPLETED: "",
    EndReason.USER_STOP: "stopped by a person",
    EndReason.KILLED: "killed",
    EndReason.PREEMPTED: "made room for another",
    EndReason.INTERRUPTED: "interrupted",
    EndReason.DEAD_LETTER: "gave up: interrupted too often",
    EndReason.NODE_LOST: "node lost",
    EndReason.OOM_HOST: "out of memory (host)",
    EndReason.OOM_CUDA: "out of memory (GPU)",
    EndReason.SHM: "/dev/shm is full",
    EndReason.DISK_FULL: "disk is full",
    EndReason.NAN: "loss became NaN",
    EndReason.BAD_CONFIG: "bad configuration",
    EndReason.BAD_DATA: "bad data",
    EndReason.BAD_CHECKPOINT: "bad checkpoint",
    EndReason.WEIGHTS_MISSING: "weights missing",
    EndReason.LAUNCH_FAILED: "could not be started",
    EndReason.EXIT_CODE: "exited with an error",
}
_INTENTS = {
    Intent.STOP: "stopping",
    Intent.KILL: "being killed",
    Intent.PREEMPT: "making room",
    Intent.EVICT: "moving away",
}


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """Exactly `width` cells: cut with an ellipsis, or padded."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - len(ellipsis)) + ellipsis


def aligned(cell: Cell, width: int, right: bool, ellipsis: str) -> Cell:
    """The cell in exactly `width` cells of the terminal."""
    out: Cell = []
    room = width
    for text, role in cell:
        if room <= 0:
            break
        size = min(room, cell_len(text))
        out.append((text if cell_len(text) <= room else fit(text, room, ellipsis), role))
        room -= size
    if room > 0:
        out.insert(0 if right else len(out), (" " * room, ""))
    return out


def width_of(cell: Cell) -> int:
    return sum(cell_len(text) for text, _ in cell)


def duration(seconds: float | None) -> str:
    """At most 7 cells: '48s', '12m 05s', '3h 07m', '2d 04h'."""
    if seconds is None or not isfinite(seconds):
        return ""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02}s"
    if s < 86400:
        return f"{s // 3600}h {s % 3600 // 60:02}m"
    return f"{s // 86400}d {s % 86400 // 3600:02}h"


def ago(then: datetime | None, now: datetime) -> str:
    """At most 4 cells: '48s', '12m', '3h', '16d'."""
    if then is None:
        return ""
    s = max(0, int((now - then).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if s >= size:
            return f"{s // size}{unit}"
    return f"{s}s"


def clock(at: datetime | None, zone: tzinfo | None) -> str:
    return "" if at is None else at.astimezone(zone).strftime("%H:%M:%S")


def day_and_clock(at: datetime, now: datetime, zone: tzinfo | None) -> str:
    local, today = at.astimezone(zone), now.astimezone(zone)
    return local.strftime("%H:%M:%S" if local.date() == today.date() else "%d %b %H:%M")


def number(value: float | None) -> str:
    """Four significant digits at most, never longer than 8 cells."""
    if value is None:
        return ""
    if not isfinite(value):
        return str(value)
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e5):
        return f"{value:.2e}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if size < 1 else f"{value:.3f}"


def mib(value: float) -> str:
    """'512M', '23.4G', '1.8T'."""
    if value < 1000:
        return f"{value:.0f}M"
    if value < 1000 * 1024:
        return f"{value / 1024:.1f}G"
    return f"{value / 1024 / 1024:.1f}T"


def counted(count: int, thing: str) -> str:
    """'1 line', '12 lines'."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes: '512 bytes', '23.4 KiB', '1.8 MiB'."""
    if count < 1024:
        return f"{count} bytes"
    return f"{count / 1024:.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def bar(fraction: float, width: int, glyphs: Glyphs, on: str = "bar.on") -> Cell:
    """A bar of `width` cells, filled in eighths of a cell."""
    steps = len(glyphs.eighths) - 1
    filled = round(min(1.0, max(0.0, fraction)) * width * steps)
    whole, part = divmod(filled, steps)
    text = glyphs.eighths[-1] * whole + (glyphs.eighths[part] if part else "")
    return [(text + glyphs.eighths[0] * (width - len(text)), on)] if width else []


def spark(
    values: Sequence[float], width: int, glyphs: Glyphs, low: float | None = None, top: float | None = None
) -> str:
    """The last `width` values as heights, padded on the left."""
    shown = [v for v in values if isfinite(v)][-width:]
    if not shown:
        return " " * width
    least = min(shown) if low is None else low
    span = (max(shown) if top is None else top) - least
    steps = len(glyphs.spark) - 1
    heights = (
        round((min(max(v, least), least + span) - least) / span * steps) if span > 0 else steps // 2 for v in shown
    )
    return "".join(glyphs.spark[height] for height in heights).rjust(width)


def gauge_role(percent: float) -> str:
    return "gauge.low" if percent < 70 else "gauge.mid" if percent < 90 else "gauge.high"


def state_cell(job: "Job", glyphs: Glyphs, word: bool = True) -> Cell:
    name = _INTENTS[job.intent] if job.intent and job.state in ACTIVE else job.state.value
    glyph = glyphs.states[job.state]
    return [(f"{glyph} {name}" if word else glyph, f"state.{job.state.value}")]


def epoch_cell(job: "Job", width: int, glyphs: Glyphs) -> Cell:
    """Bar and numbers: '██████▍   37/100'."""
    if not job.epochs:
        return [("", "dim")]
    numbers = f"{job.epoch}/{job.epochs}".rjust(7)
    room = width - len(numbers) - 1
    done = (job.epoch + (job.epoch_progress if job.state in ACTIVE else 0.0)) / job.epochs
    role = {JobState.COMPLETED: "bar.done", JobState.FAILED: "bar.bad"}.get(
        job.state, "bar.on" if job.state in ACTIVE else "bar.off"
    )
    text_role = "" if job.state in ACTIVE else "dim"
    if room < 3:
        return [(numbers, text_role)]
    if not done and job.state in WAITING:
        return [(" " * room, ""), (f" {numbers}", "faint")]
    return [*bar(done, room, glyphs, role), (f" {numbers}", text_role)]


def fitness_cell(job: "Job", width: int, glyphs: Glyphs) -> Cell:
    """Sparkline and the best value: '▂▃▅▆▇ 0.8123'."""
    best = job.best_fitness if job.best_fitness is not None else job.fitness
    text = f"{best:.4f}" if best is not None and abs(best) < 100 else number(best)
    room = width - 7
    role = "spark" if job.state in ACTIVE else "dim"
    if room < 3:
        return [(text.rjust(width), "" if job.state in ACTIVE else "dim")]
    return [(spark(job.spark, room, glyphs), role), (f" {text:>6}", "" if job.state in ACTIVE else "dim")]


def where(job: "Job", gpu_index: dict[str, int] | None = None) -> str:
    """'local:0,1': node and its GPUs by index where the node is known, by the end of their UUID where not."""
    if job.node is None:
        return ""
    index = gpu_index or {}
    gpus = ",".join(str(index[uuid]) if uuid in index else uuid[-4:] for uuid in job.gpus)
    return f"{job.node}:{gpus}" if gpus else job.node


_REMEDY = re.compile(r"`wyolo (resume|resolve|release)(?: \d+)?`")
_KEY_OF = {"release": "job.hold"}  # else it is called as the verb is


def by_key(text: str, key: Callable[[str], str]) -> str:
    """What the broker says for the command line, as it is done on the screen: '`wyolo resume 3` ...' -> 'r ...'."""
    return _REMEDY.sub(lambda match: key(_KEY_OF.get(match[1], f"job.{match[1]}")), text)


def why(job: "Job") -> tuple[str, str]:
    """(text, role): why it waits or why it ended, in a line."""
    if job.state in FINAL:
        reason = REASONS.get(job.reason, "") if job.reason else ""
        message = plain(job.message)
        role = "bad" if job.state is JobState.FAILED else "dim"
        if job.state is JobState.COMPLETED:
            best = f"best {number(job.best_fitness)} at epoch {job.best_epoch}" if job.best_epoch else ""
            return message or best, role
        if not message:
            return reason, role
        return (f"{reason}: {message}" if reason and job.state is JobState.FAILED else message), role
    if job.state is JobState.UNKNOWN:
        return plain(job.message) or "its node is out of reach", "warn"
    if job.intent:
        return "ending" if job.intent is Intent.KILL else "writing a checkpoint", "warn"
    if job.state is JobState.HELD:
        return plain(job.waits_for) or f"`wyolo release {job.id}` releases it", "dim"
    if job.state in WAITING:
        return plain(job.waits_for) or plain(job.message), "dim"
    if job.state is JobState.STARTING:
        return plain(job.waits_for) or plain(job.message), "dim"
    return plain(job.message), "dim"
