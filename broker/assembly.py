"""Puts the broker's parts together, in order, and names those of them that run in the background."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from broker.admission.admission import Admission
from broker.api.app import create
from broker.api.server import Server
from broker.api.services import Services
from broker.bus import Bus
from broker.control import Control
from broker.engines.base import Engine
from broker.engines.local import LocalEngine
from broker.fleet import Fleet
from broker.gauges import Gauges
from broker.intake import Intake
from broker.ledger.ledger import Ledger
from broker.node_verbs import NodeVerbs
from broker.own_redis import OwnRedis
from broker.queue import Queue
from broker.retention import Retention
from broker.scheduler.rooms import Condition
from broker.scheduler.scheduler import Scheduler
from broker.settings import NodeSettings, Settings
from broker.supervisor.supervisor import Supervisor, jobs_directory

PRUNE_S = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Broker:
    services: Services
    background: Mapping[str, Callable[[], Awaitable[None]]]  # each runs for ever

    def server(self, key: str) -> Server:
        """The API, for whoever has the key."""
        return Server(create(self.services, key))


@asynccontextmanager
async def assembled(settings: Settings, redis: OwnRedis | None) -> AsyncGenerator[Broker]:
    """Left in the opposite order. `redis`: the broker's own; None: the one of the settings."""
    async with AsyncExitStack() as stack:
        bus = Bus()
        stack.callback(bus.close)
        ledger = await Ledger.open(settings.data_dir / "ledger.db", bus)
        stack.push_async_callback(ledger.close)
        queue = Queue(_redis_url(settings, redis), ledger.broker_id)
        stack.push_async_callback(queue.close)
        engines: dict[str, Engine] = {}
        for node in settings.nodes:
            engines[node.name] = _engine(node, settings, ledger.broker_id)
            stack.push_async_callback(engines[node.name].close)
        fleet = Fleet([(node, engines[node.name]) for node in settings.nodes], ledger, bus)
        await fleet.recall()
        supervisor = await stack.enter_async_context(
            Supervisor(ledger, queue, bus=bus, settings=settings, engines=engines)
        )
        supervisor.on_silence = fleet.doubt
        scheduler = Scheduler(
            ledger,
            queue,
            supervisor,
            bus=bus,
            settings=settings,
            engines=engines,
            condition=lambda name: Condition(*fleet.condition(name)),
            met=fleet.met,  # its GPUs are known by then
        )
        admission = Admission(settings, scheduler.rooms)
        stack.callback(admission.close)
        control = Control(
            ledger=ledger,
            admission=admission,
            supervisor=supervisor,
            wake=scheduler.wake,
            jobs_dir=jobs_directory(settings),
            forecast=scheduler.forecast,
        )
        fleet.changed = scheduler.reconsider
        verbs = NodeVerbs(fleet, ledger, control)
        services = Services(settings, ledger, bus, control, fleet, supervisor, scheduler, verbs)

        retention = Retention(ledger, control, jobs_directory(settings), settings.keep_days)

        async def schedule() -> None:
            if found := await supervisor.take_up():
                _log.info("%d attempts of an earlier broker are looked for", len(found))
            if redis is not None:
                await redis.tried.wait()
            scheduler.wake()
            await scheduler.run()

        async def prune() -> None:
            while True:
                now = datetime.now(UTC)
                await ledger.prune(now - timedelta(days=settings.idempotency_days))
                await retention.sweep(now)
                await asyncio.sleep(PRUNE_S)

        parts = {"scheduler": schedule, "intake": Intake(queue, control).run, "nodes": fleet.watch, "prune": prune}
        yield Broker(services, parts)


def _redis_url(settings: Settings, redis: OwnRedis | None) -> str:
    if redis is not None:
        return redis.url
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()


def _engine(node: NodeSettings, settings: Settings, broker_id: str) -> Engine:
    gauges = Gauges(node.name, settings.data_dir, node.gpus, cpus=node.cpus, memory_mib=node.memory_mib)
    if node.engine == "local":
        return LocalEngine(node.name, broker_id, gauges, settings.log_keep_mib)
    from broker.engines import docker_node  # its libraries take a moment that a broker without Docker need not wait

    return docker_node.engine(node, settings, broker_id, jobs_directory(settings), gauges)
