"""Ultralytics' hooks -> TrainerEvents, checkpoints that are safe, and a stop that loses nothing but the open epoch.

Ultralytics' own `trainer.stop` is never used: it would count a half epoch as a whole one and strip the checkpoint.
"""

import math
import platform
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from broker.protocol.job import Checkpoint
from broker.protocol.training import Epoch, Progress, Saved, Started
from trainer.checkpoint import Keeper
from trainer.emit import Emitter, now
from trainer.stop import Stop

PROGRESS_EVERY_S = 0.5
# Where Ultralytics' fitness is one metric, that is its name; elsewhere it is a sum or a mean of several.
FITNESS_NAMES = {"detect": "metrics/mAP50-95(B)", "obb": "metrics/mAP50-95(B)"}
_LOADER_ARGS = frozenset({"batch", "classes", "data", "fraction", "imgsz", "rect", "single_cls", "split"})


def supervised(base: Any, watch: "Watch") -> Any:
    """`base`, one of Ultralytics' trainer classes, with what its hooks do not reach."""

    class SupervisedTrainer(base):
        train_time_start: float

        def save_metrics(self, metrics: Any) -> None:
            """The time column goes on from where the earlier attempts ended."""
            self.train_time_start -= watch.seconds_before
            base.save_metrics(self, metrics)
            self.train_time_start += watch.seconds_before

        def save_model(self) -> Any:
            """From here to the end of the epoch nothing interrupts."""
            watch.keeper.settle()  # last.pt is about to be overwritten
            watch.close_epoch()
            return base.save_model(self)

        def final_eval(self) -> None:
            watch.keeper.settle()  # last.pt is about to be stripped
            watch.final(self)
            base.final_eval(self)

    return SupervisedTrainer


