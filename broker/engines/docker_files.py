"""An attempt's files where its node shares no folder with the broker: they lie in a volume there, are put into it
before the start, and fetched from it again and again. The volume goes once everything is here.
"""

import asyncio
import errno
import json
import logging
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from broker.beside import FETCHED, beside
from broker.engines.base import AttemptRef, Launch
from broker.engines.container import BROKER_LABEL
from broker.engines.docker_archive import Entry, is_whole, length, only_file, packed, room, unpack
from broker.engines.docker_errors import Refused
from broker.engines.docker_link import Link
from broker.errors import EngineUnreachable
from broker.plain import MAX_FETCH
from broker.protocol.training import CHECKPOINTS_NAME, EVENTS_NAME

AGAIN_S = 5.0  # before files that could not be written here are fetched again
UNREADABLE = 3  # archives, before a node's files are given up
_log = logging.getLogger(__name__)


def volume(ref: AttemptRef) -> str:
    return ref.name


class Files:
    def __init__(self, link: Link, ref: AttemptRef, directory: Path) -> None:
        self._link = link
        self._ref = ref
        self._directory = directory
        self._seen: Mapping[str, Any] | None = None  # how the folder of checkpoints stood when it was fetched last
        self._fetching = asyncio.Lock()

    async def put(self, container: str, launch: Launch, user: str) -> None:
        """What the broker wrote for it, and what it goes on from. Raises Refused, EngineUnreachable, OSError."""
        entries = await asyncio.to_thread(_entries, launch, user)
        size = await asyncio.to_thread(length, entries)
        await self._link.put_archive(container, str(self._directory.parent), packed(entries), size)

    async def read(self, container: str, name: str) -> bytes:
        """One file, as it is now. Raises FileNotFoundError, EngineUnreachable."""
        data = bytearray()
        try:
            async for piece in self._link.archive(container, str(self._directory / name)):
                data += piece
                if len(data) > MAX_FETCH:
                    raise FileNotFoundError(f"{name} has more than {MAX_FETCH} bytes")
            return await asyncio.to_thread(only_file, bytes(data))
        except (Refused, tarfile.TarError) as error:
            raise FileNotFoundError(f"{name}: {error}") from error

    async def keep(self, container: str) -> bool:
        """The checkpoints, where there are new ones; whether there were. Raises EngineUnreachable, OSError."""
        path = str(self._directory / CHECKPOINTS_NAME)
        async with self._fetching:
            seen = await self._link.stat(container, path)
            if seen is None or seen == self._seen:
                return False
            folder = self._directory / CHECKPOINTS_NAME
            good = {Path(name).name: sha256 for name, sha256 in (await self._hashes(container)).items()}
            taken = await self._fetch(container, path, folder, good, but=".tmp")
            await asyncio.to_thread(_drop_older, folder, taken)
            self._seen = seen
            return True

    async def bring(self, container: str, image: str) -> None:
        """Everything, of an attempt that has ended. Returns when all of it is safe here, however long that takes; of
        one whose volume is gone there is nothing more to be had. Raises EngineUnreachable."""
        async with self._fetching:
            unreadable = 0
            while unreadable < UNREADABLE:
                try:
                    return await self._bring(container, image)
                except tarfile.TarError as error:
                    unreadable += 1
                    _log.warning("what %s sent of %s cannot be read: %s", self._link.node, self._ref.name, error)
                except OSError as error:
                    _log.warning("the files of %s cannot be kept here yet: %s", self._ref.name, error)
                    await asyncio.sleep(AGAIN_S)

    async def forget(self) -> None:
        """Raises Refused, EngineUnreachable."""
        await self._link.remove_volume(volume(self._ref))

    async def _bring(self, container: str, image: str) -> None:
        path = str(self._directory)
        if await self._link.inspect(container) is not None:
            await self._fetch(container, path, self._directory, await self._hashes(container))
            return
        if not await self._link.has_volume(volume(self._ref)):
            return
        name = f"{self._ref.name}-files"  # never started: only to look into the volume
        mount = {"Type": "volume", "Source": volume(self._ref), "Target": str(self._directory.parent)}
        body = {
            "Image": image.partition("@")[0],
            "HostConfig": {"Mounts": [mount]},
            "Labels": {BROKER_LABEL: self._ref.broker_id},
        }
        try:
            await self._link.remove(name, force=True)
            holder = await self._link.create(name, {**body, "Entrypoint": ["/"], "Cmd": []})
        except Refused as refused:
            _log.warning("the files of %s are lost with its container: %s", self._ref.name, refused)
            return
        try:
            await self._fetch(holder, path, self._directory, await self._hashes(holder))
        finally:
            with suppress(Refused):
                await self._link.remove(holder, force=True)

    async def _hashes(self, container: str) -> dict[str, str]:
        """What the trainer says that its checkpoints are."""
        try:
            data = await self.read(container, EVENTS_NAME)
        except FileNotFoundError:
            return {}
        return await asyncio.to_thread(_said_hashes, data)

    async def _fetch(
        self, container: str, path: str, into: Path, good: Mapping[str, str], but: str = ""
    ) -> Sequence[str]:
        """The files that were taken, all but those whose names end so."""
        archive = beside(self._directory, FETCHED)
        try:
            await self._spool(container, path, archive)
            return await asyncio.to_thread(unpack, archive, into, good, but)
        except Refused as refused:  # the folder is not there
            _log.debug("%s: %s", self._ref.name, refused)
            return ()
        finally:
            archive.unlink(missing_ok=True)

    async def _spool(self, container: str, path: str, archive: Path) -> None:
        """Raises Refused, EngineUnreachable, OSError."""
        free = await asyncio.to_thread(room, archive.parent)
        with archive.open("wb") as file:
            async for data in self._link.archive(container, path):
                free -= len(data)
                if free < 0:
                    raise OSError(errno.ENOSPC, f"the disk of {archive.parent} has no room for them")
                await asyncio.to_thread(file.write, data)
        if not await asyncio.to_thread(is_whole, archive):
            raise EngineUnreachable(f"{self._link.node} broke off while it sent the files of {self._ref.name}")


