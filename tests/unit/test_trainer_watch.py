"""What is said while training, with Ultralytics' trainer stood in for by what its hooks read of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.protocol.training import TRAINER_EVENT, Note, Progress, TrainerEvent
from broker.supervisor.wire import between
from trainer.callbacks import PROGRESS_EVERY_S, Watch, finite
from trainer.checkpoint import Keeper
from trainer.emit import Emitter
from trainer.stop import Stop, Stopped


class Watched:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = Stop()
        emitter = Emitter(directory, self.stop, stdout=False)
        self.watch = Watch(emitter, self.stop, Keeper(directory, 1))
        self.trainer: Any = SimpleNamespace(
            epoch=0,
            epochs=3,
            batch_size=16,
            train_loader=[None] * 1000,
            tloss={"box_loss": 1.5, "cls_loss": float("nan")},
            nan_recovery_attempts=0,
            device=SimpleNamespace(type="cpu"),
        )

    def events(self) -> list[TrainerEvent]:
        lines = (self.directory / "events.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        return [TRAINER_EVENT.validate_json(line) for line in lines]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_batch_that_was_halved_is_said(watched: Watched) -> None:
    watched.trainer.batch_size = 0
    watched.watch.on_train_epoch_start(watched.trainer)
    watched.trainer.batch_size = 8
    watched.watch.on_train_epoch_start(watched.trainer)
    (note,) = [event for event in watched.events() if isinstance(event, Note)]
    assert "going on with 8" in note.text


def test_an_epoch_that_is_repeated_after_nan_is_said(watched: Watched) -> None:
    watched.trainer.batch_size = 0
    watched.watch.on_train_epoch_start(watched.trainer)
    watched.trainer.nan_recovery_attempts = 2
    watched.watch.on_train_epoch_start(watched.trainer)
    (note,) = [event for event in watched.events() if isinstance(event, Note)]
    assert "NaN in epoch 1" in note.text
    assert "try 2 of 3" in note.text


def test_progress_is_said_at_most_twice_a_second(watched: Watched) -> None:
    watched.watch.on_train_epoch_start(watched.trainer)
    for _ in range(1000):
        watched.watch.on_train_batch_end(watched.trainer)
    said = [event for event in watched.events() if isinstance(event, Progress)]
    assert 1 <= len(said) <= 1 + 5 / PROGRESS_EVERY_S
    assert (said[0].epoch, said[0].epochs, said[0].batch, said[0].batches) == (1, 3, 1, 1000)
    assert said[0].losses == {"train/box_loss": 1.5}


def test_a_stop_is_obeyed_at_the_next_batch_but_not_while_an_epoch_is_closed(watched: Watched) -> None:
    watched.watch.on_train_epoch_start(watched.trainer)
    watched.watch.close_epoch()
    watched.stop.requested = True
    watched.watch.on_train_batch_end(watched.trainer)
    watched.stop.requested = False
    watched.stop.release()
    watched.stop.requested = True
    with pytest.raises(Stopped):
        watched.watch.on_train_batch_start(watched.trainer)


def test_a_checkpoint_is_never_told_without_its_epoch(watched: Watched) -> None:
    """Wherever it dies: who goes on from the checkpoint has the values of all epochs before."""
    trainer, last = watched.trainer, watched.directory / "last.pt"
    last.write_bytes(b"weights")
    trainer.__dict__.update(last=last, best_fitness=0.5, fitness=0.5, metrics={"map": 0.5}, lr={"lr": 0.1})
    trainer.label_loss_items = _losses
    watched.watch.on_train_epoch_start(trainer)
    watched.watch.close_epoch()
    watched.watch.on_model_save(trainer)
    watched.watch.on_fit_epoch_end(trainer)
    watched.watch.keeper.settle()
    said = (watched.directory / "events.jsonl").read_bytes()
    assert [event.event for event in between(said, 0)] == ["epoch", "checkpoint"]
    for cut in range(len(said)):
        told = {event.event for event in between(said[:cut], 0)}
        assert "epoch" in told or "checkpoint" not in told


def _losses(_loss: Any, prefix: str) -> dict[str, float]:
    return {f"{prefix}/box_loss": 1.5}


def test_what_json_cannot_say_is_left_out() -> None:
    assert finite({"a": 1, "b": float("inf"), "c": float("nan"), "d": None}) == {"a": 1.0}
