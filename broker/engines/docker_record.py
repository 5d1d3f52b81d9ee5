"""What the broker must know of an attempt in a container when it comes back: on its own disk, beside the attempt's
directory and out of the job's reach (`jobs/<job>/<fence>.docker`). One line of JSON, written in place."""

import os
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from broker.beside import RECORD, beside
from broker.engines.base import Exit
from broker.protocol.job import Lenient


class Record(Lenient):
    root: str  # the daemon's data: who may be believed about this attempt
    container: str = ""
    life: str = ""  # of the sandbox that the daemon lives in, as its host tells it
    image: str = ""  # with its digest
    spooled: int = 0  # bytes of its log here that `since` and `seen` speak of
    since: str = ""  # a timestamp of the daemon's log
    seen: int = 0  # entries of that time or later that have been spooled
    ended: bool = False  # the log is whole and the container may go
    code: int | None = None
    oom_killed: bool = False

    @property
    def exit(self) -> Exit | None:
        return Exit(self.code, self.oom_killed) if self.ended else None


def same_data(root: str, other: str) -> bool:
    """Of two daemons, as `Link.root` tells them. One that was made anew around the same data is the same."""
    return root.partition("/")[2] == other.partition("/")[2]


class RecordFile:
    def __init__(self, descriptor: int, record: Record) -> None:
        self._descriptor = descriptor
        self.record = record

    @classmethod
    def create(cls, directory: Path, root: str) -> "RecordFile":
        """Durable when it returns. Blocking. Raises FileExistsError: the attempt was started before; OSError."""
        return cls._new(directory, root, os.O_EXCL)

    @classmethod
    def open(cls, directory: Path) -> "RecordFile | None":
        """None when there is none, or what was written never became whole: then no container was asked for."""
        try:
            descriptor = os.open(beside(directory, RECORD), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        with suppress(ValidationError):
            line = os.pread(descriptor, 65_536, 0).partition(b"\n")[0]
            return cls(descriptor, Record.model_validate_json(line))
        os.close(descriptor)
        return None

    @classmethod
    def renew(cls, directory: Path, root: str) -> "RecordFile":
        """In place of one that is not whole: the log is read from its beginning. Blocking."""
        return cls._new(directory, root, os.O_TRUNC)

    @classmethod
    def _new(cls, directory: Path, root: str, how: int) -> "RecordFile":
        path = beside(directory, RECORD)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | how, 0o600), Record(root=root))
        file.save(durable=True)
        return file

    def save(self, *, durable: bool = False) -> None:
        os.pwrite(self._descriptor, self.record.model_dump_json().encode() + b"\n", 0)
        if durable:
            os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
