"""Jobs are submitted, a number of them alive at a time, while faults happen by a seed."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx

from tests.faults.scene import LONG_S
from tests.flows.daemon import Daemon
from tests.waiting import until, until_awaited

STORM_S = 3600.0  # on a slow machine a broker may hardly get to start a job between two deaths
Gust = Callable[[], Awaitable[None]]  # faults, one after the other, until it has had enough


class Storm:
    """`spec`: of the job of this name. `has_ended`: whether it has come to its end, as it says itself."""

    def __init__(
        self,
        daemon: Daemon,
        spec: Callable[[str], Mapping[str, Any]],
        has_ended: Callable[[str], bool],
        alive: int = 20,
    ) -> None:
        self._daemon = daemon
        self._spec = spec
        self._has_ended = has_ended
        self._alive = alive
        self._over = asyncio.Event()
        self.jobs: dict[str, int] = {}  # acknowledged, by name

    async def blow(self, gusts: Sequence[Gust], jobs: int | None = None) -> None:
        """Until all of `gusts` are over. `jobs`: so many are submitted, None: as many as can be until then. The broker
        runs before and after."""
        self._daemon.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit(jobs))
            await asyncio.gather(*(gust() for gust in gusts))
            self._over.set()
        if not self._daemon.alive:
            self._daemon.start()

    async def _submit(self, jobs: int | None) -> None:
        for number in itertools.count(1) if jobs is None else range(1, jobs + 1):
            if jobs is None and self._over.is_set():
                return
            name = f"storm-{number}"
            await until_awaited(lambda name=name: self._acknowledged(name), LONG_S, f"an answer for {name}")
            await until(lambda: self._living() < self._alive or self._over.is_set(), STORM_S, "jobs that end")

    async def _acknowledged(self, name: str) -> bool:
        """Whoever gets no answer asks again with the same key."""
        if not self._daemon.url:
            return False
        try:
            async with self._daemon.client() as client:
                body = {"spec": {**self._spec(name), "name": name}}
                answer = await client.http.post("/jobs", json=body, headers={"Idempotency-Key": name})
        except httpx.TransportError:
            return False
        assert answer.status_code in {200, 201}, answer.text
        self.jobs[name] = answer.json()["id"]
        return True

    def _living(self) -> int:
        return sum(not self._has_ended(name) for name in self.jobs)
