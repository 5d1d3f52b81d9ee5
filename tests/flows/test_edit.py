"""edit: a job that waits can still be changed."""

from broker.protocol.job import CommandWork
from broker.protocol.states import JobState
from tests.flows.daemon import Client


async def test_an_edited_job_runs_as_it_says_now(broker: Client) -> None:
    job = await broker.submit("echo", "before", hold=True, name="mine", user="ana")
    answer = await broker.http.patch(f"/jobs/{job.id}", json={"set": {"argv": ["echo", "after"]}, "priority": "high"})
    assert answer.status_code == 200, answer.text
    edited = await broker.job(job.id)
    assert edited.spec is not None and isinstance(edited.spec.work, CommandWork)
    assert (edited.name, edited.user, edited.priority) == ("mine", "ana", "high")
    assert edited.spec.work.argv == ["echo", "after"]
    await broker.verb(job.id, "release")
    assert (await broker.reaches(job.id)).state is JobState.COMPLETED
    assert await broker.lines(job.id) == ["after"]


async def test_another_configuration_keeps_whose_job_it_is(broker: Client) -> None:
    job = await broker.submit("true", hold=True, name="mine", user="ana", task_id="t1")
    answer = await broker.http.patch(f"/jobs/{job.id}", json={"config": "argv: [echo, after]\ntask_id: t1\n"})
    assert answer.status_code == 200, answer.text
    edited = await broker.job(job.id)
    assert (edited.user, edited.task_id) == ("ana", "t1")


async def test_a_bad_edit_changes_nothing(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    answer = await broker.http.patch(f"/jobs/{job.id}", json={"set": {"resources.cpsu": 2}})
    assert answer.status_code == 422
    assert answer.json()["findings"][0]["hint"] == "did you mean `cpus`?"
    assert (await broker.job(job.id)).spec == job.spec


async def test_what_has_started_is_not_edited(broker: Client) -> None:
    job = await broker.submit("true")
    await broker.reaches(job.id)
    answer = await broker.http.patch(f"/jobs/{job.id}", json={"name": "other"})
    assert answer.status_code == 409
    assert "rerun it" in answer.json()["detail"]
