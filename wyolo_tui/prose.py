"""What is read about a job, as lines of cells: its headline, configuration, audit trail and log. Pure."""

from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from broker.protocol.states import ACTIVE, FINAL, WAITING, JobState, Priority
from wyolo_tui.present import REASONS, Cell, Glyphs, ago, by_key, day_and_clock, duration, fit, number, plain, why

if TYPE_CHECKING:
    from broker.protocol.event import AuditEntry
    from broker.protocol.job import Job


def headline(job: "Job", now: datetime, key: Callable[[str], str]) -> list[Cell]:
    """Three lines over a job's tabs: what it does; when, and how well; why it waits or ended, or where it runs. `key`:
    what is printed on that of a binding."""
    text, role = why(job)
    text = by_key(text, key)
    last: Cell = [(text, role if role != "dim" else "")] if text else _where(job)
    return [_what(job), [*_when(job, now), *_how_well(job)], last]


def _where(job: "Job") -> Cell:
    if job.node is None:
        return []
    gpus = f" with {len(job.gpus)} GPU{'s' if len(job.gpus) > 1 else ''}" if job.gpus else ""
    return [("on ", "dim"), (plain(job.node), ""), (gpus, "dim")]


def _what(job: "Job") -> Cell:
    cell: Cell = [(f"{plain(job.model) or job.kind}", "accent")]
    if job.task:
        cell += [(f" {job.task}", "dim")]
    if job.data:
        cell += [(" on ", "dim"), (plain(job.data.rsplit("/", 1)[-1] or job.data), "")]
    if job.user:
        cell += [(" by ", "dim"), (plain(job.user), "")]
    if job.priority is not Priority.NORMAL:
        cell += [(f" {job.priority.value} priority", "warn" if job.priority is Priority.HIGH else "dim")]
    return cell


def _when(job: "Job", now: datetime) -> Cell:
    if job.state in ACTIVE and job.started_at:
        cell: Cell = [("running for ", "dim"), (duration((now - job.started_at).total_seconds()), "")]
        return [*cell, ("   left ", "dim"), (duration(job.eta_s), "")] if job.eta_s is not None else cell
    if job.state in FINAL and job.ended_at:
        cell = [("ended ", "dim"), (f"{ago(job.ended_at, now)} ago", "")]
        if job.started_at:
            cell += [(" after ", "dim"), (duration((job.ended_at - job.started_at).total_seconds()), "")]
        return cell
    if job.state in WAITING:
        return [("waiting for ", "dim"), (ago(job.queued_at or job.submitted_at, now) or "0s", "")]
    return []


def _how_well(job: "Job") -> Cell:
    cell: Cell = []
    if job.best_fitness is not None:
        cell += [("   best ", "dim"), (f"{job.best_fitness:.4f}", "good")]
        if job.best_epoch:
            cell += [(f" at epoch {job.best_epoch}", "dim")]
    if job.fence > 1:
        cell += [(f"   attempt {job.fence}", "dim")]
    return cell


def log_role(text: str) -> str:
    """How a log line reads at a glance."""
    if looks_like_error(text):
        return "bad"
    low = text.lower()
    if "warn" in low:
        return "warn"
    return ""


_TROUBLES = ("unreachable", "degraded")  # of nodes
_ERRORS = ("error", "traceback", "exception", "failed", "fatal", "critical", "killed", "out of memory", "nan loss")


def looks_like_error(text: str) -> bool:
    low = text.lower()
    return any(word in low for word in _ERRORS)


def yaml_lines(text: str) -> Iterable[Cell]:
    """YAML with keys, numbers, words and text told apart: as much of it as our own dump writes."""
    for line in text.splitlines():
        yield yaml_cell(plain(line))


def yaml_cell(line: str) -> Cell:
    """One line; its parts put together are the line."""
    stripped = line.lstrip()
    indent = line[: len(line) - len(stripped)]
    if stripped.startswith("#"):
        return [(line, "dim")]
    dash = ""
    while stripped.startswith("- "):
        dash, stripped = dash + "- ", stripped[2:]
    key, colon, rest = stripped.partition(":")
    if colon and (not rest or rest.startswith(" ")) and not key.startswith(("'", '"', "[", "{")):
        return [(indent + dash, "dim"), (key, "yaml.key"), (":", "dim"), (rest, _scalar_role(rest.strip()))]
    return [(indent + dash, "dim"), (stripped, _scalar_role(stripped.strip()))]


