"""An event loop in virtual time and one thread: the same seed gives the same run, and an hour takes a moment.

Nothing is ever waited for: when nothing is ready, the clock jumps to the next timer. What the broker would do in a
thread is done in the loop, after a latency drawn from the seed.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
_BEGINNING = datetime(2026, 1, 1, 12, tzinfo=UTC)
_TICK_S = 1e-6  # keeps things apart that must happen in order


class Stalled(AssertionError):
    """Nothing is ready and no timer is set."""


class _NoSelector(selectors.SelectSelector):
    """Instead of waiting for files, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at_turn: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[Any]:
        self.at_turn()
        if timeout is None:
            raise Stalled("nothing is ready and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`steady`: no latency anywhere."""

    def __init__(self, seed: int, steady: bool = False) -> None:
        self._clock = _NoSelector()
        super().__init__(self._clock)
        self.random = Random(seed)
        self.steady = steady
        self.set_task_factory(None)

    def time(self) -> float:
        return self._clock.now

    def utc(self) -> datetime:
        return _BEGINNING + timedelta(seconds=self._clock.now)

    # --- latency ---

    def latency(self, slow: bool = True) -> float:
        """Seconds that something takes: mostly nearly nothing, seldom long. `slow`: it goes through a network."""
        if self.steady:
            return 0.0
        luck = self.random.random()
        if luck < 0.55:
            return 0.0
        if luck < 0.95 or not slow:
            return self.random.random() * 0.02
        return self.random.random() * (1.0 if luck < 0.99 else 14.0)

    # --- driving ---

    def step(self) -> None:
        """One iteration: everything that is ready now, or the next timer."""
        self._clock.at_turn = self.stop
        try:
            self.run_forever()
        finally:
            self._clock.at_turn = _nothing

    def pass_time(self, seconds: float) -> None:
        self.run_until_complete(asyncio.sleep(seconds))

    # --- no threads ---

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Done at one moment, answered at a later one, as a thread would."""
        answer: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                value = func(*args)
            except Exception as error:
                self.call_later(self.latency(slow=False), _settle, answer, None, error)
            else:
                self.call_later(self.latency(slow=False), _settle, answer, value, None)

        self.call_later(self.latency(slow=False), work)
        return answer


class InOrder:
    """Callbacks after a latency each, never one before those that were given earlier."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._last = 0.0

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        self._last = max(self._last + _TICK_S, self._loop.time() + self._loop.latency(slow=False))
        self._loop.call_at(self._last, callback, *args)


class Bell(Awaitable[None]):
    """`await bell` until it is rung next. Whoever waits may be gone by then."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def __await__(self) -> Generator[Any, None, None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        yield from future

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def _nothing() -> None:
    return


def _settle(future: "asyncio.Future[T]", value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
