"""The embedded Redis, kept going. While it cannot be started the broker is degraded: it takes jobs and starts none."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Self

from broker.errors import QueueDown
from broker.redis_server import RedisServer

AGAIN_S = 2.0  # before a start that failed is tried again

_log = logging.getLogger(__name__)


class OwnRedis:
    """`async with`: entering does not wait for it, leaving ends it."""

    def __init__(self, directory: Path) -> None:
        self._server = RedisServer(directory)
        self._task: asyncio.Task[None] | None = None
        self.url = self._server.url
        self.tried = asyncio.Event()  # it answers, or its first start failed

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name="redis")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._server.stop()

    async def _keep(self) -> None:
        while True:
            try:
                await self._server.start()
            except QueueDown as error:
                _log.warning("%s", error)
                self.tried.set()
                await asyncio.sleep(AGAIN_S)
            else:
                self.tried.set()
                await self._server.watch()
