"""Old garbage is looked for while nobody types: with thousands of jobs a look takes longer than a key may."""

import gc
from time import monotonic

PAUSE_S = 1.5  # without a key
AGAIN_S = 20.0  # between two looks
LONGEST_S = 300.0  # for somebody who never pauses
_NEVER = 1_000_000_000


class Collector:
    def __init__(self) -> None:
        self._usual = gc.get_threshold()
        self._typed_at = self._looked_at = monotonic()

    def start(self) -> None:
        """Young objects are looked through as ever, all of them only by `look`."""
        young, middle, _ = self._usual
        gc.set_threshold(young, middle, _NEVER)

    def stop(self) -> None:
        gc.set_threshold(*self._usual)

    def keep(self) -> None:
        """What there is now stays: it need not be looked through again."""
        gc.collect()
        gc.freeze()

    def typed(self) -> None:
        self._typed_at = monotonic()

    def look(self) -> None:
        """Called now and then."""
        now = monotonic()
        since = now - self._looked_at
        if since > LONGEST_S or (since > AGAIN_S and now - self._typed_at > PAUSE_S):
            gc.collect()
            self._looked_at = monotonic()
