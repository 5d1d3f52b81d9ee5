"""Jobs: submitting, looking, and the verbs. Each route reads, calls Control or the ledger, and answers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter

from broker.api.services import answer, answer_list, read, services, user
from broker.protocol.api import (
    BatchAnswer,
    BatchRequest,
    MoveRequest,
    PriorityRequest,
    ResolveRequest,
    ResumeRequest,
    StopRequest,
    SubmitRequest,
)
from broker.protocol.event import AuditEntry
from broker.protocol.job import Attempt, Checkpoint

router = APIRouter()

ATTEMPTS = TypeAdapter(list[Attempt])
AUDIT = TypeAdapter(list[AuditEntry])
CHECKPOINTS = TypeAdapter(list[Checkpoint])


async def job_id(request: Request, ref: str) -> int:
    """A job may be called by its number, a unique name, or the id that other programs know it by."""
    return int(ref) if ref.isdecimal() and len(ref) < 19 else await services(request).ledger.find(ref)


# --- submitting ---


@router.post("/jobs", status_code=201)
async def submit(request: Request) -> Response:
    broker = services(request)
    wanted = await read(request, SubmitRequest)
    job, fresh = await broker.control.submit(wanted, request.headers.get("idempotency-key"), user(request))
    return answer(broker.seen(job), 201 if fresh else 200)


@router.post("/jobs:batch", status_code=201)
async def submit_many(request: Request) -> Response:
    wanted = await read(request, BatchRequest)
    key = request.headers.get("idempotency-key")
    broker = services(request)
    ids = await broker.control.submit_many(wanted.jobs, key, user(request))
    return answer(BatchAnswer(ids=ids, warnings=await broker.ledger.warnings(ids)), 201)


@router.post("/jobs:validate")
async def validate(request: Request) -> Response:
    return answer(await services(request).control.validate(await read(request, SubmitRequest), user(request)))


# --- looking ---


@router.get("/jobs")
async def jobs(
    request: Request,
    filter: Annotated[str, Query(max_length=1000)] = "",
    sort: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    broker = services(request)
    page = await broker.ledger.jobs(filter, sort, limit, cursor)
    for job in page.jobs:
        broker.seen(job)
    return answer(page)


@router.get("/jobs:find")
async def find(request: Request, ref: Annotated[str, Query(max_length=1000)]) -> Response:
    """By its number, name or task id, whatever characters are in it: in a path, some would mean something else."""
    return await show(request, ref)


@router.get("/jobs/{ref}")
async def show(request: Request, ref: str) -> Response:
    broker = services(request)
    return answer(broker.seen(await broker.ledger.job(await job_id(request, ref))))


@router.get("/jobs/{ref}/attempts")
async def attempts(request: Request, ref: str) -> Response:
    return answer_list(ATTEMPTS, await services(request).ledger.attempts(await job_id(request, ref)))


@router.get("/jobs/{ref}/metrics")
async def metrics(
    request: Request,
    ref: str,
    names: Annotated[str, Query(max_length=10_000)] = "",
    last: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    wanted = [name for name in names.split(",") if name]
    return answer(await services(request).ledger.metrics(await job_id(request, ref), wanted, last))


@router.get("/jobs/{ref}/events")
async def events(
    request: Request,
    ref: str,
    after: Annotated[int | None, Query(ge=0)] = None,
    limit: Annotated[int, Query(ge=1, le=5000)] = 500,
) -> Response:
    """Without `after` the newest of them."""
    return answer_list(AUDIT, await services(request).ledger.audit(await job_id(request, ref), after, limit))


@router.get("/jobs/{ref}/checkpoints")
async def checkpoints(request: Request, ref: str) -> Response:
    return answer_list(CHECKPOINTS, await services(request).ledger.checkpoints(await job_id(request, ref)))


# --- the verbs ---


@router.patch("/jobs/{ref}")
async def edit(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, SubmitRequest)
    return answer(broker.seen(await broker.control.edit(await job_id(request, ref), wanted, user(request))))


@router.delete("/jobs/{ref}", status_code=204)
async def remove(request: Request, ref: str, files: bool = False) -> Response:
    await services(request).control.remove(await job_id(request, ref), files, user(request))
    return Response(status_code=204)


@router.post("/jobs/{ref}/stop")
async def stop(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, StopRequest)
    return answer(broker.seen(await broker.control.stop(await job_id(request, ref), wanted.grace_s, user(request))))


@router.post("/jobs/{ref}/kill")
async def kill(request: Request, ref: str) -> Response:
    broker = services(request)
    return answer(broker.seen(await broker.control.kill(await job_id(request, ref), user(request))))


@router.post("/jobs/{ref}/preempt")
async def preempt(request: Request, ref: str) -> Response:
    broker = services(request)
    return answer(broker.seen(await broker.control.preempt(await job_id(request, ref), user(request))))


@router.post("/jobs/{ref}/resume")
async def resume(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, ResumeRequest)
    return answer(broker.seen(await broker.control.resume(await job_id(request, ref), wanted.epochs, user(request))))


@router.post("/jobs/{ref}/rerun", status_code=201)
async def rerun(request: Request, ref: str) -> Response:
    broker = services(request)
    key = request.headers.get("idempotency-key")
    return answer(broker.seen(await broker.control.rerun(await job_id(request, ref), key, user(request))), 201)


@router.post("/jobs/{ref}/hold")
async def hold(request: Request, ref: str) -> Response:
    broker = services(request)
    return answer(broker.seen(await broker.control.hold(await job_id(request, ref), user(request))))


@router.post("/jobs/{ref}/release")
async def release(request: Request, ref: str) -> Response:
    broker = services(request)
    return answer(broker.seen(await broker.control.release(await job_id(request, ref), user(request))))


@router.post("/jobs/{ref}/priority")
async def priority(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, PriorityRequest)
    return answer(
        broker.seen(await broker.control.priority(await job_id(request, ref), wanted.priority, user(request)))
    )


@router.post("/jobs/{ref}/move")
async def move(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, MoveRequest)
    return answer(broker.seen(await broker.control.move(await job_id(request, ref), wanted, user(request))))


@router.post("/jobs/{ref}/resolve")
async def resolve(request: Request, ref: str) -> Response:
    broker = services(request)
    wanted = await read(request, ResolveRequest)
    return answer(broker.seen(await broker.control.resolve(await job_id(request, ref), wanted, user(request))))
