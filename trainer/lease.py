"""Self-fencing: a training that hears nothing of its broker for too long leaves, so that it can go on elsewhere.

While the broker has contact with this node it changes a file (`WYOLO_LEASE`). Two thirds of the lease without a change:
the training saves and leaves, as when it is told to stop. At its end the kernel ends the process, whatever hangs in it.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from broker.protocol.training import EXIT_STOPPED, LEASE_ENV, LEASE_OVER, LEASE_S_ENV
from trainer.stop import Stop

_LOOKS = 20  # at the file, in the time of a lease
_LONGEST_LOOK_S = 1.0  # between two of them
_SAVE_FROM = 2 / 3  # of the lease


class Lease:
    """What counts is that the file changes, by a clock of this machine that also counts while the machine sleeps."""

    def __init__(self, path: Path, seconds: float, stop: Stop) -> None:
        self._path = path
        self._seconds = seconds
        self._stop = stop
        self._step_s = min(_LONGEST_LOOK_S, seconds / _LOOKS)
        self._known = self._read()
        self._changed_at = _now()
        self._granted = threading.Event()

    @classmethod
    def of(cls, environment: Mapping[str, str], stop: Stop) -> "Lease | None":
        """None where nobody asks for it. Raises ValueError."""
        if not (path := environment.get(LEASE_ENV)):
            return None
        return cls(Path(path), float(environment[LEASE_S_ENV]), stop)

    def watch(self) -> None:
        """From now on. Main thread only."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._arm()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def await_contact(self) -> None:
        """Before anything is trained the broker must have been heard of: this process may have been started long after
        it was asked for. Returns too when a stop was asked for."""
        while not self._granted.wait(self._step_s) and not self._stop.requested:
            pass

    def _watch(self) -> None:
        while True:
            time.sleep(self._step_s)
            silent_s = _now() - self._changed_at
            if silent_s >= self._seconds:  # this machine slept
                os._exit(EXIT_STOPPED)
            said = self._read()
            if said is not None and said.startswith(LEASE_OVER.encode()):
                self._leave("the broker has given this attempt up")
            elif said not in {None, self._known}:
                self._known, self._changed_at = said, _now()
                if not self._stop.why:
                    self._arm()
                self._granted.set()
            elif silent_s >= self._seconds * _SAVE_FROM:
                self._leave(f"nothing was heard of the broker for {silent_s:.0f} s")

    def _leave(self, why: str) -> None:
        """Once; the alarm stays set."""
        if not self._stop.requested and not self._stop.why:
            self._stop.why = why
            os.kill(os.getpid(), signal.SIGTERM)

    def _arm(self) -> None:
        """The kernel's own timer: it needs neither this interpreter nor its lock."""
        signal.setitimer(signal.ITIMER_REAL, self._seconds - self._step_s)

    def _read(self) -> bytes | None:
        """None where it cannot be read: nothing was heard."""
        try:
            return self._path.read_bytes()
        except OSError:
            return None


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
