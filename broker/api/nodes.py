"""Nodes: looking, what happened there, and the verbs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from broker.api.services import answer, answer_list, read, services, user
from broker.protocol.api import DrainRequest, PauseRequest
from broker.protocol.event import AuditEntry
from broker.protocol.fleet import Node

router = APIRouter()

NODES = TypeAdapter(list[Node])
AUDIT = TypeAdapter(list[AuditEntry])


@router.get("/nodes")
async def nodes(request: Request) -> Response:
    return answer_list(NODES, await services(request).fleet.nodes())


@router.get("/nodes/{name}")
async def node(request: Request, name: str) -> Response:
    return answer(await services(request).fleet.node(name))


@router.get("/nodes/{name}/events")
async def events(
    request: Request,
    name: str,
    after: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> Response:
    """Without `after` the newest."""
    broker = services(request)
    found = await broker.ledger.node_trail(name, after, limit)
    if not found:
        await broker.fleet.node(name)  # of one that is not in the settings any more its trail is left
    return answer_list(AUDIT, found)


@router.post("/nodes/{name}/drain")
async def drain(request: Request, name: str) -> Response:
    wanted = await read(request, DrainRequest)
    return answer(await services(request).node_verbs.drain(name, wanted.now, user(request)))


@router.post("/nodes/{name}/pause")
async def pause(request: Request, name: str) -> Response:
    wanted = await read(request, PauseRequest)
    return answer(await services(request).node_verbs.pause(name, wanted, user(request)))


@router.post("/nodes/{name}/resume")
async def resume(request: Request, name: str) -> Response:
    return answer(await services(request).node_verbs.resume(name, user(request)))
