"""Lists the files of a data set, and tells whether they have changed. Only regular files are ever opened."""

import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from broker.dataset.bounds import Bounds

IMAGE_SUFFIXES = frozenset(
    {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
)
MOST_FILES = 2_000_000
MOST_BYTES = 8 * 1024 * 1024  # of one text file

T = TypeVar("T")


def walk(folder: str, bounds: Bounds) -> Iterator[os.DirEntry[str]]:
    """Every regular file below a folder, through links too but into no folder twice, folders in order of name. What
    leads out of the bounds is left out; the folder itself is within.

    Raises OSError for a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting, count = [Path(folder)], 0
    while waiting:
        here = waiting.pop()
        status = here.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not bounds.hold_entry(entry):
                    continue
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                elif entry.is_file():
                    count += 1
                    if count > MOST_FILES:
                        raise OSError(f"{folder} holds more than {MOST_FILES:,} files")
                    yield entry


def is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def images_in(source: Path, bounds: Bounds) -> list[str]:
    """The images of a folder, or those that a text file lists: one path a line, './' is beside the text file.

    The source itself is within the bounds.

    Raises OSError, or ValueError for a text file that is none.
    """
    if source.is_dir():
        return [entry.path for entry in walk(str(source), bounds) if is_image(entry.name)]
    beside = f"{source.parent}{os.sep}"
    lines = read_text(source).split("\n")
    listed = [line.strip() for line in lines if is_image(line.strip())]
    paths = [beside + line[2:] if line.startswith("./") else line for line in listed]
    return [path for path in paths if bounds.hold_listed(path)]


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """A regular text file. Raises OSError, or ValueError where it is too large or no UTF-8 text."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not stop us
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > most:
            raise ValueError(f"has {status.st_size // 1024:,} KiB, at most {most // 1024:,} are read of a text file")
        return file.read(most).decode("utf-8-sig")


def fingerprint(sources: Iterable[Path], bounds: Bounds) -> int:
    """Changes when a file below the sources is added, removed or written. Raises OSError."""
    total = 0
    for source in sources:
        if source.is_dir():
            for entry in walk(str(source), bounds):
                status = entry.stat()
                total = zlib.crc32(f"{entry.path}|{status.st_mtime_ns}|{status.st_size}".encode(), total)
        else:
            status = source.stat()
            total = zlib.crc32(f"{source}|{status.st_mtime_ns}|{status.st_size}".encode(), total)
    return total


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` of the items, evenly spread."""
    if len(items) <= most:
        return items
    return [items[index * len(items) // most] for index in range(most)]
