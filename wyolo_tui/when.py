"""What people write for a length of time or a moment -> seconds, datetime. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_LENGTH = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?"
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class Pause:
    """How long a node is taken back. Neither: until it is resumed."""

    for_s: float | None = None
    until: datetime | None = None  # UTC

    def end(self, now: datetime) -> datetime | None:
        return self.until if self.for_s is None else now + timedelta(seconds=self.for_s)


class WhenError(ValueError):
    """What is wrong. `hint` says what would do."""

    def __init__(self, message: str, hint: str) -> None:
        self.hint = hint
        super().__init__(message)


def seconds(text: str) -> float:
    """'1h30m', '45m', '1.5h', '2d'. Raises WhenError; zero is no length."""
    match = _LENGTH.fullmatch(text.strip().lower().replace(" ", ""))
    parts = {} if match is None else {unit: float(n) for unit, n in match.groupdict().items() if n is not None}
    if not parts:
        raise WhenError(f"{text!r} is no length of time", "as in 1h30m, 45m or 2d")
    found = sum(number * _SECONDS[unit] for unit, number in parts.items())
    if found <= 0:
        raise WhenError(f"{text!r} is no time at all", "as in 1h30m, 45m or 2d")
    return found


def pause(text: str, now: datetime, zone: tzinfo | None = None) -> Pause:
    """A length, a moment, or nothing. Raises WhenError."""
    text = text.strip()
    if not text:
        return Pause()
    if ":" in text or "-" in text:
        return Pause(until=moment(text, now, zone))
    return Pause(for_s=seconds(text))


def moment(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """'17:00' of today, or an ISO 8601 time, which is of `zone` (None: the machine's) where it has none; in UTC.
    Raises WhenError; what has passed is no moment to come."""
    local = now.astimezone(zone)
    clock = _CLOCK.fullmatch(text.strip())
    try:
        if clock is not None:
            found = local.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        else:
            found = datetime.fromisoformat(text.strip())
            if found.tzinfo is None:
                found = found.astimezone() if zone is None else found.replace(tzinfo=zone)
    except ValueError:
        raise WhenError(f"{text!r} is no time", f"as in 17:00 or {local:%Y-%m-%d}T17:00") from None
    if found <= now:
        later = found + timedelta(days=max(1, (local.date() - found.astimezone(zone).date()).days + 1))
        raise WhenError(f"{text} has passed", f"for another day: {later:%Y-%m-%dT%H:%M}")
    return found.astimezone(UTC)
