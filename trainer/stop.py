"""SIGTERM means "checkpoint and leave": the first one raises Stopped out of whatever runs.

Another changes nothing: a broker that was started again repeats it, while the last checkpoint is still being written.
Only a person who presses Ctrl-C twice at a terminal means "at once". Nothing that must not be left half done is
interrupted: it holds the signal back and lets it through at its end.
"""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

EXIT_AT_ONCE = 128 + signal.SIGINT
ECHO_S = 1.0  # a signal to the group and one to the process are the same wish


class Stopped(BaseException):
    """Not an Exception: Ultralytics catches those around data sets and downloads."""


class Stop:
    """One for each process, made in its main thread."""

    def __init__(self) -> None:
        self.requested = False
        self.why = ""  # where nobody asked from outside
        self._interrupted_at = 0.0  # by a terminal
        self._held = 0
        self._pid = os.getpid()

    def listen(self) -> None:
        """SIGTERM and SIGINT from now on. Main thread only."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a data loading worker that was forked from here: its parent decides
        if number == signal.SIGINT:
            at = time.monotonic()
            if self._interrupted_at and at - self._interrupted_at > ECHO_S:
                os._exit(EXIT_AT_ONCE)
            self._interrupted_at = self._interrupted_at or at
        if self.requested:
            return
        self.requested = True
        # Workers that got the signal too die of it, and torch would raise that as an error of its own.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.check()

    def check(self) -> None:
        """Raises Stopped where a stop was asked for and nothing holds it back."""
        if self.requested and self._held == 0:
            raise Stopped

    def hold(self) -> None:
        self._held += 1

    def release(self) -> None:
        """The other end of `hold`. Raises Stopped if it was asked for meanwhile."""
        self._held -= 1
        self.check()

    @contextmanager
    def held(self) -> Generator[None]:
        """Holds the signal back in the main thread; other threads are never interrupted by it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()
