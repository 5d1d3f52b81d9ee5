"""Redis dies, forgets, stands still or has no disk: submissions are answered all the same, and everything goes on."""

import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from broker.protocol.states import JobState
from tests.faults.disk import full, small_disk
from tests.faults.oracle import ended_well
from tests.faults.scene import LONG_S, Scene, ended, healthy
from tests.flows.daemon import Client
from tests.redis_fixtures import frozen
from tests.waiting import until, until_awaited

pytestmark = pytest.mark.faults

Fault = Callable[[Scene, Client], AbstractAsyncContextManager[None]]


async def degraded(client: Client) -> None:
    async def there() -> bool:
        return (await client.http.get("/health")).json()["redis"] != "ok"

    await until_awaited(there, LONG_S, "a broker that says that Redis is away")


@asynccontextmanager
async def killed(scene: Scene, client: Client) -> AsyncGenerator[None]:
    old = scene.daemon.redis_pid
    assert scene.daemon.kill_redis()
    yield
    await until(lambda: scene.daemon.redis_pid not in (0, old), LONG_S, "a new Redis")


@asynccontextmanager
async def flushed(scene: Scene, client: Client) -> AsyncGenerator[None]:
    async with scene.redis() as ask:
        await ask("FLUSHALL")
        yield

        async def filled() -> bool:
            return any(key.endswith(":generation") for key in await ask("KEYS", "wyolo:*"))

        await until_awaited(filled, LONG_S, "a Redis that was filled again")


@asynccontextmanager
async def killed_without_its_file(scene: Scene, client: Client) -> AsyncGenerator[None]:
    old = scene.daemon.redis_pid
    with frozen(old):
        for found in scene.redis_directory.glob("appendonly*"):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
        assert scene.daemon.kill_redis()
    yield
    await until(lambda: scene.daemon.redis_pid not in (0, old), LONG_S, "a new Redis")


@asynccontextmanager
async def standing_still(scene: Scene, client: Client) -> AsyncGenerator[None]:
    with frozen(scene.daemon.redis_pid):
        await degraded(client)
        yield


@asynccontextmanager
async def without_disk(scene: Scene, client: Client) -> AsyncGenerator[None]:
    with full(scene.redis_directory):
        await until_awaited(lambda: _noticed(client), LONG_S, "a Redis that cannot write")
        yield


async def _noticed(client: Client) -> bool:
    """Redis writes down each job that waits, in what was left of a page of its file."""
    await client.verb((await client.submit("true", name="x" * 100, priority="low")).id, "stop")
    return (await client.http.get("/health")).json()["redis"] != "ok"


@pytest.mark.parametrize("fault", [killed, flushed, killed_without_its_file, standing_still])
async def test_jobs_wait_keep_their_order_and_go_on(scene: Scene, fault: Fault) -> None:
    await _hurt(scene, fault)


async def test_a_full_disk_of_redis_stalls_and_loses_nothing(scene: Scene) -> None:
    scene.daemon.data_dir.mkdir()
    with small_disk(scene.redis_directory, 4), scene.nothing_left():
        await _hurt(scene, without_disk)
        assert scene.daemon.stop() == 0
        scene.daemon.start()  # from what it wrote around the full disk
        async with scene.daemon.client() as client:
            assert len(await client.jobs("state:completed")) == 5
        assert scene.daemon.stop() == 0


async def test_a_part_of_the_order_that_redis_lost_is_noticed_and_filled_again(scene: Scene) -> None:
    gate = scene.folder / "gate"
    scene.daemon.start(env={"WYOLO_NODES": '[{"slots": 1, "cpus": 64, "gpus": "none"}]'})
    async with scene.daemon.client() as client:
        jobs = [await client.submit(*scene.lines("first", 1, gate=gate), name="first")]
        await scene.noted("first", "said", 1)
        order = ("low", "normal", "high")
        jobs += [await client.submit(*scene.lines(each, 1), name=each, priority=each) for each in order]
        async with scene.redis() as ask:

            async def lengths() -> list[int]:
                [prefix] = [key.removesuffix("generation") for key in await ask("KEYS", "wyolo:*:generation")]
                return [await ask("ZCARD", f"{prefix}ready:{each}") for each in order]

            async def all_there() -> bool:
                return await lengths() == [1, 1, 1]

            await until_awaited(all_there, LONG_S, "three jobs in order")
            await ask("DEL", *[key for key in await ask("KEYS", "wyolo:*:ready:normal")])
            assert await lengths() == [1, 0, 1]
            await until_awaited(all_there, LONG_S, "what was lost in order again")
        gate.touch()
        for job in jobs:
            await ended(client, job.id)
        await ended_well(client, scene.diaries, [job.id for job in jobs])


async def _hurt(scene: Scene, fault: Fault) -> None:
    """One job runs and two wait; two are submitted while Redis is hurt."""
    gate = scene.folder / "gate"
    scene.daemon.start(env={"WYOLO_NODES": '[{"slots": 1, "cpus": 64, "gpus": "none"}]'})
    async with scene.daemon.client() as client:
        jobs = [await client.submit(*scene.lines("first", 5, gate=gate), name="first")]
        await scene.noted("first", "said", 5)
        for name, priority in (("low", "low"), ("normal", "normal")):
            jobs.append(await client.submit(*scene.lines(name, 5), name=name, priority=priority))
        async with fault(scene, client):
            for name, priority in (("later", "normal"), ("high", "high")):
                jobs.append(await client.submit(*scene.lines(name, 5), name=name, priority=priority))
            assert (await client.job(jobs[0].id)).state is JobState.RUNNING
        await until_awaited(lambda: healthy(client), LONG_S, "a Redis in order")
        gate.touch()
        for job in jobs:
            await ended(client, job.id)
        await ended_well(client, scene.diaries, [job.id for job in jobs])
        starts = {job.name: scene.diary(job.name)[0].at for job in jobs}
        assert sorted(starts, key=lambda name: starts[name]) == ["first", "high", "normal", "later", "low"]
