"""Progress on standard error while somebody waits: bars on a terminal, a line for each epoch in a pipe."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from broker.protocol.event import EpochDone, JobChanged, JobRemoved, Progressed
from broker.protocol.job import Job
from broker.protocol.states import FINAL, WAITING, JobState
from wyolo_tui.cli.session import Session, harmless
from wyolo_tui.cli.watching import Seen
from wyolo_tui.present import duration, number, plain, why

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MOST_BARS = 12


class Reporter(Protocol):
    def see(self, seen: Seen) -> None: ...

    def log(self, text: str) -> None:
        """A line of the job's own output: a result, on standard output."""
        ...


@contextmanager
def reporter(cli: Session, jobs: int = 1, lines: bool = False) -> Generator[Reporter]:
    """What suits where standard error goes, or `lines` anyway. With --json there is none to see."""
    if cli.json:
        yield Silent(cli)
    elif sys.stderr.isatty() and not lines:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        columns = [
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None if jobs == 1 else 30),
            TextColumn("{task.fields[said]}", markup=False),
            TimeElapsedColumn(),
        ]
        with Progress(*columns, console=console, expand=jobs == 1) as progress:
            yield Bars(progress, jobs)
    else:
        yield Lines(cli, alone=jobs == 1)


class Silent:
    def __init__(self, cli: Session) -> None:
        self._cli = cli

    def see(self, seen: Seen) -> None:
        del seen

    def log(self, text: str) -> None:
        self._cli.note(text)


class Lines:
    """What changed, a line each. How a job that is `alone` has ended is the result, and said as such."""

    def __init__(self, cli: Session, alone: bool) -> None:
        self._cli = cli
        self._alone = alone
        self._jobs = dict[int, Job]()

    def see(self, seen: Seen) -> None:
        match seen:
            case JobChanged(job=job):
                before = self._jobs.get(job.id)
                self._jobs[job.id] = job
                if job.state in FINAL and (self._alone or before is None):
                    return
                if before is None or before.state is not job.state or before.intent is not job.intent:
                    self._cli.note(state_line(job))
            case JobRemoved():
                self._cli.note(f"{seen.job_id}: removed")
            case EpochDone():
                job = self._jobs.get(seen.job_id)
                if job is not None:
                    self._cli.note(epoch_line(job, seen))
            case Progressed():
                pass

    def log(self, text: str) -> None:
        self._cli.say(text)


class Bars:
    """A bar for each job, or one for all where they are many."""

    def __init__(self, progress: "Progress", jobs: int) -> None:
        self._progress = progress
        self._single = jobs <= MOST_BARS
        self._bars: dict[int, TaskID] = {}
        self._jobs = dict[int, Job]()
        self._all = None if self._single else progress.add_task(f"{jobs} jobs", total=jobs, said="")

    def see(self, seen: Seen) -> None:
        match seen:
            case JobChanged(job=job):
                self._jobs[job.id] = job
                if self._all is not None:
                    ended = sum(job.state in FINAL for job in self._jobs.values())
                    running = sum(job.state is JobState.RUNNING for job in self._jobs.values())
                    self._progress.update(self._all, completed=ended, said=f"{ended} ended, {running} running")
                else:
                    self._draw(job, job.epoch + job.epoch_progress, job.eta_s)
            case Progressed() if self._single and seen.job_id in self._jobs:
                job = self._jobs[seen.job_id]
                self._draw(job, seen.epoch - 1 + seen.epoch_progress, seen.eta_s)
            case _:
                pass

    def log(self, text: str) -> None:
        """Above the bars where both go to the same terminal."""
        if sys.stdout.isatty():
            self._progress.console.print(harmless(text), soft_wrap=True)
        else:
            print(harmless(text), flush=True)

    def _draw(self, job: Job, epochs: float, eta_s: float | None) -> None:
        bar = self._bars.get(job.id)
        if bar is None:
            bar = self._bars[job.id] = self._progress.add_task("", total=None, said="")
        left = f"left {duration(eta_s)}" if eta_s is not None and job.state is JobState.RUNNING else ""
        best = f"best {number(job.best_fitness)}" if job.best_fitness is not None else ""
        told = why(job)[0] if job.state in WAITING else " ".join(part for part in (best, left) if part)
        count = f" {min(int(epochs) + (job.state not in FINAL), job.epochs)}/{job.epochs}" if job.epochs else ""
        total = float(job.epochs) if job.epochs else (1.0 if job.state in FINAL else None)
        self._progress.update(
            bar,
            description=f"{job.id} {plain(job.name)[:30]} {job.intent or job.state}{count}",
            total=total,
            completed=epochs if job.epochs else float(job.state in FINAL),
            said=told,
        )


def state_line(job: Job) -> str:
    """'12 fruit: failed, out of memory (GPU): ...'."""
    said = why(job)[0]
    state = f"{job.state}, {job.intent} asked for" if job.intent and job.state not in FINAL else str(job.state)
    return f"{job.id} {job.name}: {state}" + (f", {said}" if said and not job.intent else "")


def warn(cli: Session, job: Job) -> None:
    for warning in job.warnings:
        cli.note(f"! {warning}")


def epoch_line(job: Job, done: EpochDone) -> str:
    """'12 fruit: epoch 3/10  box 1.201  cls 2.110  mAP50 0.5120  4s, left 28s'."""
    left = max(0, job.epochs - done.epoch) * done.seconds
    numbers = "  ".join(f"{name} {number(value)}" for name, value in headline_values(done.values).items())
    tail = f", left {duration(left)}" if left else ""
    return f"{job.id} {job.name}: epoch {done.epoch}/{job.epochs}  {numbers}  {duration(done.seconds)}{tail}"


def headline_values(values: Mapping[str, float]) -> dict[str, float]:
    """The training losses and the metrics that people ask for first, under short names."""
    losses = {
        name.removeprefix("train/").removesuffix("_loss"): value
        for name, value in values.items()
        if name.startswith("train/")
    }
    wanted = (
        "metrics/mAP50(B)",
        "metrics/mAP50-95(B)",
        "metrics/mAP50(M)",
        "metrics/mAP50(P)",
        "metrics/accuracy_top1",
    )
    return losses | {
        name.removeprefix("metrics/").removesuffix("(B)"): values[name] for name in wanted if name in values
    }
