"""A daemon's containers of ours, looked at again and again: who follows one that has stopped is told, and what nobody
will ask about is removed."""

import asyncio
import json
import logging
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from broker.engines.base import AttemptRef
from broker.engines.docker_attempt import DockerAttempt
from broker.engines.docker_errors import Refused
from broker.engines.docker_link import Link
from broker.engines.docker_remains import Remains
from broker.errors import EngineError, EngineUnreachable

RECONCILE_S = 5.0  # between two looks at all of our containers: the truth
WAKE_S = 1.0  # between an event that wakes us and the look: a log that ends by itself is faster
EVENTS_AGAIN_S = (1.0, 15.0)  # first and longest pause before the daemon's events are listened to again
RUNS = frozenset({"running", "paused", "restarting"})
_log = logging.getLogger(__name__)


class Watch:
    """`attempts`: those that are followed. `starting`: those whose containers are being made. Both are its owner's."""

    def __init__(
        self,
        link: Link,
        remains: Remains,
        attempts: dict[AttemptRef, DockerAttempt],
        starting: Collection[AttemptRef],
    ) -> None:
        self._link = link
        self._remains = remains
        self._attempts = attempts
        self._starting = starting
        self._tasks: list[asyncio.Task[None]] = []
        self._look = asyncio.Event()

    def begin(self) -> None:
        """Again and again is once."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._reconcile(), name=f"reconcile {self._link.node}"),
                asyncio.create_task(self._heed_events(), name=f"events {self._link.node}"),
            ]

    async def end(self) -> None:
        """Those that are followed are out of sight."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._lose_all(None)

    def unasked(self, ended: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
        """Those that are not removed here, for somebody may ask about them. Blocking."""
        return tuple(ref for ref in ended if not self._is_busy(ref) and not self._remains.is_past(ref))

    async def _reconcile(self) -> None:
        while True:
            self._look.clear()
            try:
                found = await self._remains.containers()
            except EngineUnreachable as error:
                await self._lose_all(error)
            else:
                for ref, attempt in list(self._attempts.items()):
                    if ref not in found or found[ref]["State"] not in RUNS:
                        attempt.has_stopped()
                await self._reap(found)
            try:
                async with asyncio.timeout(RECONCILE_S):
                    await self._look.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(WAKE_S)

    async def _heed_events(self) -> None:
        """They only wake us earlier."""
        filters = {"type": ["container"], "event": ["die"], "label": [self._remains.label]}
        pause = EVENTS_AGAIN_S[0]
        while True:
            try:
                async with self._link.stream("events", {"filters": json.dumps(filters)}) as content:
                    pause = EVENTS_AGAIN_S[0]
                    async for _ in content:
                        self._look.set()
            except (EngineError, Refused) as error:
                _log.debug("events of %s: %s", self._link.node, error)
            self._link.doubt()
            self._look.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, EVENTS_AGAIN_S[1])

    async def _reap(self, found: Mapping[AttemptRef, Mapping[str, Any]]) -> None:
        for ref, each in found.items():
            if each["State"] not in RUNS and await self._may_go(ref):
                await self._remains.remove(ref, each["Id"])
        if self._remains.in_volumes:
            for ref in await self._remains.volumes():
                if ref not in found and await self._may_go(ref):
                    await self._remains.forget(ref)

    async def _may_go(self, ref: AttemptRef) -> bool:
        return not self._is_busy(ref) and await asyncio.to_thread(self._remains.is_past, ref)

    def _is_busy(self, ref: AttemptRef) -> bool:
        return ref in self._attempts or ref in self._starting

    async def _lose_all(self, why: EngineUnreachable | None) -> None:
        attempts = list(self._attempts.values())
        self._attempts.clear()
        for attempt in attempts:
            await attempt.lose(why)
