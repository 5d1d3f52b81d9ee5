"""The HTTP API as docs/api.md tells it, and what it makes of a question that it does not know."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from broker.api.app import PREFIX, routes
from broker.api.problem import STATUS
from broker.protocol import api
from broker.protocol.api import Problem

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BODIES = (
    api.SubmitRequest,
    api.StopRequest,
    api.ResumeRequest,
    api.PriorityRequest,
    api.MoveRequest,
    api.ResolveRequest,
    api.DrainRequest,
    api.PauseRequest,
)

Routes = dict[tuple[str, str], set[str]]  # method and path -> parameters


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def told(text: str, prefix: str) -> Routes:
    rows = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|(?: ([^|]*)\|)?", text, re.MULTILINE)
    return {(method, prefix + path): set(re.findall(r"`(\w+)`", names)) for method, path, names in rows}


def there() -> Routes:
    paths: dict[str, Any] = routes().openapi()["paths"]
    return {
        (method.upper(), path): {each["name"] for each in about.get("parameters", []) if each["in"] == "query"}
        for path, methods in paths.items()
        for method, about in methods.items()
    }


def test_the_page_has_every_route_with_its_parameters_and_no_other() -> None:
    ours = {route: names for route, names in there().items() if route[1].startswith(PREFIX)}
    assert told(section("Routes"), PREFIX) == ours


def test_the_page_has_every_route_of_older_wyolo() -> None:
    older = {(method, path.rstrip("/")) for method, path in there() if not path.startswith(PREFIX)}
    assert {(method, path.rstrip("/")) for method, path in told(section("Routes of older wyolo"), "")} == older


def test_the_page_has_every_error_code_with_its_status() -> None:
    assert {
        code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE, re.MULTILINE)
    } == STATUS


@pytest.mark.parametrize("body", BODIES, ids=lambda model: model.__name__)
def test_the_page_has_every_field_of_a_body(body: type[BaseModel]) -> None:
    rows = re.findall(rf"^\| {body.__name__} \| ([^|]*)\|", section("Bodies"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(body.model_fields)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Of the routes alone, behind which no broker is."""
    transport = httpx.ASGITransport(routes())
    async with httpx.AsyncClient(transport=transport, base_url=f"http://test{PREFIX}") as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "where", "hint"),
    [
        ("/jobs?fliter=state:failed", "fliter", "did you mean `filter`?"),
        ("/jobs/7/logs?attempt=1&grep=3", "grep", "known: attempt, offset, limit, tail, since, before"),
        ("/nodes?after=3", "after", "known: none"),
    ],
)
async def test_an_unknown_parameter_is_refused_with_the_nearest_known_one(
    client: httpx.AsyncClient, asked: str, where: str, hint: str
) -> None:
    answer = await client.get(asked)
    [finding] = Problem.model_validate_json(answer.content).findings
    assert (answer.status_code, finding.where, finding.hint) == (400, where, hint)
