"""What a cockpit is opened with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from wyolo_tui.keymap import config_dir


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Options:
    unicode: bool = True
    theme: str | None = None
    notice: str = ""  # said once, at the start
    address: str = ""  # of the broker, shown until it answers
    door: Mapping[str, str] = field(default_factory=dict[str, str])  # what tells `wyolo` of this broker
    now: Callable[[], datetime] = _now
    zone: tzinfo | None = None  # None: the machine's
    settle_s: float = 0.12  # a cursor that rests this long on a job has its log and curves read ...
    roam_s: float = 0.3  # ... one that has just come from another job this long: somebody is looking through the list
    check_s: float = 0.35  # a text to submit that is unchanged for this long is checked
    config_dir: Path = field(default_factory=config_dir)
