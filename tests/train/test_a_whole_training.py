"""One training from start to end, with everything in its configuration that could go wrong quietly."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_OK, RECORD_SEPARATOR, Epoch, Finished, Progress, Saved, Started
from tests.train.attempts import Attempt, Attempts
from wyolo_tui import shapes

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def data(attempts: Attempts) -> Path:
    """With a `download:` that would leave a file behind if anyone ran it."""
    path = shapes.make(attempts.folder / "shapes", "detect", images=8, val=4, size=64)
    canary = attempts.folder / "canary"
    text = path.read_text(encoding="utf-8").replace("val: images/val", "val: images/val\ntest: images/elsewhere")
    path.write_text(f"{text}download: |\n  open({str(canary)!r}, 'w')\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(attempts: Attempts, data: Path) -> Attempt:
    """Every trap in one run: a GPU that is not there, auto-batch, too many workers, no saving, names of our folders."""
    args = {
        "data": str(data),
        "epochs": 3,
        "imgsz": 64,
        "batch": -1,
        "device": 0,
        "plots": True,
        "save": False,
        "save_period": 1,
        "project": str(attempts.folder / "elsewhere"),
        "name": "mine",
        "lr0": "1e-3",
        "optimizer": "SGD",
    }
    attempt = attempts.run(args=args, val={"conf": 0.5, "split": "val", "plots": True})
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    return attempt


def test_it_reports_what_it_really_trains_with(whole: Attempt) -> None:
    started = whole.only(Started)
    assert (started.device, started.task, started.batch, started.imgsz) == ("cpu", "detect", 16, 64)
    assert (started.epochs, started.first_epoch) == (3, 1)
    assert (started.train_images, started.val_images, started.classes) == (8, 4, 3)
    assert started.parameters > 1_000_000
    assert started.fitness_name == "metrics/mAP50-95(B)"
    assert {"python", "torch", "ultralytics"} <= started.versions.keys()
    assert "no GPU is visible" in whole.notes()
    assert "on the CPU it is 16" in whole.notes()


def test_each_epoch_is_reported_once_and_after_its_checkpoint(whole: Attempt) -> None:
    """Ultralytics calls on_fit_epoch_end once more after the last epoch."""
    order = [event for event in whole.events() if isinstance(event, Saved | Epoch)]
    named = [(type(e), e.checkpoint.epoch if isinstance(e, Saved) else e.epoch) for e in order]
    assert named == [(kind, epoch) for epoch in (1, 2, 3) for kind in (Epoch, Saved)]


def test_an_epoch_has_losses_metrics_rates_memory_and_time(whole: Attempt) -> None:
    epoch = whole.of(Epoch)[-1]
    assert {"train/box_loss", "val/box_loss", "metrics/mAP50(B)", "lr/pg0"} <= epoch.values.keys()
    assert epoch.fitness is not None
    assert 0 < epoch.seconds < 60
    assert epoch.memory_mib > 50


def test_events_are_numbered_without_a_gap_in_file_and_output_alike(whole: Attempt) -> None:
    events = whole.events()
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    said = [json.loads(line[1:]) for line in whole.log().split("\n") if line.startswith(RECORD_SEPARATOR)]
    assert [event["n"] for event in said] == [event.n for event in events]
    assert whole.result().events == len(events)


def test_progress_is_said_at_most_twice_a_second(whole: Attempt) -> None:
    at = [event.at for event in whole.of(Progress)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(at)]
    assert at
    assert all(gap > 0.45 for gap in gaps), gaps


def test_the_newest_two_checkpoints_are_kept_and_are_what_was_said(whole: Attempt) -> None:
    newest, before, *older = whole.checkpoints()
    for kept in (newest, before):
        assert hashlib.sha256(Path(kept.path).read_bytes()).hexdigest() == kept.sha256
    assert not any(Path(gone.path).exists() for gone in older)
    assert "train.save is true" in whole.notes()


def test_it_finishes_with_the_values_of_the_final_validation(whole: Attempt) -> None:
    finished = whole.only(Finished)
    assert "metrics/mAP50-95(B)" in finished.values
    assert finished.best is not None
    assert Path(finished.best).is_file()
    result = whole.result()
    assert (result.ok, result.reason, result.epoch, result.fence) == (True, EndReason.COMPLETED, 3, whole.config.fence)


def test_everything_is_written_into_the_attempts_directory(whole: Attempt, attempts: Attempts) -> None:
    assert whole.only(Started).save_dir == str(whole.directory / "run")
    assert len(whole.series()) == 3
    assert (whole.directory / "run" / "weights" / "epoch0.pt").exists()  # save_period
    assert not (attempts.folder / "elsewhere").exists()


def test_plots_are_drawn_without_downloading_a_font(whole: Attempt) -> None:
    assert (whole.directory / "run" / "results.png").is_file()
    assert (whole.directory / "run" / "labels.jpg").is_file()
    assert "ownload" not in whole.log()


def test_the_data_set_runs_no_program_and_is_left_as_it_was(whole: Attempt, data: Path, attempts: Attempts) -> None:
    assert whole.epochs() == [1, 2, 3]
    assert not (attempts.folder / "canary").exists()
    assert not list(data.parent.rglob("*.cache"))
    assert list((whole.directory / "cache").glob("*.cache"))


def test_nothing_is_reported_to_anyone(whole: Attempt) -> None:
    settings = json.loads((whole.directory / "ultralytics" / "Ultralytics" / "settings.json").read_bytes())
    for name in ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb"):
        assert settings[name] is False
    assert "settings updated to the latest schema" not in whole.log()


def test_the_log_is_whole_lines_of_plain_text(whole: Attempt) -> None:
    assert "\r" not in whole.log()
    assert "\x1b" not in whole.log()
    bars = [line for line in whole.log().splitlines() if line.lstrip().startswith("1/3")]
    assert len(bars) == 1, bars


@pytest.mark.parametrize(("memory", "cached"), [(12 * 64 * 64 * 3 * 2, False), (12 * 64 * 64 * 3 * 3, True)])
def test_images_are_cached_only_where_the_memory_limit_has_room_for_all_of_them(
    attempts: Attempts, data: Path, memory: int, cached: bool
) -> None:
    """Twelve of 64 x 64 pixels. Ultralytics asks the whole host, and not the container."""
    args = {"data": str(data), "imgsz": 64, "cache": "ram"}
    attempt = attempts.start(args=args, program=("tests.train.with_memory", str(memory)))
    attempt.until(lambda events: any(isinstance(event, Started) for event in events), "its start")
    assert ("train.cache is off: 12 images" in attempt.notes()) is not cached
    assert ("Caching images" in attempt.log()) is cached
    attempt.close()
