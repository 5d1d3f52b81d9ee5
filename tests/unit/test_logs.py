"""Reading an attempt's output: every line once wherever reading begins, and within bounds whatever is in it."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker import logs
from broker.beside import LOG, TIMES, beside
from broker.protocol.job import Attempt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = b'\x1e{"event": "note", "n": 1, "at": "2026-01-01T00:00:00Z", "text": "x"}\n'


def attempt(directory: Path, data: bytes, ended: bool = True) -> Attempt:
    beside(directory, LOG).write_bytes(data)
    end = NOW if ended else None
    return Attempt(job_id=1, fence=1, node="local", directory=str(directory), started_at=NOW, ended_at=end)


def texts(chunk: logs.LogChunk) -> list[str]:
    return [line.text for line in chunk.lines]


@given(lines=st.lists(st.integers(0, 40), max_size=40), limit=st.integers(1, 7), unfinished=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_comes_once_in_whatever_parts_it_is_read(
    tmp_path: Path, lines: list[int], limit: int, unfinished: bool
) -> None:
    wanted = [f"{number}-" + "x" * length for number, length in enumerate(lines)]
    data = "\n".join(wanted).encode() + (b"" if unfinished or not wanted else b"\n")
    of = attempt(tmp_path, data)
    seen: list[str] = []
    offset = 0
    while True:
        chunk = logs.read(of, offset, limit)
        assert len(chunk.lines) <= limit
        seen += texts(chunk)
        offset = chunk.next_offset
        if chunk.eof:
            break
    assert seen == wanted
    for count in (1, limit, 100):
        assert texts(logs.read(of, tail=count)) == wanted[-count:]


def test_a_line_that_is_still_being_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"whole\nhal", ended=False)
    chunk = logs.read(of)
    assert (texts(chunk), chunk.next_offset, chunk.eof) == (["whole"], 6, False)
    of = attempt(tmp_path, b"whole\nhalf\n")
    chunk = logs.read(of, chunk.next_offset)
    assert (texts(chunk), chunk.eof) == (["half"], True)


@given(lines=st.lists(st.integers(0, 40), min_size=1, max_size=40), count=st.integers(1, 7), events=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_stands_before_a_line_is_read_backwards_without_a_gap(
    tmp_path: Path, lines: list[int], count: int, events: bool
) -> None:
    wanted = [f"{number}-" + "x" * length for number, length in enumerate(lines)]
    between = EVENT if events else b""
    of = attempt(tmp_path, between + b"".join(text.encode() + b"\n" + between for text in wanted))
    seen: list[str] = []
    before = beside(tmp_path, LOG).stat().st_size
    while before:
        chunk = logs.read(of, tail=count, before=before)
        assert chunk.next_offset == before and chunk.start < before
        seen = texts(chunk) + seen
        before = chunk.start
    assert seen == wanted
    middle = logs.read(of, limit=1).next_offset
    assert texts(logs.read(of, 0, before=middle)) == wanted[:1]


def test_whoever_reads_a_log_never_waits_for_what_a_job_has_put_in_its_place(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"said\n")
    os.mkfifo(beside(tmp_path, TIMES))
    assert texts(logs.read(of)) == ["said"]
    beside(tmp_path, LOG).unlink()
    os.mkfifo(beside(tmp_path, LOG))
    assert (logs.read(of).lines, logs.read(of, since=NOW).eof) == ([], True)


def test_an_attempt_without_output_is_empty(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"")
    beside(tmp_path, LOG).unlink()
    chunk = logs.read(of)
    assert (chunk.lines, chunk.next_offset, chunk.eof) == ([], 0, True)


def test_a_tail_looks_past_any_number_of_events(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"one\ntwo\n" + EVENT * 5000 + b"three\n")
    assert texts(logs.read(of, tail=2)) == ["two", "three"]


def test_an_endless_line_is_cut_and_reading_goes_on_behind_it(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"x" * (9 << 20) + b"\nafter\n")
    seen: list[str] = []
    offset, chunks = 0, 0
    while True:
        chunk = logs.read(of, offset)
        seen += texts(chunk)
        offset, chunks = chunk.next_offset, chunks + 1
        if chunk.eof:
            break
    assert seen[-1] == "after"
    assert all(len(text) <= 4096 for text in seen)
    assert len(seen) <= 4 and chunks <= 5
    assert texts(logs.read(of, tail=1)) == ["after"]


def test_a_progress_bar_shows_as_it_ended(tmp_path: Path) -> None:
    bar = b"".join(b"\r%3d%%" % percent for percent in range(101)) * 100
    assert texts(logs.read(attempt(tmp_path, bar + b"\r\n"))) == ["100%"]


def indexed(directory: Path, count: int) -> Attempt:
    """Lines of ten bytes, one written each second."""
    of = attempt(directory, b"".join(b"line%05d\n" % number for number in range(count)))
    first = int(NOW.timestamp() * 1000)
    entries = "".join(f"{number * 10} {first + number * 1000}\n" for number in range(count))
    beside(directory, TIMES).write_text(entries)
    return of


@pytest.mark.parametrize("second", [0, 1, 777, 2500, 4999])
def test_lines_are_found_by_the_time_they_were_written(tmp_path: Path, second: int) -> None:
    of = indexed(tmp_path, 5000)
    since = NOW + timedelta(seconds=second)
    chunk = logs.read(of, limit=3, since=since)
    assert chunk.lines[0].text == f"line{second:05d}"
    assert chunk.lines[0].at == since
    assert logs.read(of, since=since - timedelta(milliseconds=500), limit=1).lines[0].at == since


def test_a_line_has_the_time_of_the_reading_it_came_with(tmp_path: Path) -> None:
    of = attempt(tmp_path, b"a\nb\nc\n")
    beside(tmp_path, TIMES).write_text("0 1000\n4 2000\n9")
    assert [line.at and line.at.timestamp() for line in logs.read(of).lines] == [1, 1, 2]
    assert [line.at and line.at.timestamp() for line in logs.read(of, 2).lines] == [1, 2]


def test_nothing_was_written_after_the_last_time(tmp_path: Path) -> None:
    of = indexed(tmp_path, 10)
    chunk = logs.read(of, since=NOW + timedelta(hours=1))
    assert (chunk.lines, chunk.eof) == ([], True)
