"""Files of jobs that ended long ago go, what was written down of them stays, and what another job needs stays too."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.ledger.records import Recorded
from broker.protocol.job import Checkpoint, CommandWork, JobSpec
from broker.protocol.states import JobState
from broker.retention import Retention, named, past
from tests.unit import ledgers
from tests.unit.ledgers import NOW, epoch, read
from tests.unit.test_control import Setting, given

__all__ = ["given"]

DAY = timedelta(days=1)


def test_what_is_past_its_days_goes_unless_another_job_needs_it() -> None:
    ended = {1: NOW - 9 * DAY, 2: NOW - 8 * DAY, 3: NOW - 6 * DAY, 4: NOW}
    assert past(ended, {2}, NOW, 7) == [1]
    assert past(ended, (), NOW, 0.5) == [1, 2, 3]
    assert past(ended, (), NOW, 0) == []


def test_a_job_needs_what_its_spec_names_wherever_it_does() -> None:
    specs = [
        {"work": {"model": "/data/jobs/12/1/checkpoints/best.pt", "args": {"pretrained": "/data/jobs//3/2/best.pt"}}},
        {"work": {"argv": ["sh", "-c", "cp /data/jobs/7/1/out.txt ."], "cwd": "/data/jobs/40"}},
        {"work": {"argv": ["ls", "/data/jobs", "/other/jobs/9/1", "/data/jobs/x5"]}},
    ]
    assert named(map(json.dumps, specs), Path("/data/jobs")) == {12, 3, 7, 40}


def sweeper(given: Setting, jobs: Path, keep_days: float) -> Retention:
    return Retention(given.ledger, given.control, jobs, keep_days)


async def test_the_files_go_and_the_curves_and_the_history_stay(given: Setting, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    job_id = await given.at(JobState.RUNNING, ledgers.TRAIN)
    job = await given.ledger.job(job_id)
    saved = Checkpoint(path=str(jobs / f"{job_id}/1/best.pt"), epoch=1, sha256="0", attempt=1, at=NOW)
    await given.ledger.record(read(job, epoch(1)))
    await given.ledger.record(Recorded(job_id, 1, 200, 2, checkpoints=[saved]))
    await ledgers.ended(given.ledger, job_id, JobState.STOPPED)
    before = await given.ledger.job(job_id)
    (jobs / str(job_id) / "1").mkdir(parents=True)
    now = datetime.now(UTC)
    assert await sweeper(given, jobs, 0).sweep(now + 900 * DAY) == []
    assert await sweeper(given, jobs, 7).sweep(now + 6 * DAY) == []
    assert await sweeper(given, jobs, 7).sweep(now + 8 * DAY) == [job_id]
    assert not (jobs / str(job_id)).exists()
    assert await given.ledger.job(job_id) == before
    assert (await given.ledger.metrics(job_id)).epochs == [1]
    [told] = [entry for entry in await given.ledger.audit(job_id) if entry.verb == "expire"]
    assert "kept for 7 days" in told.data["message"]
    assert "starts at epoch 1" in (await given.control.resume(job_id)).message


async def test_what_cannot_be_removed_is_tried_again_and_told_once(given: Setting, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    job_id = await given.at(JobState.COMPLETED)
    now = datetime.now(UTC)
    for _ in range(3):
        (jobs / str(job_id)).mkdir(parents=True)
        assert await sweeper(given, jobs, 1).sweep(now + 2 * DAY) == [job_id]
    assert [entry.verb for entry in await given.ledger.audit(job_id)].count("expire") == 1


async def test_files_that_a_waiting_job_names_and_those_of_jobs_that_have_not_ended_stay(
    given: Setting, tmp_path: Path
) -> None:
    jobs = tmp_path / "jobs"
    ids = [await given.at(state) for state in sorted(JobState)]
    ended = await given.at(JobState.COMPLETED)
    for job_id in (*ids, ended):
        (jobs / str(job_id)).mkdir(parents=True)
    needs = JobSpec(work=CommandWork(argv=["cat", str(jobs / str(ended) / "1" / "best.pt")]))
    waiting = await given.at(JobState.HELD, needs)
    late = datetime.now(UTC) + 30 * DAY
    gone = await sweeper(given, jobs, 7).sweep(late)
    states = {(await given.ledger.job(job_id)).state for job_id in gone}
    assert states == {JobState.COMPLETED, JobState.FAILED, JobState.STOPPED} and ended not in gone
    await given.control.stop(waiting)
    assert await sweeper(given, jobs, 7).sweep(late) == [ended]
