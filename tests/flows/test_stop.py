"""stop: a job that waits leaves the queue, one that runs is asked to leave, one that is gone stays as it is."""

import asyncio

from broker.protocol.states import EndReason, JobState
from tests.flows.daemon import Client


async def test_a_waiting_job_is_stopped_at_once_and_never_starts(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    stopped = await broker.verb(job.id, "stop")
    assert (stopped.state, stopped.reason, stopped.fence) == (JobState.STOPPED, EndReason.USER_STOP, 0)
    assert await broker.verbs(job.id) == ["submit", "stop"]


async def test_a_running_job_is_asked_to_leave_and_may_tidy_up(broker: Client) -> None:
    job = await broker.shell("trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    await broker.says(job.id, "ready")
    asked = await broker.verb(job.id, "stop")
    assert asked.state is JobState.STOPPED or asked.intent == "stop"
    done = await broker.reaches(job.id)
    assert (done.state, done.reason, done.intent) == (JobState.STOPPED, EndReason.USER_STOP, None)
    assert (await broker.lines(job.id))[-1] == "tidied"


async def test_a_job_that_does_not_leave_is_killed_after_its_grace(broker: Client) -> None:
    job = await broker.shell("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    await broker.says(job.id, "ready")
    await broker.verb(job.id, "stop", grace_s=0.2)
    assert (await broker.reaches(job.id, timeout=4)).state is JobState.STOPPED


async def test_stopping_twice_is_stopping_once(broker: Client) -> None:
    job = await broker.lasting()
    await asyncio.gather(*(broker.verb(job.id, "stop") for _ in range(5)))
    await broker.reaches(job.id, JobState.STOPPED)
    assert (await broker.verbs(job.id)).count("stop") == 1
    again = await broker.verb(job.id, "stop")
    assert again.state is JobState.STOPPED


async def test_a_job_that_has_ended_stays_as_it_ended(broker: Client) -> None:
    job = await broker.submit("true")
    await broker.reaches(job.id)
    assert (await broker.verb(job.id, "stop")).state is JobState.COMPLETED


async def test_stop_right_after_submit_leaves_nothing_running(broker: Client) -> None:
    jobs = [await broker.shell("while :; do sleep 0.02; done") for _ in range(6)]
    await asyncio.gather(*(broker.verb(job.id, "stop") for job in jobs))
    for job in jobs:
        assert (await broker.reaches(job.id)).state is JobState.STOPPED


async def test_there_is_no_stopping_a_job_that_is_not_there(broker: Client) -> None:
    assert "no job 999999" in await broker.refused(999_999, "stop", status=404)
