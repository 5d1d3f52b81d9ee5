"""Lines of a trainer: events, logs and everything in between; and text that a terminal may show."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engines.base import MAX_LINE, RawLine
from broker.engines.tail import Lines
from broker.protocol.text import harmless
from broker.protocol.training import Note
from broker.supervisor import wire

NOTE = b'{"event": "note", "n": 4, "at": "2026-01-01T00:00:00Z", "text": "hello"}'


def line(data: bytes, cut: int = 0) -> RawLine:
    return RawLine(0, len(data) + cut + 1, data, cut)


def test_an_event_is_read_and_is_no_log() -> None:
    heard = wire.hear(line(b"\x1e" + NOTE))
    assert isinstance(heard.event, Note)
    assert (heard.event.n, heard.event.text, heard.text) == (4, "hello", None)


def test_an_event_after_a_half_written_line_is_read_too() -> None:
    heard = wire.hear(line(b" 50% done \x1e" + NOTE))
    assert heard.event is not None
    assert heard.text == b" 50% done"


def test_fields_of_a_later_version_are_ignored() -> None:
    assert wire.parse(NOTE[:-1] + b', "colour": "red"}') is not None


@pytest.mark.parametrize(
    "record", [b"", b"{", b"null", b'{"event": "coffee"}', b"\xff\xfe", NOTE.replace(b"note", b"epoch")]
)
def test_what_is_no_event_becomes_a_log_line(record: bytes) -> None:
    heard = wire.hear(line(b"\x1e" + record))
    assert heard.malformed
    assert heard.text is not None
    assert heard.text.startswith(b"[event that cannot be read, ")


def test_an_event_that_was_cut_is_not_believed() -> None:
    assert wire.hear(line(b"\x1e" + NOTE, cut=5)).malformed


def test_a_gap_is_filled_with_each_missing_event_once() -> None:
    events = [NOTE.replace(b'"n": 4', b'"n": %d' % n) for n in (1, 2, 3, 3, 4, 5)] + [b'{"event": "no']
    assert [event.n for event in wire.between(b"\n".join(events), after=1, before=5)] == [2, 3, 4]
    assert [event.n for event in wire.between(b"\n".join(events), after=4)] == [5]


@given(st.lists(st.sampled_from([b"event", b"again", b"skip", b"", b"{", b"no event"])), st.integers(0, 30), st.data())
def test_a_gap_is_filled_wherever_it_is_and_whatever_lies_around_it(
    kinds: list[bytes], after: int, data: st.DataObject
) -> None:
    n, lines = 0, list[bytes]()
    for kind in kinds:
        n += {b"event": 1, b"skip": 2}.get(kind, 0)
        lines.append(NOTE.replace(b'"n": 4', b'"n": %d' % n) if n and kind in {b"event", b"again", b"skip"} else kind)
    numbers = sorted({event.n for line in lines if (event := wire.parse(line)) is not None})
    text = b"\n".join(lines)
    before = data.draw(st.none() | st.integers(after, 40))
    wanted = [n for n in numbers if after < n and (before is None or n < before)]
    assert [event.n for event in wire.between(text, after, before)] == wanted
    assert wire.first(text) == (numbers[0] if numbers else None)


@given(st.lists(st.binary(max_size=50).map(lambda data: data.replace(b"\n", b"")), max_size=20), st.data())
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(each + b"\n" for each in lines) + b"rest"
    cutter, found, at = Lines(0), list[RawLine](), 0
    while at < len(stream):
        size = data.draw(st.integers(1, 30))
        found += cutter.feed(stream[at : at + size])
        at += size
    found += cutter.flush()
    assert [each.data for each in found] == [*lines, b"rest"]
    assert all(stream[each.offset : each.end].rstrip(b"\n") == each.data for each in found)


def test_a_long_line_is_cut_and_the_next_begins_where_it_should() -> None:
    cutter = Lines(10)
    found = cutter.feed(b"x" * 70_000 + b"\nnext\n")
    assert [(each.offset, each.end, len(each.data), each.cut) for each in found] == [
        (10, 70_011, MAX_LINE, 70_000 - MAX_LINE),
        (70_011, 70_016, 4, 0),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode and 漢字", "plain text, ünïcode and 漢字"),
        ("\x1b[34m\x1b[1mtrain:\x1b[0m done", "train: done"),
        ("\x1b]52;c;cm0gLXJm\x07copied", "copied"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("\x9b31mred", "red"),
        ("\x90secret\x9cleft", "left"),
        (" 10%\r 50%\r100%\r", "100%"),
        ("a\tb", "a    b"),
        ("bell\x07 null\x00 del\x7f", "bell\u2407 null\u2400 del\u2421"),
        ("abc\u202edcba", "abc<U+202E>dcba"),
        ("zero\u200bwidth\u2066", "zero<U+200B>width<U+2066>"),
        ("line\u2028break", "line<U+2028>break"),
        ("\x1b[unfinished", "nfinished"),
        ("lone \x1b", "lone \u241b"),
        ("next\x85line", "next<U+0085>line"),
    ],
)
def test_text_is_shown_and_never_obeyed(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(st.text(max_size=300))
def test_nothing_that_a_terminal_obeys_comes_through(text: str) -> None:
    shown = harmless(text)
    assert not any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 or 0x202A <= ord(each) <= 0x202E for each in shown)
    assert "\x1b" not in shown
    assert harmless(shown) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    shown = harmless("x" * 1_000_000)
    assert len(shown) == 4096
    assert shown.endswith(" more characters")
    assert json.dumps(shown)
