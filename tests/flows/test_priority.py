"""priority and move: the order in which jobs start."""

from collections.abc import Sequence

import pytest

from broker.protocol.job import Job
from tests.flows.daemon import Client, Daemon


@pytest.fixture
async def queue(daemon: Daemon) -> "Sequence[Job]":
    """Five jobs that wait behind one that lasts, on a node that runs one at a time."""
    daemon.start({"WYOLO_NODES": '[{"slots": 1, "gpus": "none"}]'})
    async with daemon.client() as broker:
        await broker.lasting()
        return [await broker.submit("true") for _ in range(5)]


async def order(broker: Client) -> list[int]:
    return [job.id for job in await broker.jobs("state:waiting")]


async def test_jobs_wait_in_the_order_of_priority_then_place_then_arrival(daemon: Daemon, queue: Sequence[Job]) -> None:
    a, b, c, d, e = [job.id for job in queue]
    async with daemon.client() as broker:
        assert await order(broker) == [a, b, c, d, e]
        await broker.verb(d, "priority", priority="high")
        await broker.verb(a, "priority", priority="low")
        assert await order(broker) == [d, b, c, e, a]
        await broker.verb(e, "move", before=b)
        assert await order(broker) == [d, e, b, c, a]
        await broker.verb(e, "move", after=b)
        assert await order(broker) == [d, b, e, c, a]
        await broker.verb(c, "move", to="first")
        await broker.verb(b, "move", to="last")
        assert await order(broker) == [d, c, e, b, a]
        moved = await broker.verb(b, "move", before=d)
        assert moved.priority == "high", "beside another job it takes on that one's priority"
        assert await order(broker) == [b, d, c, e, a]
        await broker.verb(1, "kill")
        ended = [await broker.reaches(job_id) for job_id in (b, d, c, e, a)]
        assert sorted(ended, key=lambda job: str(job.started_at)) == ended, "they started in that order"


async def test_a_job_that_was_moved_to_its_own_place_stays_there(daemon: Daemon, queue: Sequence[Job]) -> None:
    a, b, *rest = [job.id for job in queue]
    async with daemon.client() as broker:
        await broker.verb(a, "move", to="first")
        await broker.verb(a, "move", before=b)
        await broker.verb(b, "move", after=a)
        await broker.verb(b, "move", before=b)
        await broker.verb(rest[-1], "move", to="last")
        assert await order(broker) == [a, b, *rest]


async def test_many_moves_into_one_gap_end_with_a_remedy_or_in_order(daemon: Daemon, queue: Sequence[Job]) -> None:
    a, b, c, *_ = [job.id for job in queue]
    async with daemon.client() as broker:
        for _ in range(80):
            for moved in (b, c):
                answer = await broker.http.post(f"/jobs/{moved}/move", json={"after": a})
                if answer.status_code == 409:
                    assert "move it to the front" in answer.json()["detail"]
                    return
                assert (await order(broker))[:2] == [a, moved]


async def test_a_move_without_one_clear_place_is_refused(daemon: Daemon, queue: Sequence[Job]) -> None:
    a, b, *_ = [job.id for job in queue]
    async with daemon.client() as broker:
        assert "not clear" in await broker.refused(a, "move", status=400)
        assert "not clear" in await broker.refused(a, "move", status=400, before=b, to="first")
        assert "does not wait" in await broker.refused(a, "move", before=1)
        assert "only a job that waits" in await broker.refused(1, "move", to="first")
        assert "expected 'high', 'normal' or 'low'" in await broker.refused(
            a, "priority", status=400, priority="urgent"
        )
