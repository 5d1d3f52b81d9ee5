"""An attempt that was given up is found again: it is ended, what it saved is kept, how it ended counts for nothing."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.ledger.records import AttemptStart, Change, EpochRow, Recorded
from broker.protocol.event import Progressed
from broker.protocol.job import Checkpoint
from broker.protocol.states import EndReason, JobState
from broker.protocol.training import TrainerEvent
from broker.supervisor import run, strangers
from broker.supervisor.account import Account
from broker.supervisor.strangers import is_good
from tests.brokerage import Broker, Start, start
from tests.redis_fixtures import redis
from tests.waiting import until_awaited

__all__ = ["redis", "start"]

SAVES = """
import hashlib

def save(k, content=b"weights"):
    (here / f"{k}.pt").write_bytes(content)
    emit("epoch", epoch=k, epochs=9, values={"loss": 1 / k}, fitness=k / 10, seconds=0.01)
    emit("checkpoint", checkpoint={"path": str(here / f"{k}.pt"), "epoch": k, "attempt": config["fence"],
         "sha256": hashlib.sha256(b"weights").hexdigest(), "at": datetime.datetime.now(datetime.UTC).isoformat()})
"""
FIRST = (
    SAVES
    + """
started()
save(1)
wait_for("go on")
save(2)
save(3, b"half of it")
(here / "went on").touch()
wait_for("never")
"""
)


@pytest.fixture
async def given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[Broker, int, Path]:
    """A training of which a person said that it is gone; it runs on. The job waits for a minute."""
    monkeypatch.setattr(run, "RETRY_S", 0.1)
    broker = await start(backoff_s=60)
    job_id = await broker.train(FIRST)
    await broker.says(job_id, '"epoch": 1')
    broker = await start(backoff_s=60, away=True)
    await broker.reached(job_id, JobState.UNKNOWN)
    await broker.supervisor.resolve(job_id, alive=False, by="ann")
    directory = broker.settings.data_dir / "jobs" / str(job_id) / "1"
    (directory / "go on").touch()

    async def went_on() -> bool:
        return (directory / "went on").exists()

    await until_awaited(went_on)
    return broker, job_id, directory


async def test_its_newer_checkpoint_is_kept_if_it_is_good(given_up: tuple[Broker, int, Path]) -> None:
    broker, job_id, _ = given_up
    assert await broker.supervisor.reconcile() == 0  # it cannot be reached yet
    broker.engine.away = False
    assert await broker.supervisor.reconcile() == 1
    assert [each.epoch for each in await broker.ledger.checkpoints(job_id)] == [2, 1]
    assert (await broker.ledger.metrics(job_id)).epochs == [1, 2]
    job = await broker.ledger.job(job_id)
    assert (job.state, job.epoch, job.fence) == (JobState.QUEUED, 2, 1)
    [attempt] = await broker.ledger.attempts(job_id)
    assert attempt.reason is EndReason.NODE_LOST
    [told] = [entry for entry in await broker.ledger.audit(job_id) if entry.verb == "orphan"]
    assert "killed; its checkpoint of epoch 2 is kept" in told.data["message"]
    assert await broker.supervisor.reconcile() == 0


async def test_the_broker_goes_on_while_what_it_said_is_read(
    given_up: tuple[Broker, int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = set[int]()

    class Watched(Account):
        def hear(self, event: TrainerEvent) -> Progressed | None:
            readers.add(threading.get_ident())
            return super().hear(event)

    monkeypatch.setattr(strangers, "Account", Watched)
    broker, _, _ = given_up
    broker.engine.away = False
    assert await broker.supervisor.reconcile() == 1
    assert readers and threading.get_ident() not in readers


async def test_nothing_of_it_is_kept_when_a_later_attempt_has_got_on(given_up: tuple[Broker, int, Path]) -> None:
    broker, job_id, _ = given_up
    later = AttemptStart("local", (), broker.settings.data_dir / "jobs")
    await broker.ledger.advance(Change(job_id, "place", to=JobState.STARTING, start=later))
    at = datetime.now(UTC)
    row = EpochRow(2, 9, {"loss": 7.0}, None, 1.0, at)
    saved = Checkpoint(path="2.pt", epoch=2, sha256="0", attempt=2, at=at)
    await broker.ledger.record(Recorded(job_id, 2, 0, 1, epochs=[row]))
    broker.engine.away = False
    await broker.supervisor.reconcile()
    assert [each.attempt for each in await broker.ledger.checkpoints(job_id)] == [1]
    await broker.ledger.record(Recorded(job_id, 2, 0, 2, checkpoints=[saved]))
    assert [each.attempt for each in await broker.ledger.checkpoints(job_id)] == [2, 1]
    await broker.supervisor.adopt()


def test_a_checkpoint_outside_of_its_attempts_directory_is_none(tmp_path: Path) -> None:
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "in").mkdir()
    for path in (tmp_path / "in" / "x.pt", tmp_path / "out.pt"):
        path.write_bytes(b"")
    (tmp_path / "in" / "link.pt").symlink_to(tmp_path / "out.pt")
    names = ("in/x.pt", "in/../out.pt", "out.pt", "in/link.pt", "in/none.pt")
    good = [
        is_good(
            Checkpoint.model_validate(
                {"path": str(tmp_path / name), "epoch": 1, "sha256": digest, "attempt": 1, "at": "2026-01-01T00:00:00Z"}
            ),
            tmp_path / "in",
        )
        for name in names
    ]
    assert good == [True, False, False, False, False]
