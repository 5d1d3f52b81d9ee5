"""What each verb may be said of, what it loses, and how it is taken back. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.protocol.states import ACTIVE, FINAL, WAITING, JobState, Priority
from wyolo_tui.order import natural

if TYPE_CHECKING:
    from broker.protocol.job import Job

ALLOWED: Mapping[str, frozenset[JobState]] = {
    "stop": WAITING | ACTIVE,
    "kill": WAITING | ACTIVE,
    "preempt": frozenset({JobState.STARTING, JobState.RUNNING}),
    "resume": FINAL,
    "rerun": frozenset(JobState),
    "hold": frozenset({JobState.QUEUED}),
    "release": frozenset({JobState.HELD}),
    "priority": WAITING,
    "move": frozenset({JobState.QUEUED}),
    "remove": FINAL | WAITING,
    "resolve": frozenset({JobState.UNKNOWN}),
    "edit": WAITING,
}
ASKS_FIRST = frozenset({"kill", "preempt", "remove"})
UNDO_S = 5.0
MANY = 3  # more jobs than this: the number is typed

_WHEN = {
    "stop": "has ended",
    "kill": "has ended",
    "preempt": "is not running",
    "resume": "has not ended",
    "hold": "is not queued",
    "release": "is not held",
    "priority": "no longer waits",
    "move": "is not queued",
    "remove": "runs: stop it first",
    "resolve": "is not unknown",
    "edit": "has started: clone it instead",
}
_DONE = {
    "stop": "stopping",
    "kill": "killed",
    "preempt": "making room",
    "resume": "queued again",
    "rerun": "queued as new",
    "hold": "held",
    "release": "released",
    "priority": "priority changed",
    "move": "moved",
    "remove": "deleted",
    "resolve": "resolved",
}


@dataclass(frozen=True, slots=True)
class Undo:
    """How an edit of the queue is taken back: the verb to say of each job."""

    what: str
    steps: tuple[tuple[str, int, Mapping[str, object]], ...]  # (verb, job, arguments)


def split(verb: str, jobs: Sequence["Job"]) -> tuple[list["Job"], str]:
    """Those that the verb may be said of, and why not of the others ('' where all are)."""
    able = [job for job in jobs if job.state in ALLOWED[verb]]
    rest = [job for job in jobs if job.state not in ALLOWED[verb]]
    if not rest:
        return able, ""
    names = ", ".join(f"#{job.id}" for job in rest[:4]) + (" ..." if len(rest) > 4 else "")
    when = _WHEN.get(verb, "")
    if len(rest) > 1:
        when = (
            when.replace("has ", "have ", 1).replace("is ", "are ", 1).replace("waits", "wait").replace("runs", "run")
        )
    return able, f"{names} {when}"


def done(verb: str, jobs: Sequence["Job"], priority: Priority | None = None) -> str:
    """What is said when it has been done. `priority`: that they were given."""
    names = ", ".join(f"#{job.id}" for job in jobs[:4]) + (f" and {len(jobs) - 4} more" if len(jobs) > 4 else "")
    if priority is not None:
        return f"{names} {'has' if len(jobs) == 1 else 'have'} {priority.value} priority now"
    return f"{names} {_DONE[verb]}"


def lost(verb: str, job: "Job") -> str:
    """What this verb would lose of this job."""
    if verb == "remove":
        if job.epoch:
            return f"{job.epoch} finished epochs leave the list; its files stay unless you say so"
        return "never finished an epoch" if job.kind == "train" else "leaves the list; its files stay unless you say so"
    if job.state in WAITING:
        return "waits: nothing is lost"
    if not job.epochs:
        return "everything since its start"
    partly = (
        f"epoch {job.epoch + 1} ({job.epoch_progress:.0%} done)" if job.epoch < job.epochs else "the final validation"
    )
    kept = f"; {job.epoch} finished epochs stay" if job.epoch else "; no epoch has finished"
    return f"loses {partly}{kept}"


def undo_of(verb: str, jobs: Sequence["Job"], queue: Sequence["Job"]) -> Undo | None:
    """None: it cannot be taken back. `jobs` and `queue` as they were before."""
    if verb in ("hold", "release"):
        back = "release" if verb == "hold" else "hold"
        return Undo(done(verb, jobs), tuple((back, job.id, {}) for job in jobs))
    if verb == "priority":
        return Undo(done(verb, jobs), tuple(("priority", job.id, {"priority": job.priority}) for job in jobs))
    if verb == "move":
        steps: list[tuple[str, int, Mapping[str, object]]] = []
        for job in jobs:
            before, after = neighbours(job, queue)
            if before is not None:
                steps.append(("move", job.id, {"after": before.id}))
            elif after is not None:
                steps.append(("move", job.id, {"before": after.id}))
        return Undo(done(verb, jobs), tuple(steps))
    return None


def queue_of(jobs: Mapping[int, "Job"]) -> list["Job"]:
    return sorted((job for job in jobs.values() if job.state is JobState.QUEUED), key=natural)


def neighbours(job: "Job", queue: Sequence["Job"]) -> tuple["Job | None", "Job | None"]:
    """The jobs right before and after it in the queue, of its priority."""
    same = [other for other in queue if other.priority is job.priority]
    at = next((n for n, other in enumerate(same) if other.id == job.id), None)
    if at is None:
        return None, None
    return (same[at - 1] if at else None), (same[at + 1] if at + 1 < len(same) else None)


def next_priority(priority: Priority, step: int) -> Priority | None:
    """One higher (+1) or lower (-1); None at the end."""
    order = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    at = order.index(priority) + step
    return order[at] if 0 <= at < len(order) else None
