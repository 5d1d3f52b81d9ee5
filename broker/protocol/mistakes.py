"""pydantic's complaints about what a person wrote -> Findings: where, what was given, what is expected. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from broker.protocol.api import Finding
from broker.protocol.findings import MOST, given, near

BODY = ("body", "query", "path", "header")  # FastAPI says first in what part of the request it was


def mistakes(errors: Sequence[ErrorDetails], *models: type[BaseModel], secret: bool = False) -> list[Finding]:
    """One finding for each error, at most MOST. `models`: what was being read, for names of fields.

    `secret`: what was given is not repeated.
    """
    found = [_finding(error, models, secret) for error in errors[:MOST]]
    if len(errors) > MOST:
        found.append(Finding(message=f"and {len(errors) - MOST:,} more errors like these"))
    return found


def _finding(error: ErrorDetails, models: tuple[type[BaseModel], ...], secret: bool) -> Finding:
    place = error["loc"]
    if place and place[0] in BODY:
        place = place[1:]
    where, parents = _walk(place, models)
    message, hint = _said(error, secret), ""
    if error["type"] == "extra_forbidden":
        known = [name for parent in parents for name in parent.model_fields]
        message, hint = "unknown field", near(str(place[-1]), known) or (f"known: {', '.join(known)}" if known else "")
    return Finding(where=where, message=message, hint=hint)


def _said(error: ErrorDetails, secret: bool) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "json_invalid":
            return f"is not JSON: {error.get('ctx', {}).get('error', error['msg'])}"
        case "value_error" | "assertion_error":
            return str(error.get("ctx", {}).get("error", error["msg"]))
        case _:
            message = error["msg"][:1].lower() + error["msg"][1:]
            message = message.replace("input should be", "expected", 1)
            return message if secret else f"given {given(error['input'])}, {message}"


def _walk(place: tuple[int | str, ...], models: tuple[type[BaseModel], ...]) -> tuple[str, list[type[BaseModel]]]:
    """The dotted path as a person wrote it, without the tags of unions; and the models that hold its last part."""
    path: list[str] = []
    here, holders = list(models), list(models)
    for step in place:
        tagged = [model for model in here if step in _tags(model)] if isinstance(step, str) else []
        if tagged and not any(step in model.model_fields for model in here):
            here = tagged
            continue
        path.append(str(step))
        holders = here
        if isinstance(step, str):
            fields = [model.model_fields[step] for model in here if step in model.model_fields]
            here = [model for field in fields for model in _models(field.annotation)]
    return ".".join(path), holders


def _tags(model: type[BaseModel]) -> set[Any]:
    return {model.model_fields[name].default for name in ("kind", "event") if name in model.model_fields}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that stands in a type such as `list[A | B] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _models(part)
