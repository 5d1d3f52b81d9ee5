"""The HTTP API as one ASGI application. docs/api.md describes it, and a test compares the two."""

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from broker.api import jobs, legacy, nodes, output, problem, stream, system, terminal
from broker.api.guard import Guard
from broker.api.parameters import known_alone
from broker.api.services import Services

PREFIX = "/api/v1"


def routes() -> FastAPI:
    app = FastAPI(title="wyolo", openapi_url=f"{PREFIX}/openapi.json", docs_url=None, redoc_url=None)
    problem.install(app)
    for part in (jobs, nodes, output, stream, system):
        app.include_router(part.router, prefix=PREFIX, dependencies=[Depends(known_alone)])
    app.include_router(terminal.router, prefix=PREFIX)
    app.include_router(legacy.router)
    return app


def create(services: Services, key: str) -> ASGIApp:
    app = routes()
    app.state.services = services
    return Guard(app, key, lambda: services.draining)
