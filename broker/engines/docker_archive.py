"""Files as the tar archives that a daemon takes and gives. What comes from a container is never trusted: only plain
files and folders are taken, beneath one folder, each whole or not at all. Blocking, but for `packed`.
"""

import asyncio
import errno
import hashlib
import io
import logging
import os
import shutil
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PIECE = 1 << 20
SPARE = 256 << 20  # bytes of our disk that nothing from a node may take
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_log = logging.getLogger(__name__)
_BLOCK = tarfile.BLOCKSIZE
_END = b"\0" * 2 * _BLOCK


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder (`source` None) or file in an archive."""

    name: str
    source: Path | None
    mode: int
    uid: int = 0
    gid: int = 0


def length(entries: Sequence[Entry]) -> int:
    """Bytes of their archive, as the files are now. Raises OSError."""
    total = len(_END)
    for each in entries:
        size = 0 if each.source is None else each.source.stat().st_size
        total += len(_header(each, size)) + -(-size // _BLOCK) * _BLOCK
    return total


async def packed(entries: Sequence[Entry]) -> AsyncIterator[bytes]:
    """Raises OSError, also for a file that has become smaller meanwhile."""
    for each in entries:
        if each.source is None:
            yield _header(each, 0)
            continue
        with each.source.open("rb") as file:
            left = size = os.fstat(file.fileno()).st_size
            yield _header(each, size)
            while left:
                data = await asyncio.to_thread(file.read, min(left, PIECE))
                if not data:
                    raise OSError(f"{each.source} has become smaller")
                left -= len(data)
                yield data
        yield b"\0" * (-size % _BLOCK)
    yield _END


def is_whole(archive: Path) -> bool:
    """It ends as archives do: the line did not break off."""
    with archive.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(_END):
            return False
        file.seek(-len(_END), os.SEEK_END)
        return file.read() == _END


def only_file(archive: bytes) -> bytes:
    """Raises tarfile.TarError."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        member = tar.next()
        source = tar.extractfile(member) if member is not None and member.isreg() else None
        if source is None:
            raise tarfile.ReadError("it is no plain file")
        return source.read()


def unpack(archive: Path, into: Path, known: Mapping[str, str], but: str = "") -> list[str]:
    """Takes what lies in the archive's one folder into `into`, all but files whose names end with `but`, and returns
    the names of the files that were taken.

    `known`: the SHA-256 that files have when they are good, by name; another one is not taken, nor what this file
    system cannot hold, such as a file in place of a folder. A file is the old one or the new one, whatever happens.
    Raises OSError where there is no room, tarfile.TarError.
    """
    taken: list[str] = []
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            name = _beneath(member.name)
            if name is None:
                continue
            target = into / name
            try:
                if member.isdir():
                    target.mkdir(mode=0o700, parents=True, exist_ok=True)
                    continue
                held = _held_by(tar, member)
                if held is None or (but and name.name.endswith(but)):
                    continue
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if _take(tar, held, target, known.get(str(name), "")):
                    taken.append(str(name))
            except OSError as error:
                if error.errno in FULL:
                    raise
                _log.warning("%s is not taken: %s", target, error)
    return taken


def room(into: Path) -> int:
    """Bytes that may still be taken. Raises OSError."""
    return shutil.disk_usage(into).free - SPARE


def _held_by(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Where its data is: a file with two names (the newest checkpoint is the best one too) is sent once. None where it
    is no plain file."""
    if member.islnk():
        try:
            member = tar.getmember(member.linkname)
        except KeyError:
            return None
    return member if member.isreg() else None


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, good: str) -> bool:
    if member.size > room(target.parent):
        raise OSError(errno.ENOSPC, f"no room for {target.name} ({member.size >> 20} MiB)")
    partial = target.with_name(f".{target.name}.part")
    source = tar.extractfile(member)
    assert source is not None
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as file:
            while data := source.read(PIECE):
                digest.update(data)
                file.write(data)
            if file.tell() != member.size:
                raise tarfile.ReadError(f"{member.name} is not whole")
            file.flush()
            os.fsync(file.fileno())
        if good and digest.hexdigest() != good:
            return False
        os.utime(partial, (member.mtime, member.mtime))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _beneath(name: str) -> PurePosixPath | None:
    """Without the archive's own folder; None for that folder itself, and for what would lie elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in name:
        return None
    return path.relative_to(path.parts[0])


def _header(entry: Entry, size: int) -> bytes:
    info = tarfile.TarInfo(entry.name)
    info.type = tarfile.DIRTYPE if entry.source is None else tarfile.REGTYPE
    info.size, info.mode, info.uid, info.gid = size, entry.mode, entry.uid, entry.gid
    return info.tobuf(tarfile.GNU_FORMAT)
