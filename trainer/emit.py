"""TrainerEvent -> a numbered line in events.jsonl and, after it, the same line on stdout. From any thread."""

import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from broker.protocol.training import (
    EVENTS_NAME,
    RECORD_SEPARATOR,
    RESULT_NAME,
    Epoch,
    Failed,
    Finished,
    Note,
    Saved,
    Started,
    TrainerEvent,
    TrainerResult,
)
from trainer.durable import LastWords, write
from trainer.stop import Stop

_DURABLE = (Started, Epoch, Saved, Finished, Failed)


def now() -> datetime:
    return datetime.now(UTC)


class Emitter:
    """`stdout` is False where nobody reads events from there: a person's own terminal."""

    def __init__(self, directory: Path, stop: Stop, *, stdout: bool = True) -> None:
        self._stop = stop
        self._stdout = stdout
        self._lock = threading.Lock()
        self._count = 0
        self._file = os.open(directory / EVENTS_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._file).st_size
        self._line_open = False  # of stdout: a write to it broke off
        self._result = LastWords(directory / RESULT_NAME)

    @property
    def count(self) -> int:
        """Events so far."""
        return self._count

    def emit(self, *events: TrainerEvent) -> None:
        """Numbers them and says them together. On disk before they are said where others build on them. Raises
        OSError."""
        with self._stop.held(), self._lock:
            lines = [
                event.model_copy(update={"n": number}).model_dump_json()
                for number, event in enumerate(events, self._count + 1)
            ]
            durable = any(isinstance(event, _DURABLE) for event in events)
            self._append("".join(f"{line}\n" for line in lines).encode(), durable)
            self._count += len(events)
            if self._stdout:
                self._say("".join(f"{RECORD_SEPARATOR}{line}\n" for line in lines))

    def note(self, text: str, *, warning: bool = True) -> None:
        self.emit(Note(at=now(), level="warning" if warning else "info", text=text))

    def make_room(self) -> None:
        """For the last events: the disk may be full."""
        self._result.room()

    def result(self, result: TrainerResult) -> None:
        """The last thing a trainer writes. Raises OSError."""
        with self._lock:
            os.fsync(self._file)
        self._result.write(result.model_copy(update={"events": self._count}).model_dump_json().encode())

    def _append(self, data: bytes, durable: bool) -> None:
        try:
            write(self._file, data)
            if durable:
                os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)  # half a line would spoil the next
            raise
        self._size += len(data)

    def _say(self, text: str) -> None:
        ended = "\n" if self._line_open else ""
        self._line_open = True
        write(1, (ended + text).encode())
        self._line_open = False
