"""What the jobs screen says around its table: the keys that matter for a job, and what to press where there is none."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.protocol.states import JobState
from wyolo_tui.present import Cell, plain

if TYPE_CHECKING:
    from broker.protocol.job import Job

LOG_HINTS = [
    "log.follow",
    "log.wrap",
    "log.times",
    "log.errors",
    "app.filter=search",
    "log.next",
    "app.next_tab",
    "app.next_pane",
    "app.back",
]
CURVES_HINTS = [
    "curves.zoom",
    "curves.log",
    "curves.smooth",
    "curves.axis",
    "curves.pin",
    "curves.back",
    "curves.on",
    "app.next_tab",
    "app.next_pane",
]
TEXT_HINTS = ["app.previous_tab", "app.next_tab", "app.next_pane", "app.back", "job.stop", "job.resume"]

_VERBS = {
    JobState.QUEUED: ["job.hold", "make.edit", "job.raise", "job.lower", "job.stop"],
    JobState.HELD: ["job.hold", "make.edit", "job.stop", "job.delete"],
    JobState.UNKNOWN: ["job.resolve", "look.why", "job.stop", "job.kill"],
    JobState.COMPLETED: ["job.rerun", "make.clone", "job.delete"],
    JobState.FAILED: ["look.why", "job.resume", "job.rerun", "make.clone", "job.delete"],
    JobState.STOPPED: ["job.resume", "job.rerun", "make.clone", "job.delete"],
}
_ACTIVE = ["job.stop", "look.why", "job.preempt", "job.kill"]
_LOOKING = ["look.log", "look.metrics", "look.detail", "app.filter"]


def hints_for(job: "Job | None") -> list[str]:
    """Ids of bindings, the most important first."""
    if job is None:
        return ["make.submit", "make.paste", "app.theme", "app.quit"]
    verbs = _VERBS.get(job.state, _ACTIVE)
    return ["make.submit", *verbs[:2], *_LOOKING, *verbs[2:], "move.mark", "app.quit"]


def no_jobs(key: Callable[[str], str]) -> list[Cell]:
    """`key`: what is printed on the key of a binding."""
    rows = (
        ("make.submit", "submit a job from a file"),
        ("make.paste", "submit a job from pasted YAML"),
        ("app.command", "command line, for example  :submit sample_configs/minimal.yaml"),
        ("app.help", "all keys of this screen"),
    )
    return [
        [("There are no jobs yet.", "strong")],
        [("What you queue here goes on when you leave.", "dim")],
        [],
        *([(f"{key(id):>5}", "key"), (f"  {text}", "")] for id, text in rows),
    ]


def no_match(filter_text: str, key: Callable[[str], str]) -> list[Cell]:
    return [
        [("No job matches ", ""), (plain(filter_text), "accent")],
        [],
        [(f"{key('app.back'):>5}", "key"), ("  show all jobs", "dim")],
        [(f"{key('app.filter'):>5}", "key"), ("  change the filter", "dim")],
    ]
