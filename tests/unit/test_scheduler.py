"""What starts, in which order and when, with a real ledger, Redis and processes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from broker.bus import Subscription
from broker.ledger.records import Change, NewJob
from broker.protocol.event import QueueChanged
from broker.protocol.job import Attempt, CommandWork, GpuRequest, Job, JobSpec, Resources
from broker.protocol.states import JobState, Priority
from broker.redis_server import RedisServer
from broker.scheduler import scheduler
from broker.scheduler.outlook import Outlook, Pace
from tests.brokerage import Broker, Start, start
from tests.redis_fixtures import Ask, ask, frozen, redis
from tests.waiting import until, until_awaited

__all__ = ["ask", "redis", "start"]


def spec(script: str, priority: Priority = Priority.NORMAL) -> JobSpec:
    return JobSpec(work=CommandWork(argv=["sh", "-c", script]), priority=priority)


async def blocked(start: Start, tmp_path: Path) -> tuple[Broker, Path]:
    """A broker whose one slot is taken until the file is there."""
    broker = await start(slots=1)
    blocker = await broker.shell(f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    await broker.reached(blocker, JobState.RUNNING)
    return broker, tmp_path / "go"


async def test_jobs_start_by_priority_then_in_order(start: Start, tmp_path: Path) -> None:
    broker, go = await blocked(start, tmp_path)
    order = tmp_path / "order"
    ids = [
        await broker.submit(spec(f"echo {name} >> {order}", priority))
        for name, priority in [
            ("low", Priority.LOW),
            ("first", Priority.NORMAL),
            ("second", Priority.NORMAL),
            ("high", Priority.HIGH),
        ]
    ]
    go.touch()
    for job_id in ids:
        await broker.ended(job_id)
    assert order.read_text().split() == ["high", "first", "second", "low"]


async def test_no_more_jobs_run_than_there_are_slots(start: Start, tmp_path: Path) -> None:
    broker = await start(slots=2)
    script = f"ls {tmp_path}/on | wc -l >> {tmp_path}/seen; touch {tmp_path}/on/$$; sleep 0.05; rm {tmp_path}/on/$$"
    (tmp_path / "on").mkdir()
    ids = [await broker.shell(script) for _ in range(10)]
    for job_id in ids:
        assert (await broker.ended(job_id)).state is JobState.COMPLETED
    assert max(map(int, (tmp_path / "seen").read_text().split())) <= 1


async def test_each_job_has_its_own_gpu(start: Start) -> None:
    broker = await start(slots=4, gpus=["GPU-a", "GPU-b"])
    script = "echo gpu=$CUDA_VISIBLE_DEVICES.; sleep 60"
    first, second, third = [await broker.shell(script) for _ in range(3)]
    on_cpu = await broker.command("sh", "-c", script, gpu=GpuRequest(count=0))
    await broker.says(first, "gpu=GPU-a.")
    await broker.says(second, "gpu=GPU-b.")
    await broker.says(on_cpu, "gpu=.")
    why = f"waits for a GPU: local has 2, both busy (jobs {first}, {second})"
    await until(lambda: broker.scheduler.waits_for(third) == why, what=why)
    assert (await broker.ledger.job(third)).state is JobState.QUEUED


async def test_a_held_job_does_not_start_until_it_is_released(start: Start) -> None:
    broker = await start()
    [held] = await broker.ledger.submit([NewJob(spec("true"), JobState.HELD)])
    await broker.ended(await broker.shell("true"))
    assert (await broker.ledger.job(held.id)).state is JobState.HELD
    await broker.ledger.advance(Change(held.id, "release", to=JobState.QUEUED))
    broker.scheduler.wake()
    await broker.ended(held.id)


async def test_followers_hear_how_many_wait_and_why(start: Start, tmp_path: Path) -> None:
    broker, _ = await blocked(start, tmp_path)
    followed = broker.bus.subscribe()
    job_id = await broker.shell("true")
    assert await broker.scheduler.forecast(spec("true")) == "after 1 waiting job"
    told = await _told(followed)
    assert told.waits == {job_id: "waits for a slot: local runs 1 of 1 (job 1)"}
    now = await broker.scheduler.outlook()
    assert (now.counts, now.waits) == (told.counts, told.waits)


async def _told(followed: Subscription) -> QueueChanged:
    """The first that tells of a waiting job, and why it waits: it may be counted before it was looked at."""
    async with asyncio.timeout(10):
        async for event in followed:
            if isinstance(event, QueueChanged) and event.counts[JobState.QUEUED] == 1 and event.waits:
                return event
    raise AssertionError("the bus was closed")


async def test_a_forecast_names_the_node_and_gpu(start: Start) -> None:
    broker = await start(gpus=["GPU-a"])

    async def forecast() -> str:
        told = await broker.scheduler.forecast(spec("true"))
        return told if "now" in told else ""

    assert await until_awaited(forecast) == "now on local:GPU 0"
    large = JobSpec(work=CommandWork(argv=["true"]), resources=Resources(cpus=1000))
    assert await broker.scheduler.forecast(large) == "needs 1000 cores, local has 64"


async def test_redis_killed_starts_nothing_then_everything(start: Start, redis: RedisServer) -> None:
    broker = await start()
    await broker.ended(await broker.shell("true"))
    os.kill(redis.pid, signal.SIGKILL)
    await until(lambda: broker.scheduler.redis == "down")
    job_id = await broker.shell("echo once")
    assert (await broker.ledger.job(job_id)).state is JobState.QUEUED
    await redis.start()
    job = await broker.ended(job_id)
    assert (job.state, job.fence) == (JobState.COMPLETED, 1)


async def test_redis_flushed_is_filled_again(start: Start, tmp_path: Path, ask: Ask) -> None:
    broker, go = await blocked(start, tmp_path)
    ids = [await broker.shell("true") for _ in range(20)]
    await until_awaited(lambda: _waiting(broker, 20))
    await ask("FLUSHALL")
    await until_awaited(lambda: _waiting(broker, 20), what="the queue filled again")
    go.touch()
    for job_id in ids:
        job = await broker.ended(job_id)
        assert (job.state, job.fence) == (JobState.COMPLETED, 1)


async def _waiting(broker: Broker, count: int) -> bool:
    return await broker.queue.length() == count


async def test_redis_frozen_lets_running_jobs_end(start: Start, tmp_path: Path, redis: RedisServer) -> None:
    broker, go = await blocked(start, tmp_path)
    with frozen(redis.pid):
        job_id = await broker.shell("true")
        go.touch()
        await broker.ended(1)
        assert (await broker.ledger.job(job_id)).state is JobState.QUEUED
    await broker.ended(job_id)


async def test_a_start_that_breaks_after_it_was_written_down_is_taken_up(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await start()
    really = broker.supervisor.start

    def breaks_once(job: Job, attempt: Attempt) -> None:
        monkeypatch.setattr(broker.supervisor, "start", really)
        raise RuntimeError("broke on the way")

    monkeypatch.setattr(broker.supervisor, "start", breaks_once)
    job = await broker.ended(await broker.shell("true"))
    assert job.state is JobState.COMPLETED
    assert "broke on the way" in caplog.text


async def test_a_stale_word_of_redis_starts_nothing_twice(start: Start, ask: Ask) -> None:
    broker = await start()
    job_id = await broker.shell("echo once")
    await broker.ended(job_id)
    await broker.queue.put([(job_id, Priority.HIGH, 0.0), (999, Priority.HIGH, 0.0)])
    broker.scheduler.wake()
    await until_awaited(lambda: _waiting(broker, 0))
    assert len(await broker.ledger.attempts(job_id)) == 1
    assert await ask("DBSIZE")


async def test_each_end_is_one_entry_of_the_results(start: Start, ask: Ask) -> None:
    broker = await start()
    ids = [await broker.shell("true"), await broker.shell("exit 2")]
    for job_id in ids:
        await broker.ended(job_id)
    entries = await until_awaited(lambda: _results(ask, 2))
    assert sorted((entry["job_id"], entry["state"]) for entry in entries) == [("1", "completed"), ("2", "failed")]


async def _results(ask: Ask, count: int) -> list[dict[str, str]]:
    found = [
        dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in await ask("XRANGE", "results_queue", "-", "+")
    ]
    return found if len(found) >= count else []


async def test_a_lease_is_held_while_a_job_runs(start: Start, tmp_path: Path, ask: Ask) -> None:
    broker, go = await blocked(start, tmp_path)
    lease = f"wyolo:{broker.ledger.broker_id}:lease:1"

    async def held() -> bool:
        return await ask("GET", lease) == "1"

    await until_awaited(held)
    go.touch()
    await broker.ended(1)

    async def gone() -> bool:
        return await ask("GET", lease) is None

    await until_awaited(gone)


async def test_many_interrupted_jobs_do_not_block_the_queue(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "WINDOW", 1)
    broker = await start(slots=2, backoff_s=600)
    dying = [await broker.shell("kill -9 $$") for _ in range(5)]
    for job_id in dying:
        await until_awaited(lambda job_id=job_id: _waits_its_time(broker, job_id))
    await broker.ended(await broker.shell("true"))
    broker.scheduler.wake()
    await until(lambda: "tried again at" in broker.scheduler.waits_for(dying[0]))


async def _waits_its_time(broker: Broker, job_id: int) -> bool:
    return (await broker.ledger.job(job_id)).not_before is not None


def test_the_queue_is_empty_when_work_divided_by_slots_is_done() -> None:
    pace = Pace()
    assert pace.drain_s([None], [], 0, 2) is None
    assert pace.drain_s([10.0, 4.0], [], 0, 2) == 10.0
    pace.command(6.0)
    pace.command(6.0)
    assert pace.command_s == 6.0


def test_when_the_queue_is_empty_is_unknown_while_a_command_runs_longer_than_those_before_it() -> None:
    pace = Pace()
    assert pace.command_left_s(0.0) is None
    pace.command(6.0)
    assert (pace.command_left_s(0.0), pace.command_left_s(6.0), pace.command_left_s(6.1)) == (6.0, 0.0, None)
    assert pace.drain_s([pace.command_left_s(3600.0)], [], 0, 1) is None


async def test_followers_hear_that_an_estimate_has_not_come_true(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outlook, "INTERVAL_S", 0.01)
    monkeypatch.setattr(Outlook, "AGAIN_S", 0.05)
    broker = await start(slots=1)
    began = monotonic()
    await broker.ended(await broker.shell("sleep 0.5"))
    followed = broker.bus.subscribe()
    await broker.shell(f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    async with asyncio.timeout(10):
        told = [event.drain_s async for event in _until_unknown(followed)]
    assert told[0] is not None and 0 < told[0] < monotonic() - began and told[-1] is None


async def _until_unknown(followed: Subscription) -> AsyncIterator[QueueChanged]:
    """What is told of a queue that has an end, and then has none that is known."""
    known = False
    async for event in followed:
        if isinstance(event, QueueChanged) and (known or event.drain_s is not None):
            known = True
            yield event
            if event.drain_s is None:
                return
