"""hold keeps a waiting job from starting, release lets it."""

from broker.protocol.states import JobState
from tests.flows.daemon import Client


async def test_a_held_job_waits_until_it_is_released(broker: Client) -> None:
    held = await broker.submit("true", hold=True)
    other = await broker.submit("true")
    await broker.reaches(other.id)
    seen = await broker.job(held.id)
    assert (seen.state, seen.waits_for) == (JobState.HELD, f"`wyolo release {held.id}` releases it")
    assert (await broker.verb(held.id, "release")).state is JobState.QUEUED
    assert (await broker.reaches(held.id)).state is JobState.COMPLETED


async def test_a_queued_job_can_be_held_back(broker: Client) -> None:
    running = [await broker.lasting() for _ in range(4)]
    waiting = await broker.submit("true")
    assert (await broker.verb(waiting.id, "hold")).state is JobState.HELD
    for job in running:
        await broker.verb(job.id, "kill")
        await broker.reaches(job.id)
    last = await broker.submit("true")
    await broker.reaches(last.id)
    assert (await broker.job(waiting.id)).state is JobState.HELD


async def test_holding_and_releasing_twice_changes_nothing_more(broker: Client) -> None:
    for _ in range(4):
        await broker.lasting()
    job = await broker.submit("true", hold=True)
    assert (await broker.verb(job.id, "hold")).state is JobState.HELD
    await broker.verb(job.id, "release")
    assert (await broker.verb(job.id, "release")).state is JobState.QUEUED
    assert (await broker.verbs(job.id)).count("release") == 1


async def test_what_runs_or_has_ended_is_not_held(broker: Client) -> None:
    job = await broker.lasting()
    assert "stop it, and resume it later" in await broker.refused(job.id, "hold")
    assert "not held" in await broker.refused(job.id, "release")
    await broker.verb(job.id, "kill")
    await broker.reaches(job.id)
    assert "it has ended" in await broker.refused(job.id, "hold")
    assert "resume it" in await broker.refused(job.id, "release")
