"""A broker without its API dies at each named instant: the next one brings the job to its one end, run once."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from broker.crashpoint import INSTANTS, Instant
from broker.protocol.states import JobState
from broker.redis_server import RedisServer
from tests.brokerage import Start, start
from tests.redis_fixtures import redis

__all__ = ["redis", "start"]

pytestmark = pytest.mark.faults

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.brokerage import Broker

async def main(directory, url, script):
    async with Broker(Path(directory), url) as broker:
        await broker.ended(await broker.shell(script))
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""
HERE = [instant for instant in INSTANTS if instant != "after-submit-commit"]  # that one lies in the API's verbs


@pytest.mark.parametrize("instant", HERE)
async def test_a_broker_killed_at_any_instant_loses_and_repeats_nothing(
    instant: Instant, start: Start, redis: RedisServer, tmp_path: Path
) -> None:
    ran, go = tmp_path / "ran", tmp_path / "go"
    if "final" in instant:
        go.touch()
    script = f"echo ran >> {ran}; while [ ! -e {go} ]; do sleep 0.01; done"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(tmp_path / "data"), redis.url, script),
        env={**os.environ, "WYOLO_CRASH_AT": instant},
    )
    assert await asyncio.wait_for(child.wait(), 30) == -signal.SIGKILL
    broker = await start()
    go.touch()
    job = await broker.ended(1)
    assert job.state is JobState.COMPLETED
    assert ran.read_text() == "ran\n"
    assert job.infra_deaths == 0
    assert (await broker.engine.inventory()).alive == ()


async def test_fifty_running_jobs_are_all_adopted(start: Start) -> None:
    broker = await start(slots=50)
    ids = [await broker.command("sleep", "60", cpus=0.1) for _ in range(50)]
    for job_id in ids:
        await broker.reached(job_id, JobState.RUNNING)
    await start(slots=50)
    broker = await start(slots=50)
    assert broker.adopted == 50
