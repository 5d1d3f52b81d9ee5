"""The head of the queue as the scheduler remembers it: what changes while Redis is asked is not believed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from broker.protocol.job import Job
from broker.protocol.states import JobState
from broker.scheduler.order import AHEAD, Order
from tests.waiting import until


class Both:
    """Redis' order, and the ledger. `answers`: when Redis does."""

    def __init__(self, *ids: int) -> None:
        self.ids = list(ids)
        self.asked = 0
        self.read: list[int] = []  # of the ledger
        self.answers = asyncio.Event()
        self.answers.set()

    async def head(self, count: int) -> Sequence[int]:
        self.asked += 1
        told = self.ids[:count]
        await self.answers.wait()
        return told

    async def specs(self, ids: Sequence[int]) -> Sequence[Job]:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        self.read += ids
        return [Job(id=n, name="", kind="command", state=JobState.QUEUED, submitted_at=now) for n in ids]


def order_of(both: Both) -> Order:
    return Order(cast(Any, both), cast(Any, both), lambda _: None)


async def ids(order: Order, count: int = 10) -> list[int]:
    return [job.id for job in await order.first(count)]


async def test_redis_is_asked_once_for_as_long_as_nothing_changes() -> None:
    both = Both(1, 2, 3)
    order = order_of(both)
    assert await ids(order) == await ids(order) == [1, 2, 3]
    assert both.asked == 1
    order.take(1)
    assert await ids(order) == [2, 3]
    order.changed([])
    assert await ids(order) == [1, 2, 3]
    assert both.asked == 2


async def test_a_job_that_changes_while_redis_is_asked_is_left_for_the_next_time() -> None:
    both = Both(1, 2, 3)
    order = order_of(both)
    both.answers.clear()
    asking = asyncio.create_task(ids(order))
    await until(lambda: both.asked)
    order.changed([2])
    both.ids = [2, 1, 3]
    both.answers.set()
    assert await asking == [1, 3]
    assert await ids(order) == [2, 1, 3]


async def test_one_that_was_taken_is_not_offered_again_until_it_changes() -> None:
    both = Both(1, 2)
    order = order_of(both)
    assert await ids(order) == [1, 2]
    order.take(1)
    both.ids.append(3)
    order.changed([3])
    assert await ids(order) == [2, 3]  # Redis still has 1
    assert both.read == [1, 2, 3]
    order.changed([1])  # it could not be started
    assert await ids(order) == [1, 2, 3]


async def test_the_next_are_read_before_the_known_run_out() -> None:
    both = Both(*range(1, 1000))
    order = order_of(both)
    reading = asyncio.create_task(order.run())
    known = await ids(order, 10)
    while both.asked == 1:
        for job_id in known[:5]:
            order.take(job_id)
        both.answers.clear()  # nobody has to wait for Redis
        known = await asyncio.wait_for(ids(order, 10), 5)
        await asyncio.sleep(0)
    both.answers.set()
    taken = known[0] - 1
    assert known == list(range(taken + 1, taken + 11))
    order.take(known[0])
    await until(lambda: len(both.read) > taken + AHEAD)
    assert await ids(order, 3) == list(range(taken + 2, taken + 5))
    assert len(set(both.read)) == len(both.read)
    reading.cancel()
