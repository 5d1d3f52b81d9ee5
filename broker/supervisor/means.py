"""What every run of a supervisor works with."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from broker.bus import Bus
from broker.engines.base import Engine
from broker.ledger.ledger import Ledger
from broker.settings import Settings
from broker.supervisor.mirror import Mirror
from broker.supervisor.work import TrainerArgv


@dataclass(frozen=True, slots=True)
class Means:
    ledger: Ledger
    mirror: Mirror
    bus: Bus
    settings: Settings
    trainer: TrainerArgv
    engines: Mapping[str, Engine]
    clock: Callable[[], datetime]  # UTC
    spawn: Callable[[Coroutine[Any, Any, None], str], None]  # a task that somebody owns, by name
    told: Callable[[], None]  # a run has something new to say of what it does before it starts
    room: Callable[[], None]  # an attempt holds nothing of its node any more, and its end was given to the ledger
