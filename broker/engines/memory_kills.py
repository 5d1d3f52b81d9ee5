"""How often the kernel has killed for lack of memory, and whether an attempt that was killed may be one of these.

The kernel only counts. What it counted while an attempt ran, and in the last half minute of that, is taken for the
attempt's own end: several may have been killed at once, so nobody uses a kill up.
"""

import time
from collections import deque
from collections.abc import Callable

_FRESH_S = 1.0  # a look costs as much as a hundredth of a job
LATE_S = 30.0  # that may pass between a kill and the moment when the attempt's end is seen


class MemoryKills:
    def __init__(self, count: Callable[[], int]) -> None:
        """`count`: since boot."""
        self._count = count
        self._looks = deque[tuple[float, int]]()  # when, and how many; the first is the newest that is LATE_S old
        self.look()

    def look(self) -> int:
        """To be called now and then, so that it is known what happened lately."""
        now, count = time.monotonic(), self._count()
        self._looks.append((now, count))
        while len(self._looks) > 1 and self._looks[1][0] <= now - LATE_S:
            self._looks.popleft()
        return count

    def lately(self) -> int:
        """As `look`, at most a second old."""
        at, count = self._looks[-1]
        return count if time.monotonic() - at < _FRESH_S else self.look()

    def since(self, before: int) -> bool:
        """An attempt that began when there had been so many has just been found killed: was it for lack of memory?"""
        count = self.look()
        at, known = self._looks[0]
        if at <= time.monotonic() - LATE_S:
            before = max(before, known)
        return count > before
