"""The way to Redis. Whatever goes wrong is a QueueDown that says what and what to do; the next call connects anew.

Nothing is retried here: only the caller knows what may be done twice.
"""

import asyncio
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from broker.errors import BadInput
from broker.protocol.api import ErrorCode, Finding
from broker.redis_words import ANSWER_S, Command, Reply, Script

if TYPE_CHECKING:
    from broker.redis_driver import Driver


class Link:
    """A few connections to one Redis. Raises BadInput when `url` is none: unix://, redis:// or rediss://."""

    def __init__(self, url: str, name: str, scripts: Sequence[Script] = (), connections: int = 8) -> None:
        self._url = url
        self._where = _without_secrets(url)
        self._name = name
        self._scripts = scripts
        self._connections = connections
        self._driver: Driver | None = None
        try:
            _check(url)
        except ValueError as error:
            finding = Finding(
                where="redis_url",
                message=f"{self._where} does not name a Redis: {error}",
                hint="unix:///path/redis.sock or redis://:password@host:6379/0",
            )
            raise BadInput([finding], ErrorCode.BAD_CONFIG) from None

    async def run(self, what: str, *commands: Command, atomic: bool = False, within_s: float = ANSWER_S) -> list[Reply]:
        """The replies of all commands, sent together; `atomic`: as MULTI. Raises QueueDown, Refused for the first
        that Redis refused (the others have been done, unless it refused the MULTI as a whole)."""
        driver = self._driver or await self._loaded()
        return await driver.run(what, *commands, atomic=atomic, within_s=within_s)

    async def one(self, what: str, command: Command) -> Reply:
        return (await self.run(what, command))[0]

    async def close(self) -> None:
        if self._driver is not None:
            await self._driver.close()

    async def _loaded(self) -> "Driver":
        """In a thread: meanwhile the broker answers."""
        await asyncio.to_thread(importlib.import_module, "broker.redis_driver")
        from broker.redis_driver import Driver

        if self._driver is None:
            self._driver = Driver(
                self._url, self._where, name=self._name, scripts=self._scripts, connections=self._connections
            )
        return self._driver


def _check(url: str) -> None:
    """Raises ValueError, without the url's password."""
    parts = urlsplit(url)
    if parts.scheme not in {"unix", "redis", "rediss"}:
        raise ValueError("it begins with none of unix://, redis:// and rediss://")
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("it has no path")
        return
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("its port is none") from None
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ValueError("after the port stands the number of a database")


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
        place = parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}{parts.path}"
    except ValueError:
        return "that url"
    return place if parts.scheme else "that url"
