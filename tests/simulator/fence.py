"""What a trainer does about its lease (trainer/lease.py), in virtual time."""

from collections.abc import Callable
from pathlib import Path

from broker.protocol.training import LEASE_OVER
from tests.simulator.loop import VirtualLoop

_LOOKS = 20  # in the time of a lease
_SAVE_FROM = 2 / 3


class Fence:
    """`granted` is called once its broker has been heard of, `leave` when it is to save and go, `end` by the kernel."""

    def __init__(
        self,
        loop: VirtualLoop,
        path: Path,
        seconds: float,
        *,
        granted: Callable[[], None],
        leave: Callable[[], None],
        end: Callable[[], None],
    ) -> None:
        self._loop, self._path, self._seconds = loop, path, seconds
        self._step_s = seconds / _LOOKS
        self._granted, self._leave, self._end = granted, leave, end
        self._heard = False
        self._leaves = False
        self._known: str = ""
        self._known = self._read()
        self._alarm = loop.call_later(seconds - self._step_s, end)
        self._changed_at = loop.time()
        self._next = loop.call_later(self._step_s, self._look)

    def lift(self) -> None:
        """Its process has ended."""
        self._alarm.cancel()
        self._next.cancel()

    def _look(self) -> None:
        self._next = self._loop.call_later(self._step_s, self._look)
        if self._leaves:
            return
        said = self._read()
        silent_s = self._loop.time() - self._changed_at
        if said.startswith(LEASE_OVER) or (said == self._known and silent_s >= self._seconds * _SAVE_FROM):
            self._leaves = True
            self._leave()
        elif said != self._known:
            self._known, self._changed_at = said, self._loop.time()
            self._alarm.cancel()
            self._alarm = self._loop.call_later(self._seconds - self._step_s, self._end)
            if not self._heard:
                self._heard = True
                self._granted()

    def _read(self) -> str:
        """What it knew where it cannot be read."""
        try:
            return self._path.read_text()
        except OSError:
            return self._known
