"""The outermost layer of the API, plain ASGI: refuses what has no key or is too large before any of it is read."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.api.problem import problem
from broker.protocol.api import ErrorCode

OPEN = frozenset({"/api/v1/health", "/api/v1/version", "/health"})  # answered without a key
BODY_BYTES = 1 << 20
BATCH_BYTES = 8 << 20
DROPPED_BYTES, PATIENCE_S = 64 << 20, 5.0  # of a body that is refused
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """`draining`: whether the broker is ending and takes no more work."""

    def __init__(self, app: ASGIApp, key: str, draining: Callable[[], bool]) -> None:
        self._app = app
        self._known = hashlib.sha256(key.encode()).digest()
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in {b"authorization", b"content-length"}}
        if scope["type"] == "websocket":
            if self._knows(headers.get(b"authorization", b"")) and not self._draining():
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
            return
        if scope["path"] not in OPEN and not self._knows(headers.get(b"authorization", b"")):
            hint = "send `Authorization: Bearer <key>`; the key is in the file `key` of the broker's data directory"
            await problem(ErrorCode.UNAUTHORISED, f"no valid key was sent: {hint}")(scope, receive, send)
            return
        if scope["method"] in _READING:
            await self._app(scope, receive, send)
            return
        if self._draining():
            said = "the broker is ending and takes nothing new; running jobs go on: ask again once it is back"
            await problem(ErrorCode.SHUTTING_DOWN, said)(scope, receive, send)
            return
        limit = BATCH_BYTES if scope["path"].endswith("/jobs:batch") else BODY_BYTES
        length = headers.get(b"content-length")
        if length is None:
            bounded = await _bounded(receive, limit)
        else:
            bounded = receive if length.isdigit() and int(length) <= limit else None
        if bounded is None:
            await _too_large(limit, receive, send)
            return
        await self._in_time(scope, bounded, send)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server cancels what has not answered when the broker ends."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:
            if begun or not self._draining():
                raise
            said = "the broker ended before it could answer, and may have done it: send it again with the same key"
            await problem(ErrorCode.SHUTTING_DOWN, said)(scope, receive, send)

    def _knows(self, authorisation: bytes) -> bool:
        scheme, _, key = authorisation.partition(b" ")
        sent = hashlib.sha256(key.strip()).digest()
        return hmac.compare_digest(sent, self._known) and scheme.lower() == b"bearer"


async def _too_large(limit: int, receive: Receive, send: Send) -> None:
    """Answers at once, then lets the sender finish: one that is cut off while it sends may never read the answer."""
    answer = problem(ErrorCode.TOO_LARGE, f"the body is larger than {limit >> 20} MiB; nothing of it was used")
    answer.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    dropped, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while more and dropped < DROPPED_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b""})


async def _bounded(receive: Receive, limit: int) -> Receive | None:
    """A body of unknown length, read here as far as it is allowed to go; None when it goes further."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return None
    whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def replay() -> Message:
        nonlocal whole
        if whole is None:
            return await receive()
        message, whole = whole, None
        return message

    return replay
