"""Which jobs that ended are told each by itself, and which together: in a rush toasts would fill the screen. Pure."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.protocol.states import JobState

if TYPE_CHECKING:
    from broker.protocol.job import Job

MOST = 3  # toasts of ended jobs
WITHIN_S = 4.0  # this time


class Rush:
    def __init__(self) -> None:
        self._told_at: deque[float] = deque(maxlen=MOST)  # seconds, of the newest
        self._untold: list[Job] = []

    def single(self, ended: "Sequence[Job]", now: float) -> "list[Job]":
        """Those of `ended` that are told each by itself. The others wait for `together`."""
        singles: list[Job] = []
        for job in ended:
            if self._untold or not self._room(now):
                self._untold.append(job)
            else:
                self._told_at.append(now)
                singles.append(job)
        return singles

    def together(self, now: float) -> tuple[str, bool] | None:
        """What is said of those that waited, once it is time, and whether any of them failed."""
        if not self._untold or not self._room(now):
            return None
        failed = sum(job.state is JobState.FAILED for job in self._untold)
        more = f"{len(self._untold)} more job{'s' if len(self._untold) > 1 else ''} ended"
        self._untold.clear()
        self._told_at.extend([now] * MOST)  # while it goes on, this alone
        return (f"{more}, {failed} of them failed" if failed else more), failed > 0

    def _room(self, now: float) -> bool:
        return len(self._told_at) < MOST or now - self._told_at[0] >= WITHIN_S
