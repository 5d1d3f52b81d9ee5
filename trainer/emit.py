"""TrainerEvent -> a numbered line in events.jsonl and, after it, the same line on stdout. From any thread."""

import os
import threading
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
from trainer.stop import Stop

_DURABLE = (Started, Epoch, Saved, Finished, Failed)


def now() -> datetime:
    return datetime.now(UTC)


class Emitter:
    """`stdout` is False where nobody reads events from there: a person's own terminal."""

    def __init__(self, directory: Path, stop: Stop, *, stdout: bool = True) -> None:
        self._directory = directory
        self._stop = stop
        self._stdout = stdout
        self._lock = threading.Lock()
        self._count = 0
        self._file = os.open(directory / EVENTS_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

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
            self._count += len(events)
            _write(self._file, "".join(f"{line}\n" for line in lines).encode())
            if any(isinstance(event, _DURABLE) for event in events):
                os.fsync(self._file)
            if self._stdout:
                _write(1, "".join(f"{RECORD_SEPARATOR}{line}\n" for line in lines).encode())

    def note(self, text: str, *, warning: bool = True) -> None:
        self.emit(Note(at=now(), level="warning" if warning else "info", text=text))

    def result(self, result: TrainerResult) -> None:
        """The last thing a trainer writes. Raises OSError."""
        with self._lock:
            os.fsync(self._file)
        text = result.model_copy(update={"events": self._count}).model_dump_json()
        write_durably(self._directory / RESULT_NAME, text.encode())


def write_durably(path: Path, data: bytes) -> None:
    """The whole file or none of it, also after a power loss. Raises OSError."""
    partial = path.with_name(f"{path.name}.tmp")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
