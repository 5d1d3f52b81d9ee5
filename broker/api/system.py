"""The broker itself: its queue, its health and its version."""

import time

from fastapi import APIRouter, Request, Response

from broker.api.services import Services, answer, services
from broker.protocol.api import Health, Version
from broker.version import VERSION

router = APIRouter()


@router.get("/queue")
async def queue(request: Request) -> Response:
    return answer(await services(request).scheduler.outlook())


@router.get("/health")
async def health(request: Request) -> Response:
    return answer(await state(services(request)))


@router.get("/version")
async def version(request: Request) -> Response:
    return answer(Version(version=VERSION, broker_id=services(request).ledger.broker_id))


async def state(broker: Services) -> Health:
    """Degraded where somebody should see to it. Redis is filled by itself, after a start too."""
    wrong = broker.fleet.troubles()
    redis = broker.scheduler.redis
    if redis == "down":
        wrong.append(f"Redis is down: {broker.scheduler.redis_message}")
    if broker.ledger.read_only:
        wrong.append("the ledger's disk is full: free some space; reading works")
    return Health(
        status="degraded" if wrong else "ok",
        redis=redis,
        ledger="read_only" if broker.ledger.read_only else "ok",
        nodes=broker.fleet.states(),
        message="; ".join(wrong),
        uptime_s=time.monotonic() - broker.started,
        counts=await broker.ledger.counts(),
        seq=broker.ledger.seq,
    )
