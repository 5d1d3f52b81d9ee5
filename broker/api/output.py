"""A job's output: its log as lines, as a stream, and the files that it left."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter
from starlette.responses import FileResponse, StreamingResponse

from broker import logs
from broker.api.jobs import job_id
from broker.api.services import Services, answer, answer_list, services
from broker.api.sse import HEADERS, HEARTBEAT, HEARTBEAT_S, MEDIA_TYPE, frame
from broker.beside import OWN
from broker.errors import NotFound
from broker.protocol.api import FileEntry, LogChunk
from broker.protocol.job import Attempt
from broker.protocol.states import FINAL

router = APIRouter()

FILES = TypeAdapter(list[FileEntry])
MOST_FILES = 10_000
POLL_S = 0.1  # between looks at a log that is being written
WAIT_S = 0.5  # between looks at a job that has no attempt yet


@router.get("/jobs/{ref}/logs")
async def log(
    request: Request,
    ref: str,
    *,
    attempt: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=logs.MOST_LINES)] = 1000,
    tail: Annotated[int | None, Query(ge=0, le=logs.MOST_LINES)] = None,
    since: datetime | None = None,
    before: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Of the newest attempt unless told. `since` without a zone is UTC."""
    broker = services(request)
    number = await job_id(request, ref)
    found = await _attempt(broker, number, attempt)
    if found is None:
        return answer(LogChunk(job_id=number, attempt=0, lines=[], next_offset=0))
    return answer(await asyncio.to_thread(logs.read, found, offset, limit, tail, _utc(since), before=before))


@router.get("/jobs/{ref}/logs/stream")
async def follow(
    request: Request,
    ref: str,
    *,
    attempt: Annotated[int | None, Query(ge=1)] = None,
    offset: Annotated[int | None, Query(ge=0)] = None,
    tail: Annotated[int | None, Query(ge=0, le=logs.MOST_LINES)] = None,
    since: datetime | None = None,
) -> Response:
    """Goes on with the next attempt when the job is tried again; the last chunk has `eof`, once the job has ended."""
    broker = services(request)
    number = await job_id(request, ref)
    found = await _attempt(broker, number, attempt)
    chunks = _chunks(broker, number, found, offset=offset or 0, tail=tail, since=_utc(since))
    return StreamingResponse(_frames(chunks), headers=HEADERS, media_type=MEDIA_TYPE)


async def _frames(chunks: AsyncIterator[LogChunk | None]) -> AsyncIterator[bytes]:
    """None: there was nothing new."""
    loop = asyncio.get_running_loop()
    spoken = loop.time()
    yield HEARTBEAT
    async for chunk in chunks:
        if chunk is not None:
            yield frame("log", chunk, f"{chunk.attempt}:{chunk.next_offset}")
        elif loop.time() - spoken < HEARTBEAT_S:
            continue
        else:
            yield HEARTBEAT
        spoken = loop.time()


async def _chunks(
    broker: Services, number: int, attempt: Attempt | None, *, offset: int, tail: int | None, since: datetime | None
) -> AsyncIterator[LogChunk | None]:
    """Looks again and again; None each time that there is nothing new."""
    told: int | None = None  # up to here: what was looked at without a line belongs to the chunk with the next one
    while not broker.draining:
        chunk = LogChunk(job_id=number, attempt=0, lines=[], next_offset=0, eof=True)
        if attempt is not None:
            chunk = await asyncio.to_thread(logs.read, attempt, offset, logs.MOST_LINES, tail, since)
        read_to_its_end, chunk.eof = chunk.eof, False
        told = chunk.start = chunk.start if told is None else told
        if chunk.lines:
            yield chunk
            told = chunk.next_offset
        moved, offset, tail, since = chunk.next_offset != offset, chunk.next_offset, None, None
        if read_to_its_end:
            job = await broker.ledger.job(number)
            fence = 0 if attempt is None else attempt.fence
            if job.fence > fence:
                attempt, offset, told = await _attempt(broker, number, fence + 1), 0, None
                continue
            if job.state in FINAL:
                yield LogChunk(job_id=number, attempt=fence, lines=[], next_offset=offset, eof=True)
                return
        if not moved:
            yield None
            await asyncio.sleep(WAIT_S if read_to_its_end else POLL_S)
        if attempt is not None:
            attempt = await _attempt(broker, number, attempt.fence)


@router.get("/jobs/{ref}/files")
async def files(request: Request, ref: str) -> Response:
    number = await job_id(request, ref)
    await services(request).ledger.job(number)
    return answer_list(FILES, await asyncio.to_thread(_listed, _directory(services(request), number)))


@router.get("/jobs/{ref}/files/{path:path}")
async def file(request: Request, ref: str, path: str) -> Response:
    """Never one outside of the job's directory, wherever a link in it points."""
    number = await job_id(request, ref)
    root = _directory(services(request), number)
    found = await asyncio.to_thread(_inside, root, path)
    if found is None:
        raise NotFound(f"job {number} has no file {path}: `files` lists what there is")
    return FileResponse(found, filename=found.name, media_type="application/octet-stream")


async def _attempt(broker: Services, number: int, fence: int | None) -> Attempt | None:
    """The newest, or that one. None where the job never ran. Raises NotFound."""
    attempts = await broker.ledger.attempts(number)
    if not attempts:
        await broker.ledger.job(number)
        return None
    if fence is None:
        return max(attempts, key=lambda attempt: attempt.fence)
    for attempt in attempts:
        if attempt.fence == fence:
            return attempt
    raise NotFound(f"job {number} has no attempt {fence}: it has 1 to {len(attempts)}")


def _directory(broker: Services, number: int) -> Path:
    return broker.settings.data_dir / "jobs" / str(number)


def _listed(root: Path) -> list[FileEntry]:
    return sorted(_walk(root), key=lambda entry: entry.path)


def _walk(root: Path) -> Iterator[FileEntry]:
    """Without what the broker keeps for itself."""
    count = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.parent == root and path.suffix[1:] in OWN:
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            yield FileEntry(path=str(path.relative_to(root)), size=status.st_size, modified=modified)
            count += 1
            if count == MOST_FILES:
                return


def _inside(root: Path, path: str) -> Path | None:
    try:
        real = (root / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    return real if real.is_relative_to(root.resolve()) and real.is_file() else None


def _utc(when: datetime | None) -> datetime | None:
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when
