"""Output is whole lines, and events stand between them."""

import json
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.engines.base import RawLine
from broker.protocol.states import EndReason
from broker.protocol.training import Note, TrainerResult
from broker.supervisor import wire
from trainer.console import LineStream
from trainer.emit import Emitter, now
from trainer.stop import Stop


class Output:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.stream = LineStream(self.descriptor)

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path / "output.log")


def test_of_a_progress_bar_only_the_last_drawing_stays(output: Output) -> None:
    for step in range(1, 4):
        output.stream.write(f"\r\x1b[K1/3: {step}/3 ━━")
    assert output.text() == ""
    output.stream.write("\nnext\n")
    assert output.text() == "1/3: 3/3 ━━\nnext\n"


def test_colours_are_left_out(output: Output) -> None:
    output.stream.write("\x1b[34m\x1b[1mtrain: \x1b[0mgo\n")
    assert output.text() == "train: go\n"


def test_what_has_no_newline_is_written_at_the_end(output: Output) -> None:
    output.stream.write("half a line")
    output.stream.finish()
    output.stream.finish()
    assert output.text() == "half a line\n"


def test_a_bar_that_never_ends_does_not_grow(output: Output) -> None:
    for _ in range(100):
        output.stream.write("x" * 1000)
    output.stream.write("\n")
    assert len(output.text()) < 20_000


def notes(directory: Path) -> list[tuple[int, str]]:
    events = wire.between((directory / "events.jsonl").read_bytes(), 0)
    return [(event.n, event.text) for event in events if isinstance(event, Note)]


@contextmanager
def no_file_grows_beyond(size: int) -> Generator[None]:
    """A write that would is cut there, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_events_are_numbered_on_disk_and_the_result_counts_them(tmp_path: Path) -> None:
    emitter = Emitter(tmp_path, Stop(), stdout=False)
    for text in ("one", "two"):
        emitter.note(text)
    assert notes(tmp_path) == [(1, "one"), (2, "two")]
    emitter.result(TrainerResult(fence=4, ok=True, reason=EndReason.COMPLETED))
    result = json.loads((tmp_path / "result.json").read_bytes())
    assert (result["fence"], result["events"]) == (4, 2)
    assert not (tmp_path / "result.json.tmp").exists()


def test_an_event_is_not_said_when_it_could_not_be_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    emitter = Emitter(tmp_path, Stop())
    with pytest.raises(OSError, match="No space left"):
        emitter.emit(Note(at=now(), text="lost"))
    assert capfd.readouterr().out == ""


def test_an_event_of_which_only_half_could_be_kept_does_not_spoil_the_next(tmp_path: Path) -> None:
    emitter = Emitter(tmp_path, Stop(), stdout=False)
    emitter.note("one")
    with (
        no_file_grows_beyond((tmp_path / "events.jsonl").stat().st_size + 10),
        pytest.raises(OSError, match="too large"),
    ):
        emitter.note("lost")
    emitter.note("two")
    assert notes(tmp_path) == [(1, "one"), (2, "two")]


def test_an_event_of_which_only_half_could_be_said_does_not_spoil_the_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    emitter = Emitter(tmp_path, Stop())
    filled = os.write(1, b"x" * 1000 + b"\n")
    with no_file_grows_beyond(filled + 10), pytest.raises(OSError, match="too large"):
        emitter.note("one")
    emitter.note("two")
    said = [wire.hear(RawLine(0, 0, line.encode())) for line in capfd.readouterr().out.split("\n")[1:-1]]
    assert [(heard.malformed, heard.event and heard.event.n) for heard in said] == [(True, None), (False, 2)]
    assert notes(tmp_path) == [(1, "one"), (2, "two")]
