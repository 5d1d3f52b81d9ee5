"""What the broker says as it happens (SSE), across lost connections: nothing durable is missed and nothing comes twice.

Only what is asked for here reconnects for ever; who wants it to end stops iterating.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from broker.protocol.api import LogChunk
from broker.protocol.event import FOLLOWER_EVENT, FollowerEvent
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import ProblemError, Unanswered

SILENCE_S = 45.0  # the broker sends a comment more often than this
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Connected: what follows is live."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The broker is out of reach; tried again in `retry_s` seconds. What was seen stays true as of now."""

    why: str
    retry_s: float


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event."""

    id: str
    event: str
    data: str


class Backoff:
    """Waits that double from 0.25 s to 5 s, each with jitter, so that many followers do not return at once."""

    def __init__(self) -> None:
        self._wait_s = FIRST_WAIT_S

    def reset(self) -> None:
        self._wait_s = FIRST_WAIT_S

    def next(self) -> float:
        wait_s = self._wait_s * random.uniform(0.75, 1.25)
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        return wait_s


class Feed:
    """`async for item in Feed(broker, page.seq).follow()`: FollowerEvents, with LinkUp and LinkDown between them.

    After a Resync, read the snapshot again and set `seq` to its seq. Raises ProblemError where trying again is of no
    use (a wrong key).
    """

    def __init__(self, broker: BrokerClient, after: int) -> None:
        self.seq = after  # the newest durable event that was handed out
        self._broker = broker

    async def follow(self) -> AsyncGenerator[FollowerEvent | LinkUp | LinkDown]:
        backoff = Backoff()
        while True:
            try:
                resume = {"Last-Event-ID": str(self.seq)}
                async with aclosing(_frames(self._broker, "/events", {"after": self.seq}, resume)) as frames:
                    async for frame in frames:
                        backoff.reset()
                        if frame is None:
                            yield LinkUp()
                            continue
                        event = _event(frame.data)
                        if event is None or 0 < event.seq <= self.seq:
                            continue
                        self.seq = max(self.seq, event.seq)
                        yield event
                why = "the broker ended the stream"
            except Unanswered as error:
                why = _worth_another_try(error)
            wait_s = backoff.next()
            yield LinkDown(why, wait_s)
            await asyncio.sleep(wait_s)


async def follow_log(
    broker: BrokerClient, job_id: int, *, attempt: int | None = None, offset: int | None = None, tail: int | None = None
) -> AsyncGenerator[LogChunk | LinkUp | LinkDown]:
    """A job's log as it is written: from `offset` bytes into `attempt` (the newest unless told), or its last `tail`.

    Goes on with the next attempt when there is one, and ends after the chunk with `eof`, when the job has ended. Raises
    ProblemError, such as not_found.
    """
    backoff = Backoff()
    query: dict[str, Any] = {"attempt": attempt, "offset": offset, "tail": tail}
    while True:
        try:
            known = {name: value for name, value in query.items() if value is not None}
            async with aclosing(_frames(broker, f"/jobs/{job_id}/logs/stream", known, {})) as frames:
                async for frame in frames:
                    backoff.reset()
                    if frame is None:
                        yield LinkUp()
                        continue
                    chunk = _chunk(frame.data)
                    if chunk is None:
                        continue
                    if chunk.attempt:  # else it ended without one
                        query = {"attempt": chunk.attempt, "offset": chunk.next_offset}
                    yield chunk
                    if chunk.eof:
                        return
            why = "the broker ended the stream"
        except Unanswered as error:
            why = _worth_another_try(error)
        wait_s = backoff.next()
        yield LinkDown(why, wait_s)
        await asyncio.sleep(wait_s)


def _worth_another_try(error: Unanswered) -> str:
    """Why it is. Raises the error where the broker's answer would be the same again."""
    if isinstance(error, ProblemError) and error.problem.status < 500:
        raise error
    return str(error)


async def _frames(
    broker: BrokerClient, path: str, params: dict[str, Any], headers: dict[str, str]
) -> AsyncGenerator[Frame | None]:
    """None once connected, then each event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **headers}
    async with broker.stream("GET", path, params, headers, silence_s=SILENCE_S) as answer:
        yield None
        identity, event, data = "", "", list[str]()
        rest = b""
        async for block in answer.aiter_bytes():
            # not by httpx: its lines also end at U+2028 and its like, which a log line may well contain
            *lines, rest = (rest + block).split(b"\n")
            for raw in lines:
                line = raw.removesuffix(b"\r").decode(errors="replace")
                if not line:
                    if data:
                        yield Frame(identity, event or "message", "\n".join(data))
                    event, data = "", []
                    continue
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "data":
                    data.append(value)
                elif field == "event":
                    event = value
                elif field == "id":
                    identity = value


def _event(data: str) -> FollowerEvent | None:
    """None for a kind that this version does not know."""
    try:
        return FOLLOWER_EVENT.validate_json(data)
    except ValidationError:
        return None


def _chunk(data: str) -> LogChunk | None:
    try:
        return LogChunk.model_validate_json(data)
    except ValidationError:
        return None
