"""Each task and family really trains, starts from weights where they are given, and says what it was."""

import subprocess
from pathlib import Path

import pytest

from broker.protocol.job import Task
from broker.protocol.training import EXIT_OK, Epoch, Finished, Started
from tests.train.attempts import Attempt, Attempts
from wyolo_tui import shapes

pytestmark = pytest.mark.train
METRICS = {
    "segment": "metrics/mAP50(M)",
    "classify": "metrics/accuracy_top1",
    "pose": "metrics/mAP50(P)",
    "obb": "metrics/mAP50(B)",
}
SUFFIXES = {"segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}


@pytest.fixture(scope="module")
def segmented(attempts: Attempts) -> Attempt:
    return _trained(attempts, "segment")


def _trained(attempts: Attempts, task: Task) -> Attempt:
    data = shapes.make(attempts.folder / task, task, images=6, val=3, size=64)
    caches = attempts.folder / "caches"
    caches.mkdir(exist_ok=True)
    killed = subprocess.Popen(["true"])
    killed.wait()
    (caches / f"{'0' * 32}.{killed.pid}").touch()  # half of a cache
    attempt = attempts.run(
        model=f"yolov8n{SUFFIXES[task]}.yaml",
        task=task,
        args={"data": str(data), "imgsz": 64},
        cache_dir=str(caches),
    )
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    assert {path.suffix for path in caches.iterdir()} == {".cache"}
    return attempt


@pytest.mark.parametrize("task", ["classify", "pose", "obb"])
def test_the_task_trains(attempts: Attempts, task: Task) -> None:
    _check(_trained(attempts, task), task)


def test_segmentation_trains(segmented: Attempt) -> None:
    _check(segmented, "segment")


def _check(attempt: Attempt, task: Task) -> None:
    started = attempt.only(Started)
    assert (started.task, started.train_images, started.val_images, started.classes) == (task, 6, 3, 3)
    assert METRICS[task] in attempt.only(Epoch).values
    assert METRICS[task] in attempt.only(Finished).values
    assert not list((attempt.directory.parent / task).rglob("*.cache"))


def test_weights_decide_the_task_whatever_the_configuration_says(attempts: Attempts, segmented: Attempt) -> None:
    """And they are found by name in the weights folder."""
    folder = attempts.folder / "weights"
    folder.mkdir()
    best = segmented.only(Finished).best
    assert best is not None
    Path(best).rename(folder / "mine.pt")
    data = str(attempts.folder / "segment" / "data.yaml")
    attempt = attempts.run(model="mine.pt", task="detect", weights_dir=str(folder), args={"data": data, "imgsz": 64})
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    assert attempt.only(Started).task == "segment"
    assert "says task detect, and mine.pt is for segment" in attempt.notes()
    assert "Transferred" in attempt.log()


def test_rtdetr_trains_without_deterministic_algorithms(attempts: Attempts) -> None:
    data = shapes.make(attempts.folder / "detect", "detect", images=2, val=1, size=64)
    attempt = attempts.run(
        model="yolov8n-rtdetr.yaml", family="rtdetr", args={"data": str(data), "imgsz": 64, "batch": 2}
    )
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    assert "train/giou_loss" in attempt.only(Epoch).values
    assert "deterministic=False" in attempt.log()
