"""kill -9 of the broker and of its Redis, anywhere: every job ends exactly once, with every line."""

import asyncio
import os
import random

import httpx
import pytest

from tests.faults.oracle import ended_well, everyone
from tests.faults.scene import LONG_S, Scene, ended
from tests.waiting import until, until_awaited

pytestmark = pytest.mark.faults

LINES = 12
STORM_S = 3600.0  # on a slow machine a broker may hardly get to start a job between two deaths


class Storm:
    """Submits jobs until the last kill, about 20 of them alive at a time, and kills by its seed."""

    def __init__(self, scene: Scene, seed: int, alive: int = 20) -> None:
        self._scene = scene
        self._random = random.Random(seed)
        self._alive = alive
        self._over = asyncio.Event()
        self.jobs: dict[str, int] = {}  # acknowledged, by name

    async def blow(self, kills: int, most_jobs: int) -> None:
        self._scene.daemon.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit(most_jobs))
            tasks.create_task(self._kill(kills))
        if not self._scene.daemon.alive:
            self._scene.daemon.start()

    async def _submit(self, most: int) -> None:
        number = 0
        while number < most and not self._over.is_set():
            number += 1
            name = f"storm-{number}"
            await until_awaited(lambda name=name: self._acknowledged(name), LONG_S, f"an answer for {name}")
            await until(lambda: self._living() < self._alive or self._over.is_set(), STORM_S, "jobs that end")

    async def _acknowledged(self, name: str) -> bool:
        """Whoever gets no answer asks again with the same key."""
        scene = self._scene
        if not scene.daemon.url:
            return False
        try:
            async with scene.daemon.client() as client:
                body = {"spec": {"work": {"kind": "command", "argv": scene.lines(name, LINES, 0.01)}, "name": name}}
                answer = await client.http.post("/jobs", json=body, headers={"Idempotency-Key": name})
        except httpx.TransportError:
            return False
        assert answer.status_code in {200, 201}, answer.text
        self.jobs[name] = answer.json()["id"]
        return True

    def _living(self) -> int:
        ended = sum(any(entry.what == "end" for entry in self._scene.diary(name)) for name in self.jobs)
        return len(self.jobs) - ended

    async def _kill(self, kills: int) -> None:
        for _ in range(kills):
            await asyncio.sleep(self._random.uniform(0, 0.8))  # the instant of the fault
            if self._random.random() < 0.4:
                self._scene.kill_redis()
                continue
            self._scene.daemon.kill()
            if self._random.random() < 0.3:  # and once more while it starts
                self._scene.daemon.launch()
                await asyncio.sleep(self._random.uniform(0, 0.8))
                self._scene.daemon.kill()
            self._scene.daemon.start()
        self._over.set()


async def _after(storm: Storm, scene: Scene) -> None:
    async with scene.daemon.client() as client:
        for job_id in storm.jobs.values():
            await ended(client, job_id)
        assert len(await everyone(client)) == len(set(storm.jobs.values())) == len(storm.jobs)
        await ended_well(client, scene.diaries, storm.jobs.values())


@pytest.mark.parametrize("seed", [1])
async def test_twenty_jobs_each_end_once_with_every_line_under_random_kills(scene: Scene, seed: int) -> None:
    print(f"seed {seed}")
    storm = Storm(scene, seed)
    await storm.blow(kills=8, most_jobs=20)
    await _after(storm, scene)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_a_thousand_kills(scene: Scene) -> None:
    """WYOLO_KILLS and WYOLO_SEED say how many, and which."""
    seed = int(os.environ.get("WYOLO_SEED", "0")) or random.randrange(1, 1 << 32)
    kills = int(os.environ.get("WYOLO_KILLS", "1000"))
    print(f"seed {seed}: WYOLO_SEED={seed} repeats it")
    storm = Storm(scene, seed)
    await storm.blow(kills, most_jobs=1_000_000)
    print(f"{kills} kills, {len(storm.jobs)} jobs")
    await _after(storm, scene)
