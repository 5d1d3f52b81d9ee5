"""What other programs put into `training_queue`: pure. A message that nobody could use is a Misfit, with the reason."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

LONGEST_MESSAGE = 1 << 20  # bytes of all names and values; a configuration is at most 256 KiB
MOST_FIELDS = 100
KEPT = 4096  # bytes of each field of a misfit that are kept beside the reason


@dataclass(frozen=True, slots=True)
class IntakeMessage:
    id: str  # the stream's message id: also the idempotency key
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Misfit:
    """`kept` is what goes to `training_queue:dead`: the fields, cut where they are too many or too long."""

    id: str
    kept: Sequence[tuple[bytes, bytes]]
    why: str


def decode(message_id: str, flat: Sequence[bytes]) -> IntakeMessage | Misfit:
    """`flat` is name, value, name, value ... as Redis gives it. A lone field `json` is read as the older messages."""
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    try:
        return IntakeMessage(message_id, _fields(pairs))
    except ValueError as error:
        return Misfit(message_id, [(name[:KEPT], value[:KEPT]) for name, value in pairs[:MOST_FIELDS]], str(error))


def _fields(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Raises ValueError."""
    if len(pairs) > MOST_FIELDS:
        raise ValueError(f"it has {len(pairs)} fields; at most {MOST_FIELDS} are read")
    if (size := sum(len(name) + len(value) for name, value in pairs)) > LONGEST_MESSAGE:
        raise ValueError(f"it has {size:,} bytes; at most {LONGEST_MESSAGE:,} are read")
    fields = {_text(name, "a field's name"): _text(value, _shown(name)) for name, value in pairs}
    return _from_json(fields["json"]) if set(fields) == {"json"} else fields


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} is not UTF-8 (byte {error.start}: 0x{raw[error.start]:02x})") from error


def _shown(name: bytes) -> str:
    return f"`{name[:40].decode(errors='replace')}`"


def _from_json(text: str) -> dict[str, str]:
    """An object's members as texts; those that are null are left out. Raises ValueError."""
    try:
        value: Any = json.loads(text)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("its JSON is no object with named members")  # noqa: TRY004 - the sender's value, not a type
    members = cast(dict[str, Any], value)
    return {
        _unicode(name, "a field's name"): _unicode(
            member if isinstance(member, str) else json.dumps(member), f"`{name}`"
        )
        for name, member in members.items()
        if member is not None
    }


def _unicode(text: str, what: str) -> str:
    """JSON can name half a character, which no file and no ledger can hold. Raises ValueError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is not Unicode (character {error.start + 1}: half of a surrogate pair)") from error
    return text
