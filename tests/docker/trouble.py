"""What can befall sandboxes and the broker over them, each by chance, and healed again."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from dind import sandboxes
from dind.engine import silent
from dind.errors import SandboxError
from dind.spec import NETWORK
from tests.docker.fleet import Fleet
from tests.faults.scene import Scene
from tests.waiting import until_awaited

T = TypeVar("T")
HEALED_S = 90.0
SHORT_S, LONG_S = (0.2, 2.0), (11.0, 13.0)  # cuts: less and more than the fleet's patience with a node


class Trouble:
    """By one seed the same faults are drawn in the same order. `done` says which, for whoever reads a failure."""

    def __init__(self, fleet: Fleet, scene: Scene, seed: int) -> None:
        self._fleet = fleet
        self._scene = scene
        self._chance = [random.Random(seed), random.Random(seed + 1)]
        self.done: list[str] = []

    async def of_sandboxes(self, times: int) -> None:
        chance = self._chance[0]
        for fate in _drawn([self._kill, self._remove, self._cut, self._cut_long], times, chance):
            await asyncio.sleep(chance.uniform(0.2, 1.5))  # the instant of the fault
            name = chance.choice(list(self._fleet.names))
            self.done.append(f"{fate.__name__} {name}")
            await fate(name)

    async def of_the_broker(self, times: int) -> None:
        chance = self._chance[1]
        for fate in _drawn([self._kill_broker, self._kill_redis, self._flush, self._kill_broker], times, chance):
            await asyncio.sleep(chance.uniform(0.5, 3))
            self.done.append(fate.__name__)
            await fate()

    async def heal(self) -> None:
        """Every sandbox is up, as it was."""
        for name in self._fleet.names:
            await until_awaited(lambda name=name: self._is_up(name), HEALED_S, f"{name} to be up again")

    async def _kill(self, name: str) -> None:
        """kill -9 of its dockerd, with which everything in it ends; the host starts it again."""
        with suppress(AssertionError, ProcessLookupError):  # it was down already
            os.kill(self._fleet.host.inspect(f"dind_{name}")["State"]["Pid"], signal.SIGKILL)

    async def _remove(self, name: str) -> None:
        await asyncio.to_thread(self._fleet.host.docker, "rm", "-f", f"dind_{name}")
        await asyncio.sleep(self._chance[0].uniform(0, 2))
        await until_awaited(lambda: self._is_up(name), HEALED_S, f"{name} to be up again")

    async def _cut(self, name: str) -> None:
        await self._apart(name, self._chance[0].uniform(*SHORT_S))

    async def _cut_long(self, name: str) -> None:
        await self._apart(name, self._chance[0].uniform(*LONG_S))

    async def _apart(self, name: str, seconds: float) -> None:
        host = self._fleet.host
        await asyncio.to_thread(host.docker, "network", "disconnect", "-f", NETWORK, f"dind_{name}")
        await asyncio.sleep(seconds)
        await asyncio.to_thread(host.docker, "network", "connect", NETWORK, f"dind_{name}")

    async def _kill_broker(self) -> None:
        self._scene.daemon.kill()
        await asyncio.sleep(self._chance[1].uniform(0, 1))
        self._scene.daemon.start()

    async def _kill_redis(self) -> None:
        self._scene.daemon.kill_redis()

    async def _flush(self) -> None:
        with suppress(OSError, AssertionError):  # it was away anyway
            async with self._scene.redis() as ask:
                await ask("FLUSHALL")

    async def _is_up(self, name: str) -> bool:
        fleet = self._fleet
        sandbox = fleet.home.sandbox(name)
        with suppress(SandboxError):
            await sandboxes.up(fleet.engine, fleet.home, [sandbox], silent)
            return (await sandboxes.inspect(fleet.engine, fleet.home, sandbox)).state == "healthy"
        return False


def _drawn(fates: Sequence[T], times: int, chance: random.Random) -> Iterator[T]:
    """Each of them, before any comes again."""
    while times > 0:
        yield from chance.sample(fates, len(fates))[:times]
        times -= len(fates)
