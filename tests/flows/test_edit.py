"""edit: a job that waits can still be changed."""

import asyncio

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


async def test_another_configuration_leaves_name_owner_priority_and_task_id_alone(broker: Client) -> None:
    job = await broker.submit("echo", hold=True, name="keepme", user="ana", priority="high", task_id="tid-1")
    for body in ({"config": "command: echo after\n"}, {"spec": {"work": {"kind": "command", "argv": ["echo", "now"]}}}):
        answer = await broker.http.patch(f"/jobs/{job.id}", json=body, headers={"X-Wyolo-User": "bo"})
        assert answer.status_code == 200, answer.text
        edited = await broker.job(job.id)
        assert edited.spec is not None and isinstance(edited.spec.work, CommandWork)
        assert edited.spec.work.argv != ["echo"]
        for seen in (edited, edited.spec):
            assert (seen.name, seen.user, seen.priority, seen.task_id) == ("keepme", "ana", "high", "tid-1")
    config = "command: echo after\nname: other\nuser: bo\npriority: low\ntask_id: tid-2\n"
    assert (await broker.http.patch(f"/jobs/{job.id}", json={"config": config})).status_code == 200
    edited = await broker.job(job.id)
    assert (edited.name, edited.user, edited.priority, edited.task_id) == ("other", "bo", "low", "tid-2")


async def test_a_name_that_was_made_follows_the_work(broker: Client) -> None:
    job = await broker.submit("echo", "before", hold=True)
    await broker.http.patch(f"/jobs/{job.id}", json={"config": "command: echo after\n"})
    assert (await broker.job(job.id)).name == "echo after"
    await broker.http.patch(f"/jobs/{job.id}", json={"name": "mine"})
    await broker.http.patch(f"/jobs/{job.id}", json={"config": "command: echo later\n", "name": ""})
    assert (await broker.job(job.id)).name == "echo later"


async def test_a_priority_that_the_verb_gave_outlives_an_edit_of_the_name(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    await broker.verb(job.id, "priority", priority="high")
    assert (await broker.http.patch(f"/jobs/{job.id}", json={"name": "renamed"})).json()["priority"] == "high"
    edited = await broker.job(job.id)
    assert (edited.name, edited.priority) == ("renamed", "high")


async def test_of_two_edits_at_once_neither_is_lost(broker: Client) -> None:
    for _ in range(10):
        job = await broker.submit("true", hold=True)
        changes = [{"name": "renamed"}, {"set": {"resources.cpus": 2}}, {"set": {"env.COLOUR": "red"}}]
        answers = await asyncio.gather(*(broker.http.patch(f"/jobs/{job.id}", json=change) for change in changes))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        edited = await broker.job(job.id)
        assert edited.spec is not None and isinstance(edited.spec.work, CommandWork)
        assert (edited.name, edited.spec.resources.cpus, edited.spec.work.env) == ("renamed", 2, {"COLOUR": "red"})


async def test_warnings_are_those_of_the_configuration_as_it_is_now(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    await broker.http.patch(f"/jobs/{job.id}", json={"config": "command: echo a | cat\n"})
    [warning] = (await broker.job(job.id)).warnings
    assert "`|`" in warning
    await broker.http.patch(f"/jobs/{job.id}", json={"config": "command: echo a\n"})
    assert (await broker.job(job.id)).warnings == []
