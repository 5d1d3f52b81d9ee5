"""Checkpoints: kept in the background, verified before one is trusted, and carried on into the next attempt.

Ultralytics rewrites last.pt in place and strips it at the end. What we keep is a copy, whole or not there, with its
hash, and the one before. The copy is made beside the training; to keep the file itself under a second name would have
the training write a new one each time, which takes it longer.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from broker.protocol.job import Checkpoint
from broker.protocol.states import EndReason
from broker.protocol.training import BEST_NAME, CHECKPOINTS_NAME
from trainer import durable, earlier
from trainer.emit import now
from trainer.failures import TrainingError

KEPT = 2  # the newest, and the one before should it turn out bad


class Keeper:
    """Keeps checkpoints in one background thread, in order, so that training need not wait for the disk."""

    def __init__(self, directory: Path, fence: int) -> None:
        self._folder = directory / CHECKPOINTS_NAME
        self._fence = fence
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: list[Future[None]] = []
        self._broken = False
        self.newest: Checkpoint | None = None
        self.superseded: Sequence[Path] = ()  # of no use any more once there is a checkpoint of ours

    def keep(self, source: Path, epoch: int, *, best: bool, said: Callable[[Checkpoint], None]) -> None:
        """`source` must not change before `settle` returns. `said` is called once the copy is safe on disk."""
        self._submit(lambda: self._keep(source, epoch, best, said))

    def after(self, step: Callable[[], None]) -> None:
        """`step`, after everything that was asked for before."""
        self._submit(step)

    def check(self) -> None:
        """Raises what went wrong in the background, if anything did."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def settle(self) -> None:
        """Waits until everything asked for is safe. Raises what went wrong."""
        wait(self._pending)  # a stop may interrupt this: whoever settles then waits for the same
        self.check()

    def _submit(self, step: Callable[[], None]) -> None:
        self._pending.append(self._pool.submit(self._guarded, step))

    def _guarded(self, step: Callable[[], None]) -> None:
        """Nothing that follows a failure is said: an epoch without its checkpoint was not finished."""
        if self._broken:
            return
        self._broken = True
        step()
        self._broken = False

    def _keep(self, source: Path, epoch: int, best: bool, said: Callable[[Checkpoint], None]) -> None:
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"epoch-{epoch:04d}.pt"
        sha256 = durable.keep(source, path)
        if best:
            durable.link_or_copy(path, self._folder / BEST_NAME)
        self.newest = Checkpoint(path=str(path), epoch=epoch, sha256=sha256, attempt=self._fence, at=now())
        said(self.newest)
        for old in sorted(self._folder.glob("epoch-*.pt"))[:-KEPT]:
            old.unlink(missing_ok=True)
        earlier.remove(self.superseded)
        self.superseded = ()


@dataclass(frozen=True, slots=True)
class Resumable:
    """A checkpoint that was verified. `state` is what Ultralytics saved, on the CPU."""

    checkpoint: Checkpoint
    state: Mapping[str, Any]
    notes: Sequence[str] = ()

    @property
    def train_args(self) -> dict[str, Any]:
        return dict(self.state["train_args"])


def choose(candidates: Sequence[Checkpoint]) -> Resumable:
    """The newest candidate that can be resumed. Raises TrainingError(bad_checkpoint) when none can.

    To start from the beginning instead would silently lose what was trained.
    """
    refused: list[str] = []
    for candidate in candidates:
        found = _verify(candidate)
        if isinstance(found, str):
            refused.append(f"the checkpoint of epoch {candidate.epoch} ({candidate.path}) {found}")
            continue
        notes = [f"{refusal}: going on from epoch {candidate.epoch} instead" for refusal in refused]
        return Resumable(candidate, found, notes)
    raise TrainingError(
        EndReason.BAD_CHECKPOINT,
        f"no checkpoint can be resumed: {'; '.join(refused)}",
        "rerun the job to train from the start, or put back the files from a backup and resume",
    )


def _verify(candidate: Checkpoint) -> Mapping[str, Any] | str:
    """What the file holds, or why it is no good."""
    path = Path(candidate.path)
    try:
        digest = file_sha256(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if digest != candidate.sha256:
        return "is not what was written (its hash differs)"
    try:
        state, _ = import_module("ultralytics.nn.tasks").torch_safe_load(str(path))
    except (TypeError, RuntimeError, ValueError, KeyError, AttributeError, EOFError, OSError, ImportError) as error:
        return f"does not load ({type(error).__name__})"
    if state.get("epoch", -1) < 0 or not state.get("optimizer"):
        return "was stripped for inference: it has no optimizer"
    if state["epoch"] + 1 != candidate.epoch:
        return f"is of epoch {state['epoch'] + 1}"
    return state


def file_sha256(path: Path) -> str:
    """Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a resumed run has before it. `epochs` in all; where that is `done`, only the final validation is left."""

    done: int
    epochs: int
    planned: int  # until now
    ended_early: bool = False  # no better epoch for as long as its patience

    def notes(self) -> list[str]:
        notes: list[str] = []
        if self.done < self.epochs != self.planned:
            schedule = f"from epoch {self.done + 1} on the learning rate follows the new schedule"
            notes.append(f"{self.planned} epochs become {self.epochs}: {schedule}")
        if self.ended_early:
            on = (
                "patience starts anew"
                if self.done < self.epochs
                else f"to go on, ask for more than {self.planned} epochs"
            )
            notes.append(f"its patience had run out after epoch {self.done}: {on}")
        return notes


def ahead(resumed: Resumable, wanted: int | None) -> Ahead:
    """`wanted` epochs in all, or as many as were planned. A run that ended early goes on only when it is extended."""
    done, args = resumed.checkpoint.epoch, resumed.train_args
    planned = int(args["epochs"])
    patience = int(args.get("patience") or 0)
    stopper: Mapping[str, Any] = resumed.state.get("stopper") or {}
    ended_early = 0 < patience <= done - int(stopper.get("best_epoch", done))
    epochs = max(done, wanted or planned)
    return Ahead(done, done if ended_early and epochs <= planned else epochs, planned, ended_early)


def carry(resumed: Resumable, run: Path) -> float:
    """Bring results.csv and best.pt of the earlier attempts into the new run. Seconds trained so far.

    results.csv comes out of the checkpoint itself: the file beside it may have rows of epochs that were lost.
    """
    weights, kept = run / "weights", run.parent / CHECKPOINTS_NAME
    weights.mkdir(parents=True, exist_ok=True)
    kept.mkdir(exist_ok=True)
    best = Path(resumed.checkpoint.path).with_name(BEST_NAME)
    if best.is_file():
        durable.copy(best, weights / BEST_NAME)
        if best.parent != kept:
            durable.link_or_copy(best, kept / BEST_NAME)
    text, seconds = series(resumed.state.get("train_results") or {}, resumed.checkpoint.epoch)
    if text:
        (run / "results.csv").write_text(text, encoding="utf-8")
    return seconds


def series(columns: Mapping[str, Sequence[float]], epochs: int) -> tuple[str, float]:
    """results.csv as Ultralytics writes it, for the first `epochs` epochs, and its last time in seconds."""
    rows = [row for row in zip(*columns.values(), strict=True) if row[0] <= epochs]  # epoch, time, ...
    if not rows:
        return "", 0.0
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{value:.6g}" for value in row] for row in rows)
    return text.getvalue(), float(rows[-1][1])
