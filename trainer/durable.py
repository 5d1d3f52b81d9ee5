"""Files that are whole or not there, also after a power loss and on a full disk. What breaks off leaves nothing."""

import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".tmp"  # how the name of a file ends while it is written
RESERVED = 64 * 1024  # bytes
_LEFT = 16 * 1024  # bytes of them, once there is room to be made


@contextmanager
def partial(target: Path) -> Generator[Path]:
    """What becomes `target` at the end of the block. Where that raises it is gone: on a full disk it would keep the
    space that others need to say so."""
    path = target.with_name(f"{target.name}{PARTIAL}")
    try:
        yield path
        path.replace(target)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def keep(source: Path, target: Path) -> str:
    """The SHA-256 of `source`, of which `target` is a copy that is safe on disk. Raises OSError."""
    with partial(target) as path:
        shutil.copyfile(source, path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    sync_directory(target.parent)
    return sha256


def copy(source: Path, target: Path) -> None:
    """Raises OSError."""
    with partial(target) as path:
        shutil.copyfile(source, path)


def link_or_copy(source: Path, target: Path) -> None:
    """Raises OSError."""
    with partial(target) as path:
        path.unlink(missing_ok=True)
        try:
            path.hardlink_to(source)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, path)


class LastWords:
    """A file that is written at the very end, whatever has filled the disk until then: its space is taken now, and
    written over later. `room` gives most of that space to what else is to be said then. (Where the file system writes
    nothing in place, another may take the space in between.)
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._partial = path.with_name(f"{path.name}{PARTIAL}")
        self._file = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with suppress(OSError):  # full already: it may have room later
            os.posix_fallocate(self._file, 0, RESERVED)

    def room(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file, _LEFT)

    def write(self, data: bytes) -> None:
        """Once. Raises OSError."""
        os.lseek(self._file, 0, os.SEEK_SET)
        write(self._file, data)
        os.ftruncate(self._file, len(data))
        os.fsync(self._file)
        os.close(self._file)
        self._partial.replace(self._path)
        sync_directory(self._path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(descriptor: int, data: bytes) -> None:
    """All of it. Raises OSError."""
    while data:
        data = data[os.write(descriptor, data) :]
