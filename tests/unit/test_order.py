"""The head of the queue as the scheduler remembers it: what changes while Redis is asked is not believed."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

from broker.protocol.job import Job
from broker.protocol.states import JobState
from broker.scheduler.order import Order
from tests.waiting import until


class Both:
    """Redis' order, and the ledger. `answers`: when Redis does."""

    def __init__(self, *ids: int) -> None:
        self.ids = list(ids)
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def head(self, count: int) -> Sequence[int]:
        self.asked += 1
        told = self.ids[:count]
        await self.answers.wait()
        return told

    async def specs(self, ids: Sequence[int]) -> Sequence[Job]:
        now = datetime(2026, 1, 1, tzinfo=UTC)
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
