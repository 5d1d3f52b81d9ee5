"""resume: a job that ended goes on as the same job; what cannot go on says what to do instead."""

from broker.protocol.states import JobState
from tests.flows.daemon import Client


async def test_a_stopped_command_runs_again_as_a_new_attempt(broker: Client) -> None:
    job = await broker.lasting()
    await broker.verb(job.id, "stop")
    await broker.reaches(job.id, JobState.STOPPED)
    resumed = await broker.verb(job.id, "resume")
    assert "from the start" in resumed.message
    await broker.reaches(job.id, JobState.RUNNING)
    attempts = (await broker.http.get(f"/jobs/{job.id}/attempts")).json()
    assert [attempt["fence"] for attempt in attempts] == [1, 2]


async def test_a_job_that_was_stopped_before_it_started_goes_back_into_the_queue(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    await broker.verb(job.id, "stop")
    await broker.verb(job.id, "resume")
    assert (await broker.reaches(job.id)).state is JobState.COMPLETED


async def test_what_cannot_be_resumed_says_what_to_do(broker: Client) -> None:
    done = await broker.submit("true")
    await broker.reaches(done.id)
    assert "rerun it" in await broker.refused(done.id, "resume")
    held = await broker.submit("true", hold=True)
    assert "release it" in await broker.refused(held.id, "resume")
    running = await broker.lasting()
    assert "goes on by itself" in await broker.refused(running.id, "resume")
    failed = await broker.submit("false")
    await broker.reaches(failed.id)
    assert "no epochs" in await broker.refused(failed.id, "resume", epochs=5)
