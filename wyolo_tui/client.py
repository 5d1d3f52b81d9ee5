"""BrokerClient: the HTTP API with protocol models in and out; errors are those of unanswered.py. Knows no screens."""

import asyncio
import getpass
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter, ValidationError

from broker.protocol.api import (
    BatchAnswer,
    BatchRequest,
    ErrorCode,
    FileEntry,
    Health,
    JobPage,
    LogChunk,
    MetricTable,
    MoveRequest,
    PriorityRequest,
    Problem,
    ResolveRequest,
    ResumeRequest,
    StopRequest,
    SubmitRequest,
    Validation,
    Version,
)
from broker.protocol.event import AuditEntry, QueueChanged
from broker.protocol.fleet import Node
from broker.protocol.job import Attempt, Checkpoint, Job, Priority
from wyolo_tui.unanswered import BrokerOut, ProblemError, Unanswered

# httpx brings its own command line along (rich, pygments: a third of its import time), which nobody here runs.
sys.modules.setdefault("httpx._main", None)  # pyright: ignore[reportArgumentType]
import httpx  # noqa: E402

__all__ = ["BrokerClient", "BrokerOut", "ProblemError", "Unanswered", "new_key"]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

CONNECT_S = 3.0
ANSWER_S = 30.0
PREFLIGHT_S = 300.0  # a submission opens images of its data set before it is answered
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 2.0
COPY_BYTES = 1 << 18

ATTEMPTS = TypeAdapter(list[Attempt])
CHECKPOINTS = TypeAdapter(list[Checkpoint])
ENTRIES = TypeAdapter(list[AuditEntry])
FILES = TypeAdapter(list[FileEntry])
NODES = TypeAdapter(list[Node])


def new_key() -> str:
    """An Idempotency-Key: the same one makes a repeated submission harmless."""
    return secrets.token_hex(16)