def _entries(launch: Launch, user: str) -> list[Entry]:
    """What goes into the volume, which is mounted in place of the job's folder."""
    uid, gid = (int(part) for part in user.split(":"))
    directory = launch.directory
    entries = [Entry(directory.name, None, 0o700, uid, gid)]
    own = [file for file in sorted(directory.iterdir()) if file.is_file()]
    entries += [Entry(f"{directory.name}/{file.name}", file, 0o600, uid, gid) for file in own]
    folders: dict[str, None] = {}
    inputs = [path for path in launch.inputs if path.is_relative_to(directory.parent)]
    for path in inputs:
        for parent in reversed(path.relative_to(directory.parent).parents[:-1]):
            folders[str(parent)] = None
    entries += [Entry(folder, None, 0o755) for folder in folders]
    return entries + [Entry(str(path.relative_to(directory.parent)), path, 0o644) for path in inputs]


def _said_hashes(events: bytes) -> dict[str, str]:
    """checkpoints/NAME -> SHA-256."""
    found: dict[str, str] = {}
    for line in events.splitlines():
        if b'"checkpoint"' in line:
            with suppress(ValueError, KeyError, TypeError):
                kept: dict[str, Any] = json.loads(line)["checkpoint"]
                found[f"{CHECKPOINTS_NAME}/{Path(str(kept['path'])).name}"] = str(kept["sha256"])
    return found


def _drop_older(folder: Path, taken: Sequence[str]) -> None:
    """What the trainer has given up, once newer ones are safe."""
    newest = max((name for name in taken if name.startswith("epoch-")), default="")
    for old in folder.glob("epoch-*.pt"):
        if old.name < newest and old.name not in taken:
            old.unlink(missing_ok=True)
