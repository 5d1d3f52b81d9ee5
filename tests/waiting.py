"""Wait for a condition, never for time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
STEP_S = 0.01


async def until(probe: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """The first truthy value of `probe`; AssertionError naming `what` after `timeout` seconds."""

    async def ask() -> T:
        return probe()

    return await until_awaited(ask, timeout, what)


async def until_awaited(probe: Callable[[], Awaitable[T]], timeout: float = 20.0, what: str = "") -> T:
    """`until` for a probe that is awaited."""
    deadline = time.monotonic() + timeout
    while True:
        value = await probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or probe} did not come true in {timeout} s; last seen {value!r}")
        await asyncio.sleep(STEP_S)


def until_sync(probe: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """`until` without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or probe} did not come true in {timeout} s; last seen {value!r}")
        time.sleep(STEP_S)
