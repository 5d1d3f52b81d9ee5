"""What a trainer says, line by line: a log text, an event, or both. Pure.

An event is one JSON object after ASCII RS (RFC 7464). Log text without its newline may stand before it on the line, as
programs that write to one file leave it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from broker.engines.base import RawLine
from broker.protocol.text import harmless
from broker.protocol.training import RECORD_SEPARATOR, TRAINER_EVENT, TrainerEvent

_RS = RECORD_SEPARATOR.encode()
_SHOWN = 200  # characters of an event that cannot be read


@dataclass(frozen=True, slots=True)
class Heard:
    text: bytes | None  # log, as it came
    event: TrainerEvent | None = None
    malformed: bool = False  # it was to be an event; `text` shows it


def hear(line: RawLine) -> Heard:
    before, mark, record = line.data.partition(_RS)
    if not mark:
        return Heard(line.data)
    text = before.rstrip() or None
    event = None if line.cut else parse(record)
    if event is not None:
        return Heard(text, event)
    length = len(record) + line.cut
    shown = f"[event that cannot be read, {length} bytes] {harmless(record.decode(errors='replace'), _SHOWN)}"
    return Heard((text + b" " if text else b"") + shown.encode(), malformed=True)


def parse(record: bytes) -> TrainerEvent | None:
    """None when it is not an event: of another version, cut short, or not meant as one."""
    try:
        return TRAINER_EVENT.validate_json(record)
    except ValidationError:
        return None


def between(events: bytes, after: int, before: int | None = None) -> Iterator[TrainerEvent]:
    """From the text of `events.jsonl`, the events with numbers after < n < before (None: to the end), in order, each
    once. A last line that is being written is left out."""
    newest = after
    for event in _from(events, _place(events, after)):
        if before is not None and event.n >= before:
            return
        if newest < event.n:
            newest = event.n
            yield event


def first(events: bytes) -> int | None:
    """The number of the first whole event of such a text, of which a half line may be the beginning."""
    return next((event.n for event in _from(events, 0)), None)


def _from(events: bytes, start: int) -> Iterator[TrainerEvent]:
    while start < len(events):
        end = _line_end(events, start)
        if (event := parse(events[start:end].lstrip(_RS))) is not None:
            yield event
        start = end + 1


def _place(events: bytes, after: int) -> int:
    """Where a line begins, before which there is no event with a number > after: they lie in order. The text may be
    long, and what is wanted of it is mostly its end."""
    low, high = 0, len(events)
    while low < high:
        start = events.rfind(b"\n", low, (low + high) // 2) + 1 or low
        found, at = None, start
        while found is None and at < high:
            end = _line_end(events, at)
            found, at = parse(events[at:end].lstrip(_RS)), end + 1
        if found is not None and found.n <= after:
            low = at
        else:
            high = start
    return low


def _line_end(events: bytes, start: int) -> int:
    end = events.find(b"\n", start)
    return len(events) if end < 0 else end


def shown(data: bytes) -> str:
    """A line of a log as it may be shown."""
    return harmless(data.decode("utf-8", errors="replace"))
