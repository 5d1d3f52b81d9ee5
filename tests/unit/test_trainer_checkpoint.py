"""Checkpoints are whole or not there, and a failed one is followed by nothing."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.protocol.job import Checkpoint
from trainer import earlier
from trainer.checkpoint import Ahead, Keeper, Resumable, ahead, series
from trainer.durable import copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    path.write_bytes(b"weights of epoch 1")
    return path


@pytest.fixture(params=["with hard links", "without"])
def _hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(f"{path} {target}: this file system has none")

    if request.param == "without":
        monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.usefixtures("_hard_links")
def test_a_kept_checkpoint_has_its_hash_and_stays_when_its_source_is_written_to(tmp_path: Path, source: Path) -> None:
    said: list[Checkpoint] = []
    keeper = Keeper(tmp_path, fence=3)
    keeper.keep(source, 1, best=True, said=said.append)
    keeper.settle()
    source.write_bytes(b"stripped")
    kept = Path(said[0].path)
    assert kept.read_bytes() == b"weights of epoch 1"
    assert (said[0].epoch, said[0].attempt) == (1, 3)
    assert said[0].sha256 == hashlib.sha256(b"weights of epoch 1").hexdigest()
    assert kept.with_name("best.pt").read_bytes() == b"weights of epoch 1"
    assert keeper.newest == said[0]


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path, source: Path) -> None:
    keeper = Keeper(tmp_path, fence=1)
    for epoch in range(1, 6):
        source.write_bytes(f"epoch {epoch}".encode())
        keeper.keep(source, epoch, best=epoch == 2, said=lambda _checkpoint: None)
        keeper.settle()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "epoch-0004.pt", "epoch-0005.pt"]
    assert (tmp_path / "checkpoints" / "best.pt").read_bytes() == b"epoch 2"


def test_after_a_checkpoint_that_failed_nothing_more_is_said(tmp_path: Path, source: Path) -> None:
    said: list[str] = []
    keeper = Keeper(tmp_path, fence=1)
    (tmp_path / "checkpoints" / "epoch-0001.pt.tmp").mkdir(parents=True)  # in the way
    keeper.keep(source, 1, best=False, said=lambda _checkpoint: said.append("checkpoint"))
    keeper.after(lambda: said.append("epoch"))
    with pytest.raises(IsADirectoryError):
        keeper.settle()
    keeper.settle()
    assert said == []
    assert keeper.newest is None


def test_a_copy_that_breaks_off_leaves_the_older_file(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "best.pt"
    target.write_bytes(b"older")
    target.with_name("best.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        copy(source, target)
    assert target.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir() if path != source] == ["best.pt"]


def attempt(job: Path, fence: int, *names: str) -> list[Path]:
    folder = job / str(fence) / "checkpoints"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def there(paths: list[Path]) -> list[bool]:
    return [path.exists() for path in paths]


def test_what_a_killed_attempt_left_half_written_goes_when_the_next_one_starts(tmp_path: Path) -> None:
    first = attempt(tmp_path, 1, "epoch-0001.pt", "epoch-0002.pt.tmp", "../result.json.tmp", "../mine.tmp")
    own = attempt(tmp_path, 3, "epoch-0001.pt.tmp")
    elsewhere = attempt(tmp_path / "x", 1, "epoch-0001.pt.tmp")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "checkpoints").symlink_to(elsewhere[0].parent)
    earlier.remove(earlier.half_written(tmp_path / "3", 3))
    assert there(first) == [True, False, False, True]
    assert all(there(own + elsewhere))


def test_checkpoints_of_older_attempts_go_once_there_is_a_newer_one_beside_that_which_was_resumed(
    tmp_path: Path, source: Path
) -> None:
    first = attempt(tmp_path, 1, "epoch-0001.pt", "epoch-0002.pt", "best.pt")
    second = attempt(tmp_path, 2, "epoch-0003.pt", "epoch-0004.pt", "best.pt")
    own = attempt(tmp_path, 3)
    keeper = Keeper(tmp_path / "3", fence=3)
    keeper.superseded = earlier.superseded(tmp_path / "3", 3, second[1])
    keeper.after(lambda: None)
    keeper.settle()
    assert all(there(first + second + own))
    keeper.keep(source, 5, best=False, said=lambda _: None)
    keeper.settle()
    assert there(first) == [False, False, True]
    assert there(second) == [False, True, True]
    assert (tmp_path / "3" / "checkpoints" / "epoch-0005.pt").exists()


def test_nothing_goes_where_a_training_goes_on_from_files_of_another_place(tmp_path: Path) -> None:
    [kept, moved] = attempt(tmp_path, 1, "epoch-0001.pt"), attempt(tmp_path / "moved", 1, "epoch-0001.pt")
    assert earlier.superseded(tmp_path / "2", 2, moved[0]) == []
    assert earlier.superseded(tmp_path / "training-2", 2, kept[0]) == []


def test_results_are_cut_at_the_checkpoint_and_keep_their_clock() -> None:
    columns = {"epoch": [1, 2, 3], "time": [1.5, 3.25, 5.0], "train/box_loss": [0.123456, 2.0, 3.0]}
    text, seconds = series(columns, 2)
    assert text == "epoch,time,train/box_loss\n1,1.5,0.123456\n2,3.25,2\n"
    assert seconds == 3.25


def test_a_checkpoint_without_results_starts_a_new_series() -> None:
    assert series({}, 2) == ("", 0.0)


def resumable(done: int, planned: int, patience: int, best_epoch: int) -> Resumable:
    at = datetime.now(UTC)
    checkpoint = Checkpoint(path="/x/epoch.pt", epoch=done, sha256="", attempt=1, at=at)
    state = {"train_args": {"epochs": planned, "patience": patience}, "stopper": {"best_epoch": best_epoch}}
    return Resumable(checkpoint, state)


@pytest.mark.parametrize(
    ("done", "patience", "best_epoch", "wanted", "epochs"),
    [
        (3, 100, 3, None, 10),  # stopped on the way
        (10, 100, 3, None, 10),  # killed in the final validation
        (10, 100, 3, 15, 15),  # extended
        (10, 100, 3, 5, 10),  # what was trained is not undone
        (6, 100, 3, 8, 8),  # shortened
        (6, 3, 3, None, 6),  # had ended early: killed in the final validation
        (6, 3, 3, 10, 6),
        (6, 3, 3, 15, 15),  # extended, though it had ended early
        (6, 4, 3, None, 10),
        (6, 0, 1, None, 10),  # patience 0 waits for ever
    ],
)
def test_how_far_a_resumed_run_goes(done: int, patience: int, best_epoch: int, wanted: int | None, epochs: int) -> None:
    assert ahead(resumable(done, 10, patience, best_epoch), wanted).epochs == epochs


def test_a_new_number_of_epochs_and_a_spent_patience_are_said() -> None:
    assert Ahead(done=3, epochs=10, planned=10).notes() == []
    assert Ahead(done=10, epochs=10, planned=10).notes() == []
    assert "10 epochs become 15" in Ahead(done=10, epochs=15, planned=10).notes()[0]
    assert "ask for more than 10 epochs" in Ahead(done=6, epochs=6, planned=10, ended_early=True).notes()[0]
    assert "starts anew" in Ahead(done=6, epochs=15, planned=10, ended_early=True).notes()[1]
