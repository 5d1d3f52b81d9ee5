"""What the routes work with, and how they read a request and write an answer."""

import time
from dataclasses import dataclass, field
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from broker.api.problem import unreadable
from broker.bus import Bus
from broker.control import Control
from broker.fleet import Fleet
from broker.ledger.ledger import Ledger
from broker.node_verbs import NodeVerbs
from broker.protocol.job import Job
from broker.protocol.states import WAITING, JobState
from broker.protocol.text import harmless
from broker.scheduler.scheduler import Scheduler
from broker.settings import Settings
from broker.supervisor.supervisor import Supervisor

M = TypeVar("M", bound=BaseModel)

USER_LENGTH = 100


@dataclass(slots=True)
class Services:
    settings: Settings
    ledger: Ledger
    bus: Bus
    control: Control
    fleet: Fleet
    supervisor: Supervisor
    scheduler: Scheduler
    node_verbs: NodeVerbs
    draining: bool = False
    started: float = field(default_factory=time.monotonic)

    def seen(self, job: Job) -> Job:
        """With what only the running broker knows. Changes the job that it is given."""
        if job.state in WAITING:
            held = job.state is JobState.HELD
            job.waits_for = f"`wyolo release {job.id}` releases it" if held else self.scheduler.waits_for(job.id)
        elif job.state is JobState.STARTING:
            job.waits_for = self.supervisor.doing(job.id)
        elif (live := self.supervisor.live(job.id)) is not None:
            job.epoch_progress, job.eta_s = live.epoch_progress, live.eta_s
        return job


def services(request: Request) -> Services:
    return request.app.state.services


def user(request: Request) -> str:
    """Who asks, by their own word; '' where they do not say."""
    return harmless(request.headers.get("x-wyolo-user", "")[:USER_LENGTH], USER_LENGTH)


async def read(request: Request, model: type[M]) -> M:
    """The body; an empty one is a model without any field. Raises BadInput."""
    body = await request.body()
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise unreadable(error, model) from None


def answer(model: BaseModel, status: int = 200) -> Response:
    return Response(model.__pydantic_serializer__.to_json(model), status, media_type="application/json")


def answer_list(adapter: TypeAdapter[list[M]], models: list[M]) -> Response:
    return Response(adapter.dump_json(models), media_type="application/json")