def _scalar_role(text: str) -> str:
    if text.lower() in ("true", "false", "null", "~"):
        return "yaml.word"
    try:
        float(text)
    except ValueError:
        return "yaml.text"
    return "yaml.number"


def config_lines(job: "Job") -> list[Cell]:
    """The effective configuration, with what was changed on the way in."""
    import yaml

    if job.spec is None:
        return []
    head: list[Cell] = [[(plain(warning), "warn")] for warning in job.warnings]
    spec = job.spec.model_dump(mode="json", exclude_defaults=True)
    work = job.spec.work.model_dump(mode="json", exclude_defaults=True)
    spec["work"] = {"kind": job.spec.work.kind, **work}
    text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=1000)
    return [*head, *([[("", "")]] if head else []), *yaml_lines(text)]


def audit_data(entry: "AuditEntry", now: datetime, zone: tzinfo | None) -> str:
    """Which epoch was done, how well and how fast; of which one a checkpoint is; until when a node is withheld: '12:
    fitness 0.8123, took 1m 24s'."""
    data, epoch = entry.data, entry.data.get("epoch")
    if isinstance(said := data.get("message"), str):  # of what is not why the job is as it is
        return plain(said)
    if entry.job_id is None:
        until = data.get("until")
        told = [f"until {day_and_clock(datetime.fromisoformat(until), now, zone)}"] if isinstance(until, str) else []
        return ", ".join([*told, *(["what ran there was moved away"] if data.get("now") else [])])
    if not isinstance(epoch, int):
        return ""
    if entry.verb != "epoch":
        return f"of epoch {epoch}"
    fitness, seconds = data.get("fitness"), data.get("seconds")
    told = [f"fitness {number(fitness)}"] if isinstance(fitness, float | int) else []
    told += [f"took {duration(seconds)}"] if isinstance(seconds, float | int) and seconds else []
    return f"{epoch}: {', '.join(told)}" if told else str(epoch)


def whose(entry: "AuditEntry", name: str, width: int, glyphs: Glyphs) -> Cell:
    """Which job or node it happened to: '    41  fruit-yolov8m  '. `name`: of the job; `width`: cells for it."""
    if entry.job_id is None:
        return [(f"{'node':>6}  ", "dim"), (f"{fit(plain(entry.node or ''), width, glyphs.ellipsis)}  ", "")]
    known = name or entry.data.get("name")  # which a removed one leaves
    shown = fit(plain(known), width, glyphs.ellipsis) if isinstance(known, str) else " " * width
    return [(f"{entry.job_id:>6}  ", "dim"), (f"{shown}  ", "strong")]


def audit_line(
    entry: "AuditEntry",
    now: datetime,
    zone: tzinfo | None,
    glyphs: Glyphs,
    key: Callable[[str], str],
    *,
    about: Cell | None = None,
) -> Cell:
    """'14:02:11  run      starting → running  by ana  ...'. `about`: whose it is, where that is not plain; what it was
    before and that it is the first attempt is left out there. `key`: what is printed on that of a binding."""
    cell: Cell = [
        (f"{day_and_clock(entry.at, now, zone):<12} ", "faint"),
        *(about or []),
        (f"{plain(entry.verb):<10} ", "accent"),
    ]
    if entry.to_state is not None:
        if entry.from_state is not None and about is None:
            cell.append((f"{entry.from_state.value} {glyphs.arrow} ", "dim"))
        cell.append((f"{glyphs.states[entry.to_state]} {entry.to_state.value}", f"state.{entry.to_state.value}"))
        cell.append(("  ", ""))
    if entry.to_state is JobState.STARTING and entry.node:
        cell.append((f"on {plain(entry.node)}  ", "dim"))
    if said := audit_data(entry, now, zone):
        cell.append((f"{said}  ", ""))
    if entry.attempt and (entry.attempt > 1 or about is None):
        cell.append((f"attempt {entry.attempt}  ", "dim"))
    if entry.by:
        cell.append((f"by {plain(entry.by)}  ", "dim"))
    reason = REASONS.get(entry.reason, "") if entry.reason else ""
    words = by_key(": ".join(part for part in (reason, plain(entry.message)) if part), key)
    lost = entry.job_id is None and entry.verb in _TROUBLES
    cell.append((words, "bad" if entry.to_state is JobState.FAILED else "warn" if lost else ""))
    return cell
