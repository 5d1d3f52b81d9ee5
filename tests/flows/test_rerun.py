"""rerun: a new job with the same spec."""

from broker.protocol.states import JobState
from tests.flows.daemon import Client


async def test_a_rerun_is_a_new_job_that_knows_where_it_came_from(broker: Client) -> None:
    first = await broker.shell("exit 3", name="trial", task_id="t-1", priority="low", user="ana")
    await broker.reaches(first.id)
    again = await broker.verb(first.id, "rerun", expect=201)
    assert again.id != first.id
    assert (again.name, again.user, again.priority) == ("trial", "ana", "low")
    assert (again.parent_id, again.task_id) == (first.id, None)
    assert (await broker.reaches(again.id)).state is JobState.FAILED
    assert (await broker.job(first.id)).fence == 1


async def test_a_running_job_can_be_run_once_more_beside_itself(broker: Client) -> None:
    first = await broker.lasting()
    again = await broker.verb(first.id, "rerun", expect=201)
    await broker.says(again.id, "begun")
    assert (await broker.job(first.id)).state is JobState.RUNNING


async def test_a_repeated_rerun_with_the_same_key_is_one(broker: Client) -> None:
    first = await broker.submit("true")
    made = [
        (await broker.http.post(f"/jobs/{first.id}/rerun", headers={"Idempotency-Key": "again"})).json()["id"]
        for _ in range(3)
    ]
    assert len(set(made)) == 1
