"""What an attempt has said so far: what of it is not in the ledger yet, and how it stands now. Pure."""

from datetime import datetime
from typing import Any

from broker.ledger.records import EpochRow, Recorded
from broker.protocol.event import Progressed
from broker.protocol.job import Checkpoint
from broker.protocol.training import (
    Epoch,
    Failed,
    Finished,
    GpuReading,
    Note,
    Progress,
    Saved,
    Started,
    TrainerEvent,
)

_NEWEST = 0.3  # weight of the newest epoch in the mean time of one
_TRAINED = 0.9  # share of an epoch's time that goes into training; the rest into its validation


class Account:
    def __init__(self, job_id: int, fence: int, *, log_offset: int, last_event: int, epoch: int, epochs: int) -> None:
        """`epoch`, `epochs`: finished and planned as the ledger has them."""
        self.job_id = job_id
        self.fence = fence
        self.log_offset = log_offset
        self.last_event = last_event
        self.malformed = 0
        self.missing = 0  # events that nobody can tell any more
        self.epoch = epoch
        self.epochs = epochs
        self.epoch_s: float | None = None  # mean, of the newest most
        self.progressed = False  # an epoch was finished in this attempt
        self.failed: Failed | None = None
        self.metrics: dict[str, float] = {}  # newest
        self.gpus: list[dict[str, Any]] = []
        self.epoch_progress = 0.0  # 0..1 of the epoch in work
        self._recorded = (log_offset, last_event)
        self._started: dict[str, Any] | None = None
        self._fitness_name: str | None = None
        self._epochs_planned: int | None = None
        self._rows: list[EpochRow] = []
        self._checkpoints: list[Checkpoint] = []
        self._notes: list[str] = []

    def hear(self, event: TrainerEvent) -> Progressed | None:
        """Take an event in. What followers should see at once is returned."""
        self.last_event = max(self.last_event, event.n)
        match event:
            case Started():
                self._started = event.model_dump(mode="json", exclude={"event"})
                self._fitness_name = event.fitness_name
                self._epochs_planned = self.epochs = event.epochs
                self.epoch, self.epoch_progress = event.first_epoch - 1, 0.0
                return self._progressed(event.at, event.first_epoch, "train")
            case Progress():
                done = event.batch / event.batches if event.batches else 0.0
                self.epoch_progress = _share(event.phase, done)
                return self._progressed(event.at, event.epoch, event.phase)
            case Epoch():
                self._rows.append(
                    EpochRow(event.epoch, event.epochs, event.values, event.fitness, event.seconds, event.at)
                )
                self.metrics = dict(event.values)
                self.epoch, self.epochs, self.epoch_progress = event.epoch, event.epochs, 0.0
                known = self.epoch_s
                self.epoch_s = event.seconds if known is None else known + _NEWEST * (event.seconds - known)
                self.progressed = True
                return self._progressed(event.at, min(event.epoch + 1, event.epochs), "train")
            case Saved():
                self._checkpoints.append(event.checkpoint)
            case Note():
                self._notes.append(event.text)
            case GpuReading():
                self.gpus = event.gpus
            case Failed():
                self.failed = event
            case Finished():
                self.metrics = dict(event.values) or self.metrics
                return self._progressed(event.at, self.epochs, "final")
        return None

    def note(self, text: str) -> None:
        self._notes.append(text)

    @property
    def urgent(self) -> bool:
        """Something waits that a person waits for."""
        return bool(self._started or self._rows or self._checkpoints or self._notes)

    @property
    def unrecorded(self) -> bool:
        return self.urgent or self._recorded != (self.log_offset, self.last_event)

    def recorded(self) -> Recorded:
        """What the ledger does not have yet."""
        return Recorded(
            job_id=self.job_id,
            fence=self.fence,
            log_offset=self.log_offset,
            last_event=self.last_event,
            fitness_name=self._fitness_name,
            epochs_planned=self._epochs_planned,
            epochs=tuple(self._rows),
            checkpoints=tuple(self._checkpoints),
            notes=tuple(self._notes),
            started=self._started,
        )

    def settle(self, done: Recorded) -> None:
        """The ledger has this now."""
        self._recorded = (done.log_offset, done.last_event)
        del self._rows[: len(done.epochs)]
        del self._checkpoints[: len(done.checkpoints)]
        del self._notes[: len(done.notes)]
        self._started = self._fitness_name = self._epochs_planned = None

    @property
    def eta_s(self) -> float | None:
        if self.epoch_s is None:
            return None
        return max(0.0, (self.epochs - self.epoch - self.epoch_progress) * self.epoch_s)

    def _progressed(self, at: datetime, epoch: int, phase: str) -> Progressed:
        return Progressed(
            at=at,
            job_id=self.job_id,
            epoch=epoch,
            epochs=self.epochs,
            epoch_progress=self.epoch_progress,
            phase=phase,
            eta_s=self.eta_s,
        )


def _share(phase: str, done: float) -> float:
    """How much of an epoch is done, 0..1."""
    done = min(1.0, max(0.0, done))
    if phase == "train":
        return done * _TRAINED
    return _TRAINED + done * (1 - _TRAINED) if phase == "val" else 1.0
