"""What comes in a flood, told together: the first at once, then no oftener than once in a tick."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Together(Generic[Item]):
    """`tell` is given what has come since it was told last, never nothing."""

    def __init__(self, tick_s: float, tell: Callable[[list[Item]], object]) -> None:
        self._tick_s = tick_s
        self._tell = tell
        self._pending: list[Item] = []
        self._timer: asyncio.TimerHandle | None = None
        self._told = 0.0

    def add(self, item: Item) -> None:
        self._pending.append(item)
        if self._timer is None:
            wait_s = max(0.0, self._told + self._tick_s - monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.tell)

    def tell(self) -> None:
        """Now, not with the tick."""
        self.drop_timer()
        self._told = monotonic()
        if self._pending:
            pending, self._pending = self._pending, []
            self._tell(pending)

    def drop_timer(self) -> None:
        """What has come waits for the next, or for `tell`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
