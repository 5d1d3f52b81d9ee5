"""A node that fences itself and is out of reach: its trainings go on after the lease, and nothing runs twice."""

from pathlib import Path
from typing import Any

import pytest

from broker.protocol.states import EndReason, JobState
from broker.scheduler import scheduler
from broker.settings import NodeSettings
from broker.supervisor import lease, run
from tests.brokerage import Broker, Start, start
from tests.redis_fixtures import redis
from tests.waiting import until

__all__ = ["redis", "start"]

LEASE_S = 3.0
FENCED: dict[str, Any] = {
    "nodes": [NodeSettings.model_validate({"slots": 4, "self_fencing_s": LEASE_S})],
    "backoff_s": 0,
}
LASTING = """
started(len(config["resume"]) + 1)
if config["fence"] == 1:
    epoch(1)
    wait_for("let go")
    silent = True
    epoch(2)
    sys.exit(75)
epoch(3)
result()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RETRY_S", 0.2)
    monkeypatch.setattr(lease, "MARGIN_S", 0.5)
    monkeypatch.setattr(scheduler, "RECONCILE_S", 0.5)  # until a node that is back is given jobs


def file_of(broker: Broker, job_id: int) -> Path:
    return broker.settings.data_dir / "jobs" / str(job_id) / "1.lease"


async def test_while_there_is_contact_the_file_changes(start: Start) -> None:
    broker = await start(**FENCED)
    job_id = await broker.train("started(); epoch(1); wait_for('let go'); result()")
    await broker.reached(job_id, JobState.RUNNING)
    file = file_of(broker, job_id)
    first = file.read_text()
    assert first.startswith("3 ")
    await until(lambda: file.read_text() != first)
    (file.with_name("1") / "let go").touch()
    assert (await broker.ended(job_id)).state is JobState.COMPLETED


async def test_after_the_lease_it_goes_on_from_what_it_left_on_the_shared_disk(start: Start) -> None:
    broker = await start(**FENCED)
    job_id = await broker.train(LASTING)
    await broker.says(job_id, '"epoch": 1')
    broker = await start(**FENCED, away=True)
    await broker.reached(job_id, JobState.UNKNOWN)
    (file_of(broker, job_id).with_name("1") / "let go").touch()
    await broker.reached(job_id, JobState.QUEUED, JobState.UNKNOWN)
    await until(lambda: file_of(broker, job_id).read_text().startswith("over"), what="the attempt to be given up")
    broker.engine.away = False
    ended = await broker.ended(job_id)
    first, _ = await broker.ledger.attempts(job_id)
    assert (ended.state, ended.fence, first.reason) == (JobState.COMPLETED, 2, EndReason.NODE_LOST)
    assert "left by itself; goes on after epoch 2" in first.message
    assert (await broker.ledger.metrics(job_id)).epochs == [1, 2, 3]


async def test_found_again_before_the_lease_is_over_it_goes_on(start: Start) -> None:
    broker = await start(**FENCED)
    job_id = await broker.train("started(); epoch(1); wait_for('let go'); result()")
    await broker.says(job_id, '"epoch": 1')
    broker = await start(**FENCED, away=True)
    await broker.reached(job_id, JobState.UNKNOWN)
    broker.engine.away = False
    await broker.reached(job_id, JobState.RUNNING)
    (file_of(broker, job_id).with_name("1") / "let go").touch()
    assert (await broker.ended(job_id)).fence == 1


async def test_a_command_knows_no_lease_and_stays_unknown(start: Start) -> None:
    broker = await start(**FENCED)
    job_id = await broker.shell("while :; do sleep 0.1; done")
    await broker.reached(job_id, JobState.RUNNING)
    broker = await start(**FENCED, away=True)
    await broker.reached(job_id, JobState.UNKNOWN)
    assert not file_of(broker, job_id).exists()
