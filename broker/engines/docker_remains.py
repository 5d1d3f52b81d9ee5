"""What attempts leave on a daemon, containers and volumes with our labels: found, and removed."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from broker.engines.base import AttemptRef, Remnant
from broker.engines.container import BROKER_LABEL, ref_of
from broker.engines.docker_errors import Refused
from broker.engines.docker_files import Files
from broker.engines.docker_link import Link
from broker.engines.docker_record import RecordFile
from broker.errors import EngineError, EngineUnreachable

_log = logging.getLogger(__name__)


class Remains:
    """`shared`: the node sees the jobs' folder, so that no files lie in volumes."""

    def __init__(self, broker_id: str, link: Link, jobs_dir: Path, shared: bool) -> None:
        self.label = f"{BROKER_LABEL}={broker_id}"
        self._link = link
        self._jobs_dir = jobs_dir
        self.in_volumes = not shared

    async def containers(self) -> dict[AttemptRef, Mapping[str, Any]]:
        """Attempts, as the daemon lists them. What has an attempt's labels and another name is none: somebody took them
        over, and only a person may end it. Raises EngineUnreachable."""
        listed = _ours(await self._link.listed(self.label))
        return {ref: each for ref, each in listed if f"/{ref.name}" in each["Names"]}

    async def volumes(self) -> dict[AttemptRef, Mapping[str, Any]]:
        """As the daemon lists them. Raises EngineUnreachable."""
        return dict(_ours(await self._link.volumes(self.label)))

    async def all(self) -> Sequence[Remnant]:
        """Raises EngineUnreachable."""
        containers = [
            Remnant("container", each["Names"][0].strip("/"), ref, each["State"])
            for ref, each in _ours(await self._link.listed(self.label))
        ]
        volumes = [
            Remnant("volume", each["Name"], ref, "left") for ref, each in _ours(await self._link.volumes(self.label))
        ]
        return containers + volumes

    async def discard(self, remnant: Remnant) -> None:
        try:
            if remnant.kind == "container":
                await self._link.remove(remnant.name, force=True)
            else:
                await self._link.remove_volume(remnant.name)
        except Refused as refused:
            raise EngineError(f"{self._link.node} could not remove {remnant.name}: {refused}") from refused

    def files(self, ref: AttemptRef, directory: Path) -> Files | None:
        """Where they are brought here from; None where they lie here anyway."""
        return Files(self._link, ref, directory) if self.in_volumes else None

    def is_past(self, ref: AttemptRef) -> bool:
        """Its end and all that it leaves are on disk, or its job was removed: nobody will ask about it. Blocking."""
        directory = self._directory(ref)
        if not directory.exists():
            return True
        record = RecordFile.open(directory)
        if record is None:
            return False
        record.close()
        return record.record.ended

    async def remove(self, ref: AttemptRef, container: str) -> None:
        """One that has ended. What cannot be removed now stays, and is met again by `Watch`."""
        try:
            await self._link.remove(container)
            await self.forget(ref)
        except (Refused, EngineError) as error:
            _log.warning("the container of %s stays for now: %s", ref.name, error)

    async def remove_unstarted(self, ref: AttemptRef, container: str) -> bool:
        """One that was made and never started. False when it was started, in this instant. Raises
        EngineUnreachable."""
        try:
            await self._link.remove(container)
        except Refused as refused:
            _log.info("%s: %s", ref.name, refused)
            return False
        await self.forget(ref)
        return True

    async def end(self, ref: AttemptRef, container: str) -> None:
        """Whether it runs or not. Raises EngineUnreachable."""
        try:
            await self._link.remove(container, force=True)
        except Refused as refused:
            raise EngineUnreachable(f"{self._link.node} could not end {ref.name}: {refused}") from refused

    async def forget(self, ref: AttemptRef) -> None:
        """Its files, which are here or of no use. Raises EngineUnreachable."""
        if (files := self.files(ref, self._directory(ref))) is not None:
            try:
                await files.forget()
            except Refused as refused:
                _log.warning("the volume of %s stays for now: %s", ref.name, refused)

    def _directory(self, ref: AttemptRef) -> Path:
        return self._jobs_dir / str(ref.job_id) / str(ref.fence)


def _ours(listed: Iterable[Mapping[str, Any]]) -> Iterator[tuple[AttemptRef, Mapping[str, Any]]]:
    """Those that are an attempt's, by their labels."""
    for each in listed:
        if (ref := ref_of(each["Labels"])) is not None:
            yield ref, each