class Watch:
    """Sees one training through. Each method named after a hook is one."""

    def __init__(
        self,
        emitter: Emitter,
        stop: Stop,
        keeper: Keeper,
    ) -> None:
        self.keeper = keeper
        self.validation: Mapping[str, Any] = {}  # arguments of the final validation alone
        self.seconds_before = 0.0  # trained by earlier attempts
        self.seconds = 0.0  # of the finished epochs of this attempt
        self.epoch = 0  # finished, in all
        self.trained = False  # the last one is finished: what follows is the final validation
        self.sound = True  # the newest losses are numbers
        self._emitter = emitter
        self._stop = stop
        self._epochs = 0
        self._open: int | None = None  # the epoch in work, from 1
        self._opened_at = 0.0
        self._closing = False
        self._to_keep: tuple[Path, bool] | None = None  # what was saved of this epoch, and whether it is the best
        self._batch = self._batches = self._batch_size = 0
        self._said_at = 0.0

    def hooks(self) -> dict[str, Callable[[Any], None]]:
        names = (
            "on_pretrain_routine_end",
            "on_train_epoch_start",
            "on_train_batch_start",
            "on_train_batch_end",
            "on_train_epoch_end",
            "on_model_save",
            "on_fit_epoch_end",
            "on_val_start",
            "on_val_batch_start",
            "on_val_batch_end",
        )
        return {name: getattr(self, name) for name in names}

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        self._epochs, self._batch_size, self.epoch = trainer.epochs, trainer.batch_size, trainer.start_epoch
        sizes = len(trainer.train_loader.dataset), len(trainer.test_loader.dataset)
        parameters = sum(p.numel() for p in trainer.model.parameters())
        self._emitter.emit(started(trainer, trainer.start_epoch + 1, sizes, parameters))

    def on_train_epoch_start(self, trainer: Any) -> None:
        self._stop.check()
        self.keeper.check()
        epoch = trainer.epoch + 1
        if self._open == epoch:
            self._say_why_again(trainer, epoch)
        else:
            self._open, self._opened_at = epoch, time.monotonic()
            _reset_peak(trainer)
        self._batch, self._batches = 0, len(trainer.train_loader)
        self._epochs = trainer.epochs

    def _say_why_again(self, trainer: Any, epoch: int) -> None:
        """The same epoch starts once more."""
        if trainer.batch_size != self._batch_size:
            self._emitter.note(
                f"the GPU's memory did not suffice for batch {self._batch_size}: going on with {trainer.batch_size}"
            )
            self._batch_size = trainer.batch_size
        else:
            self._emitter.note(
                f"the loss became NaN in epoch {epoch}: back to the last checkpoint, "
                f"try {trainer.nan_recovery_attempts} of 3"
            )

    def on_train_batch_start(self, _trainer: Any) -> None:
        self._stop.check()

    def on_train_batch_end(self, trainer: Any) -> None:
        self._batch += 1
        if self._due():
            losses = finite({f"train/{name}": value for name, value in trainer.tloss.items()})
            self._progress(self._batch, self._batches, "train", losses)
        self._stop.check()

    def on_train_epoch_end(self, _trainer: Any) -> None:
        self._stop.check()

    def on_val_start(self, _validator: Any) -> None:
        self._stop.check()

    def on_val_batch_start(self, _validator: Any) -> None:
        self._stop.check()

    def on_val_batch_end(self, validator: Any) -> None:
        if self._due():
            phase = "val" if validator.training else "final"
            self._progress(validator.batch_i + 1, len(validator.dataloader), phase)
        self._stop.check()

    def close_epoch(self) -> None:
        """A stop that comes from here on waits until the epoch is finished."""
        self._closing = True
        self._stop.hold()

    def on_model_save(self, trainer: Any) -> None:
        """Kept as soon as what belongs to it, the epoch's values, is known."""
        best = trainer.best_fitness is not None and trainer.best_fitness == trainer.fitness
        self._to_keep = (trainer.last, best)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        if self._open is None:
            return  # once more after the last epoch, with the final validation's values
        epoch = self._finished(trainer, self._open)
        self.epoch, self._open = self._open, None
        self.seconds += epoch.seconds
        self._keep(epoch)
        if self._closing:
            self._closing = False
            self._stop.release()

    def _keep(self, epoch: Epoch) -> None:
        """A checkpoint is never told without its epoch: whoever goes on from there would have no values of it."""
        if self._to_keep is None:
            self.keeper.after(lambda: self._emitter.emit(epoch))
            return
        (last, best), self._to_keep = self._to_keep, None

        def said(checkpoint: Checkpoint) -> None:
            self._emitter.emit(epoch, Saved(at=now(), checkpoint=checkpoint))

        self.keeper.keep(last, epoch.epoch, best=best, said=said)

    def _finished(self, trainer: Any, epoch: int) -> Epoch:
        losses = {str(k): float(v) for k, v in trainer.label_loss_items(trainer.tloss, prefix="train").items()}
        self.sound = all(math.isfinite(value) for value in losses.values())
        validated: Mapping[str, Any] = trainer.metrics if trainer.fitness is not None else {}  # train.val: false
        return Epoch(
            at=now(),
            epoch=epoch,
            epochs=trainer.epochs,
            values=finite({**losses, **validated, **trainer.lr}),
            fitness=finite({"": trainer.fitness}).get("") if trainer.fitness is not None else None,
            seconds=time.monotonic() - self._opened_at,
            memory_mib=_peak_mib(trainer),
        )

    def final(self, trainer: Any) -> None:
        """The final validation is about to start, with the arguments of the `val` section."""
        self.trained = True
        validator = trainer.validator
        for key, value in self.validation.items():
            setattr(validator.args, key, value)
        if not _LOADER_ARGS.isdisjoint(self.validation):
            validator.dataloader = None  # it makes its own, of that split and size

    def _due(self) -> bool:
        at = time.monotonic()
        if at - self._said_at < PROGRESS_EVERY_S:
            return False
        self._said_at = at
        return True

    def _progress(self, batch: int, batches: int, phase: Any, losses: dict[str, float] | None = None) -> None:
        epoch = self._open or self.epoch
        self._emitter.emit(
            Progress(
                at=now(),
                epoch=epoch,
                epochs=max(self._epochs, epoch),
                batch=batch,
                batches=batches,
                phase=phase,
                losses=losses or {},
            )
        )


def started(trainer: Any, first_epoch: int, sizes: tuple[int, int], parameters: int) -> Started:
    torch: Any = import_module("torch")
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "ultralytics": str(import_module("ultralytics").__version__),
        "cuda": str(torch.version.cuda or ""),
    }
    if trainer.device.type == "cuda":
        versions["gpu"] = str(torch.cuda.get_device_name(trainer.device))
    return Started(
        at=now(),
        versions=versions,
        device=str(trainer.device),
        task=trainer.args.task,
        batch=int(trainer.batch_size),
        imgsz=int(trainer.args.imgsz),
        epochs=trainer.epochs,
        first_epoch=first_epoch,
        train_images=sizes[0],
        val_images=sizes[1],
        classes=int(trainer.data["nc"]),
        parameters=parameters,
        save_dir=str(trainer.save_dir),
        fitness_name=FITNESS_NAMES.get(trainer.args.task, "fitness"),
    )


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """JSON has no NaN: what is none is left out."""
    numbers = {str(name): float(value) for name, value in values.items() if value is not None}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _reset_peak(trainer: Any) -> None:
    if trainer.device.type == "cuda":
        import_module("torch").cuda.reset_peak_memory_stats(trainer.device)


def _peak_mib(trainer: Any) -> float:
    """Of the GPU since the epoch began; on a CPU what this process holds now."""
    if trainer.device.type == "cuda":
        return import_module("torch").cuda.max_memory_reserved(trainer.device) / 2**20
    return import_module("psutil").Process().memory_info().rss / 2**20
