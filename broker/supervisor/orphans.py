"""What of ours is left without a job: containers, volumes and processes on nodes, directories and files on our disk.

Nothing that has not our labels and this broker's id; on disk, nothing but what has our names.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

from broker.engines.base import AttemptRef, Engine, Remnant
from broker.errors import EngineError, NotFound
from broker.ledger.ledger import Ledger
from broker.protocol.api import Orphan, Orphans
from broker.protocol.training import CHECKPOINTS_NAME

PATIENCE_S = 15.0  # with one node
_REMEDY = "`wyolo doctor --orphans --remove` removes it"
_BATCH = 500


class Finder:
    """`active`: the attempts that somebody watches. `reconcile`: ends what runs and should not."""

    def __init__(
        self,
        ledger: Ledger,
        engines: Mapping[str, Engine],
        jobs: Path,
        active: Callable[[], Collection[AttemptRef]],
        reconcile: Callable[[], Awaitable[int]],
    ) -> None:
        self._ledger = ledger
        self._engines = engines
        self._jobs = jobs
        self._active = active
        self._reconcile = reconcile

    async def find(self) -> Orphans:
        """Of every node that answers."""
        found = Orphans()
        answers = await asyncio.gather(*(self._on_node(engine, found) for engine in self._engines.values()))
        found.orphans += [_left(engine.node, remnant) for engine, remnants in answers for remnant in remnants]
        found.orphans += [orphan async for orphan in self._on_disk()]
        return found

    async def remove(self) -> Orphans:
        """What was removed."""
        await self._reconcile()
        removed = Orphans()
        for engine, remnants in await asyncio.gather(
            *(self._on_node(each, removed) for each in self._engines.values())
        ):
            for remnant in remnants:
                try:
                    await engine.discard(remnant)
                    removed.orphans.append(_left(engine.node, remnant))
                except EngineError as error:
                    removed.unasked[engine.node] = str(error)
        async for orphan in self._on_disk():
            await asyncio.to_thread(_delete, Path(orphan.path))
            removed.orphans.append(orphan)
        return removed

    async def _on_node(self, engine: Engine, found: Orphans) -> tuple[Engine, list[Remnant]]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                remnants = await engine.remnants()
        except (EngineError, TimeoutError) as error:
            found.unasked[engine.node] = str(error) or f"it did not answer for {PATIENCE_S:.0f} s"
            return engine, []
        active = self._active()
        ours = self._ledger.broker_id
        return engine, [each for each in remnants if each.ref.broker_id == ours and each.ref not in active]

    async def _on_disk(self) -> AsyncIterator[Orphan]:
        """What lies there is listed before the ledger is asked, which knows of everything before it is made."""
        folders = await asyncio.to_thread(_numbered, self._jobs)
        for start in range(0, len(folders), _BATCH):
            batch = {int(folder.name): folder for folder in folders[start : start + _BATCH]}
            inside = {job_id: await asyncio.to_thread(_files, folder) for job_id, folder in batch.items()}
            known = {job.id for job in await self._ledger.specs(list(batch))}
            for job_id, folder in batch.items():
                if job_id not in known:
                    yield await _file("attempt", folder, f"job {job_id} was removed, and its files were kept")
                else:
                    async for orphan in self._of_job(job_id, inside[job_id]):
                        yield orphan

    async def _of_job(self, job_id: int, inside: "_Files") -> AsyncIterator[Orphan]:
        try:
            attempts = {attempt.fence: attempt for attempt in await self._ledger.attempts(job_id)}
            kept = {each.path for each in await self._ledger.checkpoints(job_id)}
        except NotFound:
            return  # removed this instant
        for fence, paths in inside.attempts.items():
            if fence not in attempts:
                for path in paths:
                    yield await _file("attempt", path, f"job {job_id} has no attempt {fence}")
            elif attempts[fence].ended_at is not None:
                for path in inside.checkpoints.get(fence, ()):
                    if str(path) not in kept:
                        yield await _file(
                            "checkpoint", path, f"attempt {fence} of job {job_id} ended without telling it"
                        )


class _Files:
    """Of one job, by the numbers of its attempts."""

    def __init__(self) -> None:
        self.attempts: dict[int, list[Path]] = {}
        self.checkpoints: dict[int, list[Path]] = {}


def _left(node: str, remnant: Remnant) -> Orphan:
    ref = remnant.ref
    why = f"{remnant.state}; attempt {ref.fence} of job {ref.job_id} is not active"
    return Orphan(kind=remnant.kind, node=node, name=remnant.name, why=why, remedy=_REMEDY)


async def _file(kind: str, path: Path, why: str) -> Orphan:
    size = await asyncio.to_thread(lambda: sum(_sizes(path)))
    values = {"kind": kind, "name": path.name, "path": str(path), "size": size, "why": why, "remedy": _REMEDY}
    return Orphan.model_validate(values)


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((each for each in folder.iterdir() if each.name.isdecimal()), key=lambda each: int(each.name))


def _files(folder: Path) -> _Files:
    """`<fence>`, `<fence>.docker`, `<fence>.lease`, and what looks like a checkpoint of ours in the first. Blocking."""
    found = _Files()
    for path in _listed(folder):
        number = path.name.partition(".")[0]
        if number.isdecimal():
            found.attempts.setdefault(int(number), []).append(path)
            saved = [each for each in _listed(path / CHECKPOINTS_NAME) if each.name.startswith("epoch-")]
            if path.name == number and saved:
                found.checkpoints[int(number)] = saved
    return found


def _listed(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ()


def _sizes(path: Path) -> Iterator[int]:
    """Blocking."""
    try:
        if path.is_dir() and not path.is_symlink():
            for each in path.iterdir():
                yield from _sizes(each)
        else:
            yield path.lstat().st_size
    except OSError:
        return  # gone meanwhile, or not ours to see


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
