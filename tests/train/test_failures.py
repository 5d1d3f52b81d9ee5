"""A training that cannot go on says why, what is kept and what to do, and ends with a result."""

import os
from pathlib import Path

import pytest

from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_FAILED, Failed, Started
from tests.faults.disk import small_disk
from tests.train.attempts import Attempt, Attempts
from tests.train.told import BROKEN
from wyolo_tui import shapes

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def data(attempts: Attempts) -> Path:
    return shapes.make(attempts.folder / "shapes", "detect", images=4, val=2, size=32)


def failed(attempt: Attempt) -> Failed:
    assert attempt.process.returncode == EXIT_FAILED, attempt.log()
    failure, result = attempt.only(Failed), attempt.result()
    assert (result.ok, result.reason, result.message) == (False, failure.reason, failure.message)
    return failure


def test_weights_that_are_not_here_and_cannot_be_fetched(attempts: Attempts, data: Path) -> None:
    attempt = attempts.run(model="yolov8n.pt", args={"data": str(data)})
    failure = failed(attempt)
    assert failure.reason is EndReason.WEIGHTS_MISSING
    assert "yolov8n.yaml" in failure.message  # what could be done instead
    assert "No epoch was finished." in failure.message


def test_a_model_that_does_not_exist_is_answered_with_the_nearest(attempts: Attempts, data: Path) -> None:
    failure = failed(attempts.run(model="yolov8nn.yaml", args={"data": str(data)}))
    assert failure.reason is EndReason.WEIGHTS_MISSING
    assert "yolov8n.yaml" in failure.message


def test_a_model_whose_activation_is_a_program_is_refused(attempts: Attempts, data: Path) -> None:
    canary = attempts.folder / "canary"
    model = attempts.folder / "mine.yaml"
    model.write_text(f"nc: 3\nactivation: open({str(canary)!r}, 'w')\nbackbone: []\nhead: []\n", encoding="utf-8")
    failure = failed(attempts.run(model=str(model), args={"data": str(data)}))
    assert failure.reason is EndReason.BAD_CONFIG
    assert "activation" in failure.message
    assert not canary.exists()


def test_a_data_set_whose_images_are_not_there(attempts: Attempts, data: Path) -> None:
    wrong = data.with_name("wrong.yaml")
    wrong.write_text("train: images/nowhere\nval: images/val\nnames: [a]\n", encoding="utf-8")
    failure = failed(attempts.run(args={"data": str(wrong)}))
    assert failure.reason is EndReason.BAD_DATA
    assert "images/nowhere" in failure.message


def test_a_data_set_without_one_good_label(attempts: Attempts) -> None:
    path = shapes.make(attempts.folder / "broken", "detect", images=2, val=2, size=32)
    for label in (path.parent / "labels" / "train").glob("*.txt"):
        label.write_text("99 0.5 0.5 0.1 0.1\n", encoding="utf-8")
    failure = failed(attempts.run(args={"data": str(path)}))
    assert failure.reason is EndReason.BAD_DATA


def test_an_argument_that_ultralytics_does_not_take(attempts: Attempts, data: Path) -> None:
    attempt = attempts.run(args={"data": str(data), "optimizer": "Adagrad"})
    failure = failed(attempt)
    assert failure.reason is EndReason.BAD_CONFIG
    assert "Adagrad" in failure.message


def test_a_loss_that_becomes_nan(attempts: Attempts, data: Path) -> None:
    """A gain beyond float32 makes it infinite; Ultralytics goes back to its last checkpoint three times."""
    attempt = attempts.run(args={"data": str(data), "epochs": 3, "box": 1e39, "optimizer": "SGD"})
    failure = failed(attempt)
    assert failure.reason is EndReason.NAN, failure
    assert "train.lr0" in failure.message
    assert "back to the last checkpoint, try 3 of 3" in attempt.notes()
    assert attempt.epochs() == [1]


def test_what_breaks_while_a_checkpoint_is_copied_does_not_lose_it(attempts: Attempts, data: Path) -> None:
    attempt = attempts.run(args={"data": str(data), "epochs": 3}, program=("tests.train.told", BROKEN))
    failure = failed(attempt)
    assert BROKEN in failure.message
    assert "The checkpoint of epoch 1 is kept." in failure.message
    assert attempt.result().epoch == attempt.checkpoints()[0].epoch == 1


@pytest.mark.parametrize("met", ["run/weights/best.pt", "checkpoints/epoch-0001.pt.tmp"])
def test_a_full_disk(attempts: Attempts, data: Path, met: str) -> None:
    """/dev/full is one; what Ultralytics saves meets it, or our copy."""
    directory = attempts.folder / Path(met).name
    file = directory / met
    file.parent.mkdir(parents=True)
    file.symlink_to("/dev/full")
    attempt = attempts.run(args={"data": str(data), "epochs": 3}, directory=directory)
    assert failed(attempt).reason is EndReason.DISK_FULL
    assert attempt.epochs() == []
    assert attempt.of(Started)


@pytest.mark.parametrize(("mib", "kept"), [(50, 0), (100, 1)])
def test_a_disk_that_fills_up_with_all_that_is_written(attempts: Attempts, data: Path, mib: int, kept: int) -> None:
    """Log, events and result lie on it too. What Ultralytics saves fills it (50 MiB), or our copy of that (100 MiB)."""
    args = {"data": str(data), "epochs": 3}
    with small_disk(attempts.folder / f"disk-{mib}", mib) as disk:
        attempt = attempts.run(args=args, directory=disk / "attempt")
        failure, result = failed(attempt), attempt.result()
        assert failure.reason is EndReason.DISK_FULL, failure
        assert (result.epoch, result.events) == (kept, len(attempt.events()))
        assert attempt.epochs() == [saved.epoch for saved in attempt.checkpoints()] == list(range(1, kept + 1))
        assert not list(attempt.directory.rglob("*.tmp"))
        if kept:
            assert "The checkpoint of epoch 1 is kept." in failure.message
            resumed = attempts.run(args=args, resume=attempt.checkpoints())
            assert resumed.epochs() == [2, 3], resumed.log()
        attempt.close()


def test_a_pickle_that_runs_a_program_is_not_loaded(attempts: Attempts, data: Path) -> None:
    canary = attempts.folder / "pickled"
    program = f"cos\nsystem\n(S'touch {canary}'\ntR."
    weights = attempts.folder / "evil.pt"
    weights.write_bytes(program.encode())
    failure = failed(attempts.run(model=str(weights), args={"data": str(data)}))
    assert not canary.exists()
    assert os.fspath(weights) in failure.message
