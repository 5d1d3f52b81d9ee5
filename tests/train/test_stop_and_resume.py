"""Stopped in the middle, resumed from a bad checkpoint, extended, and killed at the very end: one series of epochs."""

import shutil
from pathlib import Path

import pytest

from broker.protocol.job import Checkpoint
from broker.protocol.states import EndReason
from broker.protocol.training import EXIT_FAILED, EXIT_OK, EXIT_STOPPED, Epoch, Failed, Finished, Saved, Started
from tests.train.attempts import Attempt, Attempts
from trainer.checkpoint import file_sha256
from wyolo_tui import shapes

pytestmark = pytest.mark.train
EPOCHS = 4
MANY = 60


@pytest.fixture(scope="module")
def data(attempts: Attempts) -> str:
    return str(shapes.make(attempts.folder / "shapes", "detect", images=8, val=4, size=64))


@pytest.fixture(scope="module")
def stopped(attempts: Attempts, data: str) -> Attempt:
    """Asked to stop in the middle of an epoch, after two."""
    attempt = attempts.start(args={"data": data, "epochs": MANY, "batch": 2, "val": False})
    attempt.until(lambda events: sum(isinstance(e, Epoch) for e in events) >= 2, "two epochs")
    attempt.terminate()
    assert attempt.wait() == EXIT_STOPPED, attempt.log()
    return attempt


@pytest.fixture(scope="module")
def first(attempts: Attempts, data: str) -> Attempt:
    """The two epochs of a run that is planned for four: killed while the third is under way."""
    attempt = attempts.start(args={"data": data, "epochs": EPOCHS, "imgsz": 64, "batch": 1})
    attempt.until(lambda events: sum(isinstance(e, Epoch) for e in events) >= 2, "two epochs")
    attempt.process.kill()
    attempt.wait()
    return attempt


@pytest.fixture(scope="module")
def resumed(attempts: Attempts, data: str, first: Attempt) -> Attempt:
    """From the same files in another place, and the newest of them cut short."""
    moved = attempts.folder / "moved"
    shutil.copytree(first.directory, moved)
    candidates = [
        c.model_copy(update={"path": str(moved / "checkpoints" / Path(c.path).name)}) for c in first.checkpoints()
    ]
    newest = Path(candidates[0].path)
    newest.write_bytes(newest.read_bytes()[:-1000])
    shutil.rmtree(first.directory / "run")
    attempt = attempts.run(args={"data": data, "epochs": EPOCHS, "imgsz": 64, "batch": 1}, resume=candidates)
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    return attempt


@pytest.fixture(scope="module")
def extended(attempts: Attempts, data: str, resumed: Attempt) -> Attempt:
    attempt = attempts.run(
        args={"data": data, "epochs": EPOCHS, "imgsz": 64, "batch": 1},
        resume=resumed.checkpoints(),
        epochs=EPOCHS + 1,
    )
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    return attempt


def test_a_stop_keeps_the_last_whole_epoch_and_says_how_to_go_on(stopped: Attempt) -> None:
    result = stopped.result()
    assert (result.ok, result.reason) == (False, EndReason.USER_STOP)
    assert result.epoch == stopped.checkpoints()[0].epoch == stopped.epochs()[-1]
    assert f"Resume goes on with epoch {result.epoch + 1}." in result.message
    assert not stopped.of(Finished)
    assert not stopped.of(Failed)


def test_a_stop_does_not_count_the_epoch_it_cut_short(stopped: Attempt) -> None:
    """Ultralytics' own way to stop saves the batches so far as a whole epoch, and strips the checkpoint."""
    assert stopped.epochs() == [saved.checkpoint.epoch for saved in stopped.of(Saved)]
    assert len(stopped.series()) == stopped.epochs()[-1] < MANY


def test_without_validation_an_epoch_reports_no_metrics(stopped: Attempt) -> None:
    epoch = stopped.of(Epoch)[0]
    assert epoch.fitness is None
    assert not [name for name in epoch.values if name.startswith(("metrics/", "val/"))]


def test_resume_falls_back_to_the_checkpoint_before_and_says_so(first: Attempt, resumed: Attempt) -> None:
    newest = first.checkpoints()[0].epoch
    assert f"epoch {newest}" in resumed.notes()
    assert f"going on from epoch {newest - 1} instead" in resumed.notes()


def test_resume_continues_at_the_next_epoch(first: Attempt, resumed: Attempt) -> None:
    good = first.checkpoints()[1].epoch
    assert resumed.only(Started).first_epoch == good + 1
    assert first.epochs()[:good] + resumed.epochs() == list(range(1, EPOCHS + 1))


def test_results_csv_goes_on_as_one_series_without_the_lost_epoch(resumed: Attempt) -> None:
    rows = resumed.series()
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    times = [float(row["time"]) for row in rows]
    assert times == sorted(times)
    assert resumed.only(Finished).seconds > times[0]


def test_a_moved_checkpoint_does_not_write_to_where_it_came_from(first: Attempt, resumed: Attempt) -> None:
    assert resumed.only(Started).save_dir == str(resumed.directory / "run")
    assert not (first.directory / "run").exists()


def test_a_finished_job_is_extended_past_its_last_epoch(extended: Attempt) -> None:
    """The run was finished, its last.pt stripped: the copy that was kept before is what makes this possible."""
    assert extended.epochs() == [EPOCHS + 1]
    assert [int(row["epoch"]) for row in extended.series()] == list(range(1, EPOCHS + 2))
    assert f"{EPOCHS} epochs become {EPOCHS + 1}" in extended.notes()
    assert extended.only(Started).epochs == EPOCHS + 1


def test_a_job_killed_after_its_last_epoch_only_makes_the_final_validation(
    attempts: Attempts, data: str, extended: Attempt
) -> None:
    attempt = attempts.run(args={"data": data, "epochs": EPOCHS}, resume=extended.checkpoints())
    assert attempt.process.returncode == EXIT_OK, attempt.log()
    assert attempt.epochs() == []
    assert attempt.only(Started).first_epoch == EPOCHS + 2
    assert attempt.only(Finished).values == extended.only(Finished).values
    assert len(attempt.series()) == EPOCHS + 1
    assert attempt.result().epoch == EPOCHS + 1


def test_a_stripped_checkpoint_is_refused_and_not_trained_from_the_start(
    attempts: Attempts, data: str, extended: Attempt
) -> None:
    """Ultralytics itself would only warn, and train something else."""
    path = extended.directory / "run" / "weights" / "last.pt"
    stripped = extended.checkpoints()[0].model_copy(update={"path": str(path), "sha256": file_sha256(path)})
    gone = Checkpoint.model_validate({**stripped.model_dump(), "path": str(path.with_name("gone.pt")), "epoch": 1})
    attempt = attempts.run(args={"data": data, "epochs": EPOCHS}, resume=[stripped, gone])
    assert attempt.process.returncode == EXIT_FAILED
    assert attempt.result().reason is EndReason.BAD_CHECKPOINT
    assert "stripped" in attempt.result().message
    assert "cannot be read" in attempt.result().message
    assert not attempt.of(Started)


def test_a_stop_before_the_first_epoch_leaves_in_seconds(attempts: Attempts, data: str) -> None:
    attempt = attempts.start(args={"data": data})
    attempt.until(lambda _events: (attempt.directory / "ultralytics").exists(), "its settings")
    attempt.terminate()
    assert attempt.wait() == EXIT_STOPPED, attempt.log()
    assert attempt.result().reason is EndReason.USER_STOP
    assert attempt.result().epoch == 0
    assert "No epoch was finished" in attempt.result().message
