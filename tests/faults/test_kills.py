"""kill -9 of the broker and of its Redis, anywhere: every job ends exactly once, with every line."""

import asyncio
import os
import random
from typing import Any

import pytest

from tests.faults.oracle import ended_well, everyone
from tests.faults.scene import Scene, ended
from tests.faults.storm import Storm

pytestmark = pytest.mark.faults

LINES = 12


def storm_over(scene: Scene) -> Storm:
    def spec(name: str) -> dict[str, Any]:
        return {"work": {"kind": "command", "argv": scene.lines(name, LINES, 0.01)}}

    return Storm(scene.daemon, spec, lambda name: any(entry.what == "end" for entry in scene.diary(name)))


async def kill(scene: Scene, times: int, seed: int) -> None:
    """The broker, or its Redis."""
    chance = random.Random(seed)
    for _ in range(times):
        await asyncio.sleep(chance.uniform(0, 0.8))  # the instant of the fault
        if chance.random() < 0.4:
            scene.daemon.kill_redis()
            continue
        scene.daemon.kill()
        if chance.random() < 0.3:  # and once more while it starts
            scene.daemon.launch()
            await asyncio.sleep(chance.uniform(0, 0.8))
            scene.daemon.kill()
        scene.daemon.start()


async def _after(storm: Storm, scene: Scene) -> None:
    async with scene.daemon.client() as client:
        for job_id in storm.jobs.values():
            await ended(client, job_id)
        assert len(await everyone(client)) == len(set(storm.jobs.values())) == len(storm.jobs)
        await ended_well(client, scene.diaries, storm.jobs.values(), needed="one run")


@pytest.mark.parametrize("seed", [1])
async def test_twenty_jobs_each_end_once_with_every_line_under_random_kills(scene: Scene, seed: int) -> None:
    print(f"seed {seed}")
    storm = storm_over(scene)
    await storm.blow([lambda: kill(scene, 8, seed)], jobs=20)
    await _after(storm, scene)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_thousand_kills(scene: Scene) -> None:
    """WYOLO_KILLS and WYOLO_SEED say how many, and which."""
    seed = int(os.environ.get("WYOLO_SEED", "0")) or random.randrange(1, 1 << 32)
    kills = int(os.environ.get("WYOLO_KILLS", "1000"))
    print(f"seed {seed}: WYOLO_SEED={seed} repeats it")
    storm = storm_over(scene)
    await storm.blow([lambda: kill(scene, kills, seed)])
    print(f"{kills} kills, {len(storm.jobs)} jobs")
    await _after(storm, scene)
