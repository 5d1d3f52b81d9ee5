"""The bus: who follows sees every durable event in order, or is told to read again."""

import asyncio
from datetime import UTC, datetime

from broker.bus import Bus, Subscription
from broker.protocol.event import EpochDone, FollowerEvent, JobRemoved, Progressed, QueueChanged
from broker.protocol.states import JobState
from tests.waiting import until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def removed(seq: int) -> JobRemoved:
    return JobRemoved(seq=seq, at=NOW, job_id=seq)


def progress(job_id: int, epoch: int) -> Progressed:
    return Progressed(at=NOW, job_id=job_id, epoch=epoch, epochs=9, epoch_progress=0.5)


async def read_all(subscription: Subscription) -> list[FollowerEvent]:
    return [event async for event in subscription]


async def test_every_follower_sees_every_event_in_order():
    bus = Bus()
    followers = [asyncio.create_task(read_all(bus.subscribe())) for _ in range(3)]
    await asyncio.sleep(0)
    for seq in range(100):
        bus.publish(removed(seq))
    bus.close()
    for seen in await asyncio.gather(*followers):
        assert [event.seq for event in seen] == list(range(100))


async def test_a_follower_that_waits_is_woken():
    bus = Bus()
    seen: list[FollowerEvent] = []

    async def follow() -> None:
        seen.extend([event async for event in bus.subscribe()])

    task = asyncio.create_task(follow())
    await until(lambda: bus.listening)
    bus.publish(removed(1), removed(2))
    bus.close()
    await task
    assert [event.seq for event in seen] == [1, 2]


async def test_a_slow_follower_is_told_to_read_again_and_cut_off():
    bus = Bus()
    slow = bus.subscribe(capacity=3)
    quick = bus.subscribe(capacity=100)
    bus.publish(*(removed(seq) for seq in range(5)))
    assert [event.kind for event in await read_all(slow)] == ["resync"]
    bus.close()
    assert len(await read_all(quick)) == 5


async def test_of_progress_that_nobody_read_only_the_newest_is_kept():
    bus = Bus()
    follower = bus.subscribe(capacity=4)
    for epoch in range(1000):
        bus.publish(progress(1, epoch), progress(2, epoch), QueueChanged(at=NOW, counts={JobState.QUEUED: epoch}))
    bus.publish(EpochDone(seq=7, at=NOW, job_id=1, attempt=1, epoch=3, values={}))
    bus.close()
    seen = await read_all(follower)
    assert [event.kind for event in seen] == ["progress", "progress", "queue", "epoch"]
    assert [event.epoch for event in seen if isinstance(event, Progressed)] == [999, 999]


async def test_durable_events_are_never_coalesced():
    bus = Bus()
    follower = bus.subscribe()
    epochs = [EpochDone(seq=n, at=NOW, job_id=1, attempt=1, epoch=n, values={}) for n in range(1, 50)]
    bus.publish(*epochs)
    bus.close()
    assert await read_all(follower) == epochs


async def test_a_closed_subscription_ends_at_once_and_nobody_listens():
    bus = Bus()
    follower = bus.subscribe()
    bus.publish(removed(1))
    follower.close()
    assert await read_all(follower) == []
    assert not bus.listening
    bus.publish(removed(2))


async def test_who_comes_after_the_end_is_not_left_waiting():
    bus = Bus()
    bus.close()
    assert await read_all(bus.subscribe()) == []