class BrokerClient:
    """`async with BrokerClient(url, key) as broker: await broker.jobs()`.

    `patience_s`: how long a request that never arrived, or that may be repeated without harm, is tried again while the
    broker is out of reach; `on_retry` hears of the first failure. `refind` says where a broker is that has taken the
    place of one that does not answer: the next request goes there.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        patience_s: float = 0.0,
        on_retry: Callable[[str], None] | None = None,
        refind: Callable[[], tuple[str, str] | None] | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience_s = patience_s
        self.on_retry = on_retry
        self._refind = refind
        self._http = httpx.AsyncClient(
            base_url=_base(self.url),
            headers=_who() | _authorisation(key),
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,  # a proxy meant for the internet has no business between us and the broker
            verify=self.url.startswith("https:"),  # without TLS, do not spend 30 ms on reading certificates
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    # --- what is there ---

    async def health(self) -> Health:
        return await self._get(Health, "/health")

    async def version(self) -> Version:
        return await self._get(Version, "/version")

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        query = _without_none(filter=filter or None, sort=sort or None, limit=limit, cursor=cursor)
        return await self._get(JobPage, "/jobs", query)

    async def job(self, job_id: int | str) -> Job:
        """With its spec. A name or a task id does, where only one job has it."""
        return await self._get(Job, f"/jobs/{quote(str(job_id), safe='')}")

    async def attempts(self, job_id: int) -> list[Attempt]:
        return await self._list(ATTEMPTS, f"/jobs/{job_id}/attempts")

    async def logs(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        tail: int | None = None,
        since: str | None = None,
    ) -> LogChunk:
        """Of the newest attempt unless told. `offset` in bytes; `limit` and `tail` in lines; `since` ISO 8601."""
        query = _without_none(attempt=attempt, offset=offset, limit=limit, tail=tail, since=since)
        return await self._get(LogChunk, f"/jobs/{job_id}/logs", query)

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        query = _without_none(names=",".join(names) or None, last=last)
        return await self._get(MetricTable, f"/jobs/{job_id}/metrics", query)

    async def events(self, job_id: int, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        return await self._list(ENTRIES, f"/jobs/{job_id}/events", _without_none(after=after, limit=limit))

    async def checkpoints(self, job_id: int) -> list[Checkpoint]:
        return await self._list(CHECKPOINTS, f"/jobs/{job_id}/checkpoints")

    async def files(self, job_id: int) -> list[FileEntry]:
        return await self._list(FILES, f"/jobs/{job_id}/files")

    async def nodes(self) -> list[Node]:
        return await self._list(NODES, "/nodes")

    async def node(self, name: str) -> Node:
        """With its history."""
        return await self._get(Node, f"/nodes/{quote(name, safe='')}")

    async def queue(self) -> QueueChanged:
        return await self._get(QueueChanged, "/queue")

    async def fetch(
        self, job_id: int, path: str, destination: Path, on_bytes: Callable[[int, int], None] | None = None
    ) -> int:
        """Copies one of the job's files and returns its size. `destination` is whole or as it was, never half.

        `on_bytes` hears how many have come and how many there are (0: not said). Raises OSError for the destination.
        """
        part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
        done = 0
        try:
            async with self.stream("GET", f"/jobs/{job_id}/files/{quote(path)}") as answer:
                total = int(answer.headers.get("Content-Length", 0))
                with part.open("wb") as file:
                    async for block in answer.aiter_bytes(COPY_BYTES):
                        file.write(block)
                        done += len(block)
                        if on_bytes is not None:
                            on_bytes(done, total)
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
        return done

    # --- the verbs ---

    async def validate(self, request: SubmitRequest) -> Validation:
        """What submit would do. Bad input is no error here: the findings say it."""
        return await self._post(Validation, "/jobs:validate", request, repeatable=True, answer_s=PREFLIGHT_S)

    async def submit(self, request: SubmitRequest, key: str | None = None) -> tuple[Job, bool]:
        """The job and whether it is new. With one key it is queued once, however often it is sent."""
        answer = await self._send(
            "POST",
            "/jobs",
            body=request,
            headers={"Idempotency-Key": key or new_key()},
            repeatable=True,
            answer_s=PREFLIGHT_S,
        )
        return _read(Job, answer), answer.status_code == 201

    async def submit_many(self, requests: list[SubmitRequest], key: str | None = None) -> list[int]:
        """All or none."""
        answer = await self._send(
            "POST",
            "/jobs:batch",
            body=BatchRequest(jobs=requests),
            headers={"Idempotency-Key": key or new_key()},
            repeatable=True,
            answer_s=PREFLIGHT_S,
        )
        return _read(BatchAnswer, answer).ids

    async def edit(self, job_id: int, request: SubmitRequest) -> Job:
        return _read(
            Job,
            await self._send("PATCH", f"/jobs/{job_id}", body=request, repeatable=True, answer_s=PREFLIGHT_S),
        )

    async def stop(self, job_id: int, grace_s: float | None = None) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/stop", StopRequest(grace_s=grace_s), repeatable=True)

    async def kill(self, job_id: int) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/kill", repeatable=True)

    async def preempt(self, job_id: int) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/preempt")

    async def resume(self, job_id: int, epochs: int | None = None) -> Job:
        """`epochs`: extend to this many in all."""
        return await self._post(Job, f"/jobs/{job_id}/resume", ResumeRequest(epochs=epochs))

    async def rerun(self, job_id: int, key: str | None = None) -> Job:
        """The new job; with one key there is one, however often it is sent."""
        headers = {"Idempotency-Key": key or new_key()}
        return _read(Job, await self._send("POST", f"/jobs/{job_id}/rerun", headers=headers, repeatable=True))

    async def hold(self, job_id: int) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/hold", repeatable=True)

    async def release(self, job_id: int) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/release", repeatable=True)

    async def priority(self, job_id: int, priority: Priority) -> Job:
        return await self._post(Job, f"/jobs/{job_id}/priority", PriorityRequest(priority=priority), repeatable=True)

    async def move(
        self,
        job_id: int,
        *,
        before: int | None = None,
        after: int | None = None,
        to: Literal["first", "last"] | None = None,
    ) -> Job:
        return await self._post(
            Job, f"/jobs/{job_id}/move", MoveRequest(before=before, after=after, to=to), repeatable=True
        )

    async def resolve(self, job_id: int, verdict: Literal["gone", "alive"]) -> Job:
        """A person's word about a job that is UNKNOWN."""
        return await self._post(Job, f"/jobs/{job_id}/resolve", ResolveRequest(verdict=verdict))

    async def remove(self, job_id: int, files: bool = False) -> None:
        """`files`: its directory too."""
        await self._send("DELETE", f"/jobs/{job_id}", params={"files": "true" if files else "false"})

    # --- the wire ---

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        silence_s: float = ANSWER_S,
    ) -> AsyncGenerator[httpx.Response]:
        """An answer whose body is read as it comes. After `silence_s` without a byte the broker counts as out."""
        timeout = httpx.Timeout(silence_s, connect=CONNECT_S)
        try:
            async with self._http.stream(method, path, params=params, headers=headers, timeout=timeout) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise ProblemError(_problem(answer))
                yield answer
        except httpx.TransportError as error:
            raise BrokerOut(self._out(error)) from error

    async def _get(self, model: type[M], path: str, params: Mapping[str, Any] | None = None) -> M:
        return _read(model, await self._send("GET", path, params=params, repeatable=True))

    async def _list(self, adapter: TypeAdapter[T], path: str, params: Mapping[str, Any] | None = None) -> T:
        return _read_as(adapter, await self._send("GET", path, params=params, repeatable=True))

    async def _post(
        self,
        model: type[M],
        path: str,
        body: BaseModel | None = None,
        *,
        repeatable: bool = False,
        answer_s: float = ANSWER_S,
    ) -> M:
        return _read(model, await self._send("POST", path, body=body, repeatable=repeatable, answer_s=answer_s))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
        answer_s: float = ANSWER_S,
    ) -> httpx.Response:
        deadline = time.monotonic() + self.patience_s
        wait_s = FIRST_RETRY_S
        while True:
            out: BrokerOut
            try:
                answer = await self._http.request(
                    method,
                    path,
                    params=params,
                    content=None if body is None else body.model_dump_json(exclude_unset=True),
                    headers={**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})},
                    timeout=httpx.Timeout(answer_s, connect=CONNECT_S),
                )
                if not answer.is_error:
                    return answer
                problem = _problem(answer)
                if problem.code is not ErrorCode.SHUTTING_DOWN:
                    raise ProblemError(problem)
                out = BrokerOut(f"the broker at {self.url} is shutting down")
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # it never arrived
                out = BrokerOut(self._out(error))
            except httpx.TransportError as error:
                out = BrokerOut(self._out(error))
                if not repeatable:
                    raise out from error
            if time.monotonic() + wait_s > deadline:
                raise out
            if self.on_retry is not None and wait_s == FIRST_RETRY_S:
                self.on_retry(str(out))
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LAST_RETRY_S)

    def _out(self, error: httpx.TransportError) -> str:
        """What that error means to a person. Turns to the successor, should there be one."""
        words = self._words(error)
        found = self._refind() if self._refind is not None else None
        if found is not None:
            self.url = found[0].rstrip("/")
            self._http.base_url = _base(self.url)
            self._http.headers.update(_authorisation(found[1]))
        return words

    def _words(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"the broker at {self.url} does not answer"
        if isinstance(error, httpx.ConnectError):
            return f"no broker answers at {self.url}"
        if isinstance(error, httpx.UnsupportedProtocol):
            return f"{self.url} is no address of a broker (http://host:port)"
        return f"the connection to the broker at {self.url} was lost ({error or type(error).__name__})"


def _base(url: str) -> str:
    return f"{url}/api/v1"


def _authorisation(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _who() -> dict[str, str]:
    """Whose request it is, for the job's history; the broker takes our word for it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        return {}
    return {"X-Wyolo-User": name} if name.isascii() and name.isprintable() else {}


def _without_none(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _read(model: type[M], answer: httpx.Response) -> M:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise _no_broker(answer) from error


def _read_as(adapter: TypeAdapter[T], answer: httpx.Response) -> T:
    try:
        return adapter.validate_json(answer.content)
    except ValidationError as error:
        raise _no_broker(answer) from error


def _no_broker(answer: httpx.Response) -> BrokerOut:
    return BrokerOut(f"what answers at {answer.request.url} does not speak as a wyolo broker of this version does")


def _problem(answer: httpx.Response) -> Problem:
    """What it said, or what its status means where it said nothing that we know."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        codes = {401: ErrorCode.UNAUTHORISED, 403: ErrorCode.UNAUTHORISED, 404: ErrorCode.NOT_FOUND}
        codes |= {409: ErrorCode.CONFLICT, 413: ErrorCode.TOO_LARGE, 507: ErrorCode.DISK_FULL}
        return Problem(
            title=answer.reason_phrase or "error",
            status=answer.status_code,
            detail=f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.reason_phrase}",
            code=codes.get(answer.status_code, ErrorCode.INTERNAL),
        )
