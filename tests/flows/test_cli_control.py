"""The verbs that change a job, each through the command line: what happens, what is said, what is refused."""

import json
from pathlib import Path

import pytest

from broker.protocol.api import Problem
from broker.protocol.job import Job
from broker.protocol.states import FINAL, JobState
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon


@pytest.fixture
def wyolo(shared_daemon: Daemon, tmp_path: Path) -> Wyolo:
    return Wyolo(shared_daemon.data_dir, tmp_path)


async def held(broker: Client, count: int, name: str | None = None) -> list[Job]:
    return [await broker.submit("true", hold=True, name=name) for _ in range(count)]


async def test_stop_then_resume_then_kill(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.lasting(name="lasting")
    done = await wyolo("stop", "lasting", "--grace", "3")
    assert f"{job.id} lasting: stop" in done.out and f"wyolo resume {job.id}" in done.out
    await broker.reaches(job.id, JobState.STOPPED)
    assert (await wyolo("resume", str(job.id), "--json")).job.state is JobState.QUEUED
    await broker.reaches(job.id, JobState.RUNNING)
    assert "lasting" in (await wyolo("kill", str(job.id))).out
    await broker.reaches(job.id, *FINAL)


async def test_release_lets_a_held_job_start_and_hold_keeps_a_queued_one(wyolo: Wyolo, broker: Client) -> None:
    job = (await held(broker, 1))[0]
    assert "queued" in (await wyolo("release", str(job.id))).out
    await broker.reaches(job.id, JobState.COMPLETED)
    refused = await wyolo("hold", str(job.id), expect=2)
    assert refused.err.startswith("error: ") and "nothing was changed" in refused.err


async def test_priority_and_move_change_the_order(wyolo: Wyolo, broker: Client) -> None:
    first, second, third = await held(broker, 3)
    assert f"{first.id} true: low" in (await wyolo("priority", str(first.id), "low")).out
    assert (await broker.job(first.id)).priority == "low"
    moved = (await wyolo("move", str(third.id), "--before", str(second.id), "--json")).job
    assert moved.rank < (await broker.job(second.id)).rank
    refused = await wyolo("move", str(third.id), "--first", "--last", expect=2)
    assert "--before JOB" in refused.err


async def test_preempt_puts_a_running_job_back_into_the_queue(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.lasting()
    assert "queued again" in (await wyolo("preempt", str(job.id))).out

    entries = await broker.verbs(job.id)
    assert "preempt" in entries


async def test_rerun_is_a_new_job_that_names_the_old(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.submit("true", name="once")
    await broker.reaches(job.id)
    again = (await wyolo("rerun", str(job.id), "--json")).job
    assert again.id != job.id and again.parent_id == job.id


async def test_rm_forgets_a_job_and_with_files_its_directory(
    wyolo: Wyolo, broker: Client, shared_daemon: Daemon
) -> None:
    kept, gone = await broker.submit("true"), await broker.submit("true")
    for job in (kept, gone):
        await broker.reaches(job.id)
    folders = [shared_daemon.data_dir / "jobs" / str(job.id) for job in (kept, gone)]
    assert "its files are kept" in (await wyolo("rm", str(kept.id))).out
    await wyolo("rm", str(gone.id), "--files")
    assert [folder.exists() for folder in folders] == [True, False]
    assert "there is no job" in (await wyolo("show", str(gone.id), expect=2)).err


async def test_edit_replaces_what_a_waiting_job_will_do(wyolo: Wyolo, broker: Client, tmp_path: Path) -> None:
    job = (await held(broker, 1))[0]
    (tmp_path / "other.yaml").write_text("command: [echo, other]\n")
    sample = Path(__file__).parents[2] / "sample_configs" / "command.yaml"
    done = await wyolo("edit", str(job.id), str(sample), "--name", "edited")
    assert f"{job.id} edited: held" in done.out
    assert (await broker.job(job.id)).name == "edited"


async def test_resolve_is_refused_for_a_job_that_is_known(wyolo: Wyolo, broker: Client) -> None:
    job = (await held(broker, 1))[0]
    problem = Problem.model_validate_json((await wyolo("resolve", str(job.id), "gone", "--json", expect=2)).out)
    assert problem.code == "conflict"


async def test_ranges_names_and_filters_mean_each_job_once(wyolo: Wyolo, broker: Client) -> None:
    jobs = await held(broker, 3, name="many")
    span = f"{jobs[0].id}-{jobs[2].id}"
    done = await wyolo("priority", span, str(jobs[1].id), "high", "--filter", "name:many state:held", "--json")
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == [job.id for job in jobs]
    ambiguous = await wyolo("hold", "many", expect=2)
    assert "several jobs" in ambiguous.err


async def test_more_than_three_are_stopped_only_when_asked_for(wyolo: Wyolo, broker: Client) -> None:
    jobs = await held(broker, 4, name="four")
    refused = await wyolo("stop", "--filter", "name:four state:held", expect=2)
    assert "4 jobs" in refused.err and "--yes" in refused.err
    assert {(await broker.job(job.id)).state for job in jobs} == {JobState.HELD}
    await wyolo("stop", "--filter", "name:four state:held", "--yes")
    assert {(await broker.job(job.id)).state for job in jobs} == {JobState.STOPPED}


async def test_what_can_be_done_is_done_though_one_cannot(wyolo: Wyolo, broker: Client) -> None:
    ended, waiting = await broker.submit("true"), (await held(broker, 1))[0]
    await broker.reaches(ended.id)
    done = await wyolo("release", str(ended.id), str(waiting.id), "--json", expect=2)
    first, second = done.out.splitlines()
    assert Problem.model_validate_json(first).code == "conflict"
    assert Job.model_validate_json(second).id == waiting.id


async def test_whoever_asked_is_in_the_history(wyolo: Wyolo, broker: Client) -> None:
    import getpass

    job = (await held(broker, 1))[0]
    await wyolo("stop", str(job.id))
    assert [entry.by for entry in await broker.events(job.id) if entry.verb == "stop"] == [getpass.getuser()]
