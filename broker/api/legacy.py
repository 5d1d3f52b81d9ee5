"""The routes of older wyolo, for programs that still call them: thin adapters to the same verbs.

`task_id` is the job's own where it has one, else its number.
"""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, File, Form, Request, Response, UploadFile

from broker.api.jobs import job_id
from broker.api.problem import problem
from broker.api.services import services, user
from broker.api.system import health
from broker.errors import BadInput
from broker.intake import read
from broker.protocol.api import ErrorCode, Finding, SubmitRequest
from broker.protocol.job import Job

router = APIRouter()

Text = Annotated[str, Form(max_length=200)]
Upload = Annotated[UploadFile | None, File()]
MOST = 1000


@router.post("/train/")
@router.post("/train")
async def train(
    request: Request,
    *,
    file: Upload = None,
    config_file: Upload = None,
    user_code: Text = "",
    task_id: Text = "",
    priority: Text = "",
    resume: Annotated[bool, Form()] = False,
) -> Response:
    """`resume` with a `task_id` goes on with that job; without one there is nothing to go on with."""
    if resume:
        if not task_id:
            raise _bad("resume", "which job is to go on? send its `task_id`")
        job = await services(request).control.resume(await job_id(request, task_id), by=_by(request, user_code))
        return _said(job)
    upload = file or config_file
    if upload is None:
        raise _bad("file", "no configuration was sent: a YAML file as multipart field `file`")
    wanted = await _submission(upload, {"user_code": user_code, "task_id": task_id, "priority": priority})
    return _said(await _submit(request, wanted, user_code))


@router.post("/recreate/")
@router.post("/recreate")
async def recreate(
    request: Request,
    task_id: Text,
    file: Upload = None,
    user_code: Text = "",
    last_model: Annotated[bool, Form()] = False,
) -> Response:
    """`last_model` goes on from the last checkpoint; else it is trained anew, by `file` where one is sent."""
    control, by = services(request).control, _by(request, user_code)
    if file is not None:
        return _said(await _submit(request, await _submission(file, {"user_code": user_code}), user_code))
    number = await job_id(request, task_id)
    return _said(await control.resume(number, by=by) if last_model else await control.rerun(number, by=by))


@router.post("/evaluate/")
@router.post("/evaluate")
async def evaluate() -> Response:
    said = "evaluation alone is not offered: train with `val.*` keys, or submit a command such as `yolo val model=...`"
    return problem(ErrorCode.BAD_REQUEST, said, status=501)


@router.post("/stop/")
@router.post("/stop")
async def stop(request: Request, task_id: Text, user_code: Text = "") -> Response:
    number = await job_id(request, task_id)
    return _said(await services(request).control.stop(number, by=_by(request, user_code)))


@router.get("/status/{task_id:path}")
async def status(request: Request, task_id: str) -> Response:
    broker = services(request)
    return _said(broker.seen(await broker.ledger.job(await job_id(request, task_id))))


@router.get("/tasks")
async def tasks(request: Request) -> Response:
    broker = services(request)
    page = await broker.ledger.jobs(limit=MOST)
    return _json([_older(broker.seen(job)) for job in page.jobs])


router.add_api_route("/health", health)


async def _submission(file: UploadFile, fields: dict[str, str]) -> SubmitRequest:
    """As a message of `training_queue` with the same fields. Raises BadInput."""
    try:
        text = (await file.read()).decode()
    except UnicodeDecodeError as error:
        raise _bad("file", f"is not UTF-8 (byte {error.start})") from error
    return read(fields | {"config": text})[0]


async def _submit(request: Request, wanted: SubmitRequest, user_code: str) -> Job:
    broker, key = services(request), request.headers.get("idempotency-key")
    job, _ = await broker.control.submit(wanted, key, _by(request, user_code))
    return broker.seen(job)


def _by(request: Request, user_code: str) -> str:
    return user(request) or user_code


def _said(job: Job) -> Response:
    return _json(_older(job))


def _older(job: Job) -> dict[str, Any]:
    """The names that older programs look for."""
    return {
        "task_id": job.task_id or str(job.id),
        "job_id": job.id,
        "status": job.state.value,
        "reason": job.reason,
        "message": job.message or job.waits_for,
        "user_code": job.user,
        "epoch": job.epoch,
        "total_epochs": job.epochs,
        "timestamp": job.submitted_at,
    }


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _bad(where: str, message: str) -> BadInput:
    return BadInput([Finding(where=where, message=message)], ErrorCode.BAD_REQUEST)
