"""Errors as RFC 9457 problem+json with a stable `code`, whatever raised them."""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from broker.errors import BadInput, BrokerError
from broker.protocol.api import ErrorCode, Finding, Problem
from broker.protocol.mistakes import mistakes

MEDIA_TYPE = "application/problem+json"

STATUS: dict[ErrorCode, int] = {
    ErrorCode.BAD_CONFIG: 422,
    ErrorCode.BAD_DATA: 422,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.UNAUTHORISED: 401,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.IDEMPOTENCY_CONFLICT: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.DISK_FULL: 507,
    ErrorCode.LOCKED: 423,
    ErrorCode.REDIS_UNAVAILABLE: 503,
    ErrorCode.ENGINE: 502,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.INTERNAL: 500,
}


def problem(code: ErrorCode, detail: str, findings: Sequence[Finding] = (), status: int | None = None) -> Response:
    status = status or STATUS[code]
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code, findings=list(findings))
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def unreadable(error: ValidationError, *models: type[BaseModel]) -> BadInput:
    """What pydantic found in a body."""
    return BadInput(mistakes(error.errors(include_url=False), *models), ErrorCode.BAD_REQUEST)


def install(app: FastAPI) -> None:
    """Every error of a handler becomes a problem; one that nobody expected is also logged with its traceback."""
    app.add_exception_handler(BrokerError, _broker_error)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def _broker_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, BrokerError)
    return problem(error.code, str(error), error.findings if isinstance(error, BadInput) else ())


def _bad_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    bad = BadInput(mistakes(error.errors()), ErrorCode.BAD_REQUEST)
    return problem(bad.code, str(bad), bad.findings)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(ErrorCode.NOT_FOUND, f"there is nothing at {request.url.path}")
    answer = problem(
        ErrorCode.BAD_REQUEST, f"{request.method} {request.url.path}: {error.detail}", (), error.status_code
    )
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(request: Request, error: Exception) -> Response:
    said = f"{type(error).__name__} in {request.method} {request.url.path}: see broker.log"
    return problem(ErrorCode.INTERNAL, said)
