"""Requests to one broker and what became of them: patience, answers as models, errors as those of unanswered.py."""

import asyncio
import getpass
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from broker.protocol.api import ErrorCode, Problem
from broker.protocol.mistakes import mistakes
from wyolo_tui.unanswered import BrokerOut, ProblemError

# httpx brings its own command line along (rich, pygments: a third of its import time), which nobody here runs.
sys.modules.setdefault("httpx._main", None)  # pyright: ignore[reportArgumentType]
import httpx  # noqa: E402

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

CONNECT_S = 3.0
ANSWER_S = 30.0
FIRST_RETRY_S = 0.2
LAST_RETRY_S = 2.0


class Wire:
    """One broker's door.

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
                    raise _refusal(answer)
                yield answer
        except httpx.TransportError as error:
            raise BrokerOut(self._out(error)) from error

    def socket(self, path: str) -> tuple[str, dict[str, str]]:
        """For a WebSocket: its address, and the headers that open it."""
        headers = {
            name: self._http.headers[name] for name in ("Authorization", "X-Wyolo-User") if name in self._http.headers
        }
        return f"ws{_base(self.url).removeprefix('http')}{path}", headers

    async def get(self, model: type[M], path: str, params: Mapping[str, Any] | None = None) -> M:
        return read(model, await self.send("GET", path, params=params, repeatable=True))

    async def get_list(self, adapter: TypeAdapter[T], path: str, params: Mapping[str, Any] | None = None) -> T:
        return _read_as(adapter, await self.send("GET", path, params=params, repeatable=True))

    async def post(
        self,
        model: type[M],
        path: str,
        body: BaseModel | None = None,
        *,
        repeatable: bool = False,
        answer_s: float = ANSWER_S,
    ) -> M:
        return read(model, await self.send("POST", path, body=body, repeatable=repeatable, answer_s=answer_s))

    async def send(
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
        """`answer_s`: the longest silence. Raises ProblemError; BrokerOut once patience is over."""
        deadline = time.monotonic() + self.patience_s
        wait_s = FIRST_RETRY_S
        while True:
            out: BrokerOut
            try:
                answer = await self._http.request(
                    method,
                    path,
                    params=params,
                    content=None if body is None else body.model_dump_json(),
                    headers={**({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})},
                    timeout=httpx.Timeout(answer_s, connect=CONNECT_S),
                )
                if not answer.is_error:
                    return answer
                refusal = _refusal(answer)
                if not isinstance(refusal, ProblemError) or refusal.problem.code is not ErrorCode.SHUTTING_DOWN:
                    raise refusal
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
        return f"the connection to the broker at {self.url} was lost"


def _base(url: str) -> str:
    return f"{url}/api/v1"


def _authorisation(key: str) -> dict[bytes, bytes]:
    """Whatever was given as a key, as bytes: whether it is one, the broker says."""
    return {b"Authorization": b"Bearer " + os.fsencode(key)} if key else {}


def _who() -> dict[bytes, bytes]:
    """Whose request it is, for the job's history; the broker takes our word for it."""
    name = own_name()
    return {b"X-Wyolo-User": name.encode()} if name and name.isascii() and name.isprintable() else {}


def own_name() -> str:
    """This user's; empty where the system knows none, as in a container that runs by a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def asked(model: type[M], **values: Any) -> M:
    """What is to be sent. Raises ProblemError for values that the broker would refuse, as it would say it."""
    try:
        return model(**values)
    except ValidationError as error:
        findings = mistakes(error.errors(include_url=False), model)
        said = "; ".join(f"{finding.where}: {finding.message}" for finding in findings)
        raise ProblemError(
            Problem(title="Bad Request", status=400, detail=said, code=ErrorCode.BAD_REQUEST, findings=findings)
        ) from error


def without_none(**query: Any) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def read(model: type[M], answer: httpx.Response) -> M:
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
    return BrokerOut(
        f"what answers at {answer.request.url} does not speak as a wyolo broker of this version does",
        "name the broker's own address: --url, WYOLO_URL; without either, the one of the data directory is asked",
    )


def _refusal(answer: httpx.Response) -> ProblemError | BrokerOut:
    """What the broker said; where it was none that spoke, who may have stood before it."""
    try:
        return ProblemError(Problem.model_validate_json(answer.content))
    except ValidationError:
        codes = {401: ErrorCode.UNAUTHORISED, 403: ErrorCode.UNAUTHORISED, 413: ErrorCode.TOO_LARGE}
        if answer.status_code not in codes and answer.status_code < 500:
            return _no_broker(answer)
        return ProblemError(
            Problem(
                title=answer.reason_phrase or "error",
                status=answer.status_code,
                detail=f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.reason_phrase}",
                code=codes.get(answer.status_code, ErrorCode.INTERNAL),
            )
        )
