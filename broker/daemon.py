"""The composition root: puts the broker together, keeps it going, and lets go of it in order.

What runs goes on running when the broker ends, however it ends; the next start adopts it.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from logging.handlers import RotatingFileHandler

from broker.admission import Admission
from broker.api.app import create
from broker.api.server import Server, listen
from broker.api.services import Services
from broker.bus import Bus
from broker.control import Control
from broker.datadir import DataDir
from broker.engines.base import Engine
from broker.engines.local import LocalEngine
from broker.errors import BrokerError, DataDirLocked, LedgerFull, LedgerUnusable, QueueDown
from broker.fleet import Fleet
from broker.gauges import Gauges
from broker.intake import Intake
from broker.ledger.ledger import Ledger
from broker.queue import Queue
from broker.redis_server import RedisServer
from broker.scheduler.rooms import Condition
from broker.scheduler.scheduler import Scheduler
from broker.settings import NodeSettings, Settings
from broker.supervisor.supervisor import Supervisor, jobs_directory
from broker.version import VERSION

CANNOT_START = 2  # exit code
AGAIN_S = 2.0  # before a part that broke is started again
PRUNE_S = 3600.0
LOG_BYTES, LOGS_KEPT = 10 << 20, 3

log = logging.getLogger("broker")


def main(settings: Settings) -> int:
    """Until SIGTERM or SIGINT. 0; 1 when it broke; 2 when it could not start, with the reason on stderr."""
    os.umask(0o077)
    try:
        home = DataDir(settings.data_dir)
        home.lock()
        key = home.key()
    except (OSError, DataDirLocked) as error:
        return _cannot_start(str(error))
    _log_to(settings)
    try:
        sock = listen(settings.host, settings.port)
    except OSError as error:
        return _cannot_start(_no_port(settings, error))
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings, home, key, sock))
    except (LedgerUnusable, LedgerFull) as error:
        return _cannot_start(str(error))
    finally:
        home.withdraw()
    return 0


async def _run(settings: Settings, home: DataDir, key: str, sock: socket.socket) -> None:
    ending = _ending(home)
    async with _broker(settings) as (services, background):
        server = Server(create(services, key))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve([sock]), name="api")
            kept = [tasks.create_task(_kept(name, part), name=name) for name, part in background.items()]
            await server.ready.wait()
            url = _url(sock)
            home.announce(url)
            gc.freeze()  # what was made to start with stays: the collector need not look at it again
            log.info("wyolo %s answers at %s, data in %s", VERSION, url, settings.data_dir)
            await ending.wait()
            log.info("ending: running jobs go on and are adopted by the next start")
            home.withdraw()
            services.draining = True
            for task in kept:
                task.cancel()
            services.bus.close()
            server.should_exit = True
            await serving


@asynccontextmanager
async def _broker(settings: Settings) -> AsyncGenerator[tuple[Services, Mapping[str, Callable[[], Awaitable[None]]]]]:
    """All parts, and those of them that run in the background. Left in the opposite order."""
    async with AsyncExitStack() as stack:
        redis: RedisServer | None = None
        url = settings.redis_url.get_secret_value() if settings.redis_url is not None else ""
        if not url:
            redis = RedisServer(settings.data_dir / "redis")
            url = redis.url
            stack.push_async_callback(redis.stop)
        bus = Bus()
        stack.callback(bus.close)
        ledger = await Ledger.open(settings.data_dir / "ledger.db", bus)
        stack.push_async_callback(ledger.close)
        queue = Queue(url, ledger.broker_id)
        stack.push_async_callback(queue.close)
        engines: dict[str, Engine] = {}
        for node in settings.nodes:
            engines[node.name] = _engine(node, settings, ledger.broker_id)
            stack.push_async_callback(engines[node.name].close)
        fleet = Fleet([(node, engines[node.name]) for node in settings.nodes], ledger, bus)
        supervisor = await stack.enter_async_context(
            Supervisor(ledger, queue, bus=bus, settings=settings, engines=engines)
        )
        scheduler = Scheduler(
            ledger,
            queue,
            supervisor,
            bus=bus,
            settings=settings,
            engines=engines,
            condition=lambda name: Condition(*fleet.condition(name)),
        )
        admission = Admission(settings)
        stack.callback(admission.close)
        control = Control(
            ledger=ledger,
            admission=admission,
            supervisor=supervisor,
            wake=scheduler.wake,
            jobs_dir=jobs_directory(settings),
            forecast=scheduler.forecast,
        )
        services = Services(settings, ledger, bus, control, fleet, supervisor, scheduler)

        redis_tried = asyncio.Event()
        if redis is None:
            redis_tried.set()

        async def schedule() -> None:
            await redis_tried.wait()
            await fleet.seen.wait()  # GPUs are known once they were measured
            found = await supervisor.adopt()
            if found:
                log.info("%d attempts of an earlier broker were found again", found)
            await scheduler.run()

        async def prune() -> None:
            while True:
                await ledger.prune(datetime.now(UTC) - timedelta(days=settings.idempotency_days))
                await asyncio.sleep(PRUNE_S)

        background: dict[str, Callable[[], Awaitable[None]]] = {
            "scheduler": schedule,
            "intake": Intake(queue, control).run,
            "nodes": fleet.watch,
            "prune": prune,
        }
        if redis is not None:
            background = {"redis": lambda: _keep_redis(redis, redis_tried)} | background
        yield services, background


def _engine(node: NodeSettings, settings: Settings, broker_id: str) -> Engine:
    gauges = Gauges(node.name, settings.data_dir, node.gpus, cpus=node.cpus, memory_mib=node.memory_mib)
    if node.engine == "local":
        return LocalEngine(node.name, broker_id, gauges, settings.log_keep_mib)
    from broker.engines import docker_node  # its libraries take a moment that a broker without Docker need not wait

    return docker_node.engine(node, settings, broker_id, jobs_directory(settings), gauges)


async def _keep_redis(redis: RedisServer, tried: asyncio.Event) -> None:
    """While it cannot be started the broker is degraded: it takes jobs and starts none."""
    while True:
        try:
            await redis.start()
        except QueueDown as error:
            log.warning("%s", error)
            tried.set()
            await asyncio.sleep(AGAIN_S)
        else:
            tried.set()
            await redis.watch()


async def _kept(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """A part that breaks is logged and started again: the others, and what runs, are not to suffer for it."""
    while True:
        try:
            await part()
        except BrokerError as error:
            log.warning("%s: %s", name, error)
        except Exception:
            log.exception("%s broke and is started again", name)
        await asyncio.sleep(AGAIN_S)


def _ending(home: DataDir) -> asyncio.Event:
    """Set by the first SIGTERM, SIGINT or SIGHUP; a second SIGINT does not wait for anything."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if ending.is_set():
            home.withdraw()
            os._exit(1)
        ending.set()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    for end in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(end, ending.set)
    return ending


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _log_to(settings: Settings) -> None:
    logging.raiseExceptions = False  # a full disk loses log lines, nothing else
    shape = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    with contextlib.suppress(OSError):
        path = settings.data_dir / "broker.log"
        handlers.append(RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(shape)
    logging.basicConfig(level=settings.log_level.upper(), handlers=handlers, force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _no_port(settings: Settings, error: OSError) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program: give --port another number, or 0 for any free one"
    return f"cannot listen on {where}: {error.strerror or error}"


def _cannot_start(why: str) -> int:
    print(f"wyolo broker: {why}", file=sys.stderr)
    return CANNOT_START
