"""Everything that happens, as server-sent events: what was missed first, then live, without a gap or a repeat."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter
from starlette.responses import StreamingResponse

from broker.api.services import Services, answer_list, services
from broker.api.sse import HEADERS, HEARTBEAT, HEARTBEAT_S, MEDIA_TYPE, frame
from broker.bus import Subscription
from broker.protocol.event import AuditEntry, FollowerEvent, Resync

router = APIRouter()

AUDIT = TypeAdapter(list[AuditEntry])

PAGE = 1000
MOST_REPLAYED = 20_000  # who missed more reads the snapshot again


@router.get("/events")
async def events(request: Request, after: Annotated[int | None, Query(ge=0)] = None) -> Response:
    """From `after` or the header Last-Event-ID on, whichever is newer; without either, from now on."""
    broker = services(request)
    last = request.headers.get("last-event-id", "")
    marks = [mark for mark in (after, int(last) if last.isdecimal() and len(last) < 19 else None) if mark is not None]
    subscription = broker.bus.subscribe()  # before anything is read, so that nothing falls between
    return StreamingResponse(
        _frames(broker, subscription, max(marks, default=None)), headers=HEADERS, media_type=MEDIA_TYPE
    )


@router.get("/audit")
async def audit(
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> Response:
    """Everything that happened to jobs and nodes, in order. Of what a follower missed it is told how it is by now."""
    return answer_list(AUDIT, await services(request).ledger.audit(None, after, limit))


async def _frames(broker: Services, subscription: Subscription, after: int | None) -> AsyncIterator[bytes]:
    try:
        yield HEARTBEAT
        seq = broker.ledger.seq if after is None else after
        if seq > broker.ledger.seq or broker.ledger.seq - seq > MOST_REPLAYED:
            seq = broker.ledger.seq
            yield _frame(Resync(at=datetime.now(UTC)))
        while seq < broker.ledger.seq and (missed := await broker.ledger.events_after(seq, PAGE)):
            yield b"".join(map(_frame, missed))
            seq = missed[-1].seq
        async for event in _with_heartbeats(subscription):
            if event is None:
                yield HEARTBEAT
            elif event.seq == 0 or event.seq > seq:
                seq = max(seq, event.seq)
                yield _frame(event)
    finally:
        subscription.close()


async def _with_heartbeats(subscription: Subscription) -> AsyncIterator[FollowerEvent | None]:
    """None after each HEARTBEAT_S seconds of silence."""
    events = aiter(subscription)
    coming: asyncio.Task[FollowerEvent | None] | None = None
    try:
        while True:
            coming = coming or asyncio.create_task(_next(events), name="follower")
            if not (await asyncio.wait({coming}, timeout=HEARTBEAT_S))[0]:
                yield None
                continue
            event = coming.result()
            coming = None
            if event is None:
                return
            yield event
    finally:
        if coming is not None:
            coming.cancel()


async def _next(events: AsyncIterator[FollowerEvent]) -> FollowerEvent | None:
    return await anext(events, None)


def _frame(event: FollowerEvent) -> bytes:
    return frame(event.kind, event, event.seq or None)
