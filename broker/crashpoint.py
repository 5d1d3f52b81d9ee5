"""Named instants at which the broker can be told to die, so that a test can prove each safe: WYOLO_CRASH_AT=<name>."""

import os
import signal
from typing import Literal, get_args

Instant = Literal[
    "after-submit-commit",  # the job is durable, its submitter has no answer yet
    "before-xadd",  # the outbox says enqueue, Redis does not know
    "after-starting-commit",  # STARTING(fence) is durable, nothing runs
    "after-claim",  # Redis has the lease
    "after-spawn",  # the process runs, RUNNING is not durable
    "after-running",  # RUNNING is durable
    "before-final-commit",  # the process has ended, nobody wrote it down
    "after-final-commit",  # the end is durable, the lease and the outbox remain
]
INSTANTS: tuple[Instant, ...] = get_args(Instant)

_chosen = os.environ.get("WYOLO_CRASH_AT", "")


def crash_here(name: Instant) -> None:
    """SIGKILL to ourselves if this instant was chosen when the broker started."""
    if _chosen == name:
        os.kill(os.getpid(), signal.SIGKILL)
