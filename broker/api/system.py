"""The broker itself: its nodes, its queue, its health and its version."""

import time
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from broker.api.services import Services, answer, answer_list, services
from broker.protocol.api import Health, Version
from broker.protocol.event import QueueChanged
from broker.protocol.fleet import Node
from broker.version import VERSION

router = APIRouter()

NODES = TypeAdapter(list[Node])
MOST_WAITS = 200


@router.get("/nodes")
async def nodes(request: Request) -> Response:
    return answer_list(NODES, await services(request).fleet.nodes())


@router.get("/nodes/{name}")
async def node(request: Request, name: str) -> Response:
    return answer(await services(request).fleet.node(name))


@router.get("/queue")
async def queue(request: Request) -> Response:
    broker = services(request)
    today = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    plan = broker.scheduler
    return answer(
        QueueChanged(
            at=datetime.now(UTC),
            counts=await broker.ledger.counts(),
            failed_today=await broker.ledger.failed_since(today),
            waits=dict(list(plan.waits.items())[:MOST_WAITS]),
            drain_s=plan.drain_s,
        )
    )


@router.get("/health")
async def health(request: Request) -> Response:
    return answer(await state(services(request)))


@router.get("/version")
async def version(request: Request) -> Response:
    return answer(Version(version=VERSION, broker_id=services(request).ledger.broker_id))


async def state(broker: Services) -> Health:
    wrong = [f"{name} is {said}" for name, said in broker.fleet.states().items() if said != "up"]
    if broker.redis.state != "ok":
        wrong.append(f"Redis is {broker.redis.state}: {broker.redis.message}")
    if broker.ledger.read_only:
        wrong.append("the ledger's disk is full: free some space; reading works")
    return Health(
        status="degraded" if wrong else "ok",
        redis=broker.redis.state,
        ledger="read_only" if broker.ledger.read_only else "ok",
        nodes=broker.fleet.states(),
        message="; ".join(wrong),
        uptime_s=time.monotonic() - broker.started,
        counts=await broker.ledger.counts(),
        seq=broker.ledger.seq,
    )
