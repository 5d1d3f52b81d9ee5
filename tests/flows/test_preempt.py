"""preempt: a running job makes way and starts again later, last of its priority."""

from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon


async def test_a_preempted_job_lets_the_one_behind_it_run_first(daemon: Daemon) -> None:
    daemon.start({"WYOLO_NODES": '[{"slots": 1, "gpus": "none"}]'})
    async with daemon.client() as broker:
        first = await broker.lasting()
        second = await broker.submit("true")
        await broker.verb(first.id, "preempt")
        assert (await broker.reaches(second.id)).state is JobState.COMPLETED
        again = await broker.reaches(first.id, JobState.RUNNING)
        assert (again.fence, again.intent) == (2, None)


async def test_only_what_runs_is_preempted(broker: Client) -> None:
    held = await broker.submit("true", hold=True)
    assert "only a running job" in await broker.refused(held.id, "preempt")
    done = await broker.submit("true")
    await broker.reaches(done.id)
    assert "only a running job" in await broker.refused(done.id, "preempt")
