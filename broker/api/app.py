"""The HTTP API as one ASGI application."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from broker.api import jobs, legacy, nodes, output, problem, stream, system, terminal
from broker.api.guard import Guard
from broker.api.services import Services

PREFIX = "/api/v1"


def create(services: Services, key: str) -> ASGIApp:
    app = FastAPI(title="wyolo", openapi_url=f"{PREFIX}/openapi.json", docs_url=None, redoc_url=None)
    app.state.services = services
    problem.install(app)
    for part in (jobs, nodes, output, stream, system, terminal):
        app.include_router(part.router, prefix=PREFIX)
    app.include_router(legacy.router)
    return Guard(app, key, lambda: services.draining)
