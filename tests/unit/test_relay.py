"""What Redis is told to forget is asked of the ledger once more: the word that it is stale may itself be old."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from broker.ledger.ledger import Ledger
from broker.queue import Lease, Queue
from broker.scheduler.relay import Relay
from tests.redis_fixtures import queue, redis
from tests.unit.ledgers import COMMAND, ended, opened, placed, submitted
from tests.waiting import until, until_awaited

__all__ = ["queue", "redis"]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with opened(tmp_path) as ledger:
        yield ledger


@pytest.fixture
async def relay(ledger: Ledger, queue: Queue) -> AsyncIterator[Relay]:
    relay = Relay(ledger, queue, held=list, changed=lambda _: None)
    running = asyncio.create_task(relay.run())
    await until(lambda: relay.redis == "ok", what="Redis to be filled")
    yield relay
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_one_that_waits_again_by_the_time_it_is_called_stale_keeps_its_place(
    relay: Relay, ledger: Ledger, queue: Queue
) -> None:
    waiting, gone = [await submitted(ledger, COMMAND) for _ in range(2)]

    async def order() -> list[int]:
        return await queue.head(10)

    async def left() -> bool:
        return gone not in await order()

    async def complete() -> bool:
        return await order() == [waiting, gone]

    relay.wake()
    await until_awaited(complete)
    await ended(ledger, (await placed(ledger, gone)).id)
    relay.stale([waiting, gone])
    await until_awaited(left, what="the one that ended to leave the order")
    assert await order() == [waiting]


async def test_only_who_waits_for_the_order_waits_for_redis(
    relay: Relay, ledger: Ledger, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await placed(ledger, await submitted(ledger, COMMAND))
    begun, goes_on, claim = asyncio.Event(), asyncio.Event(), queue.claim

    async def slow(claims: Sequence[Lease], ttl_s: float) -> None:
        begun.set()
        await goes_on.wait()
        await claim(claims, ttl_s)

    monkeypatch.setattr(queue, "claim", slow)
    relay.started((job.id, job.fence))
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(relay.caught_up(), 0.1)  # a pass of which the order is not asked
    relay.wake()
    told = asyncio.create_task(relay.caught_up())
    await asyncio.wait({told}, timeout=0.1)
    assert not told.done()
    goes_on.set()
    await asyncio.wait_for(told, 5)
