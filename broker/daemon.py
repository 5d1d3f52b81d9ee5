"""The broker's life: it takes the data directory and the port, answers until it is told to end, and lets go in order.

What runs goes on running when the broker ends, however it ends; the next start adopts it.
"""

import asyncio
import contextlib
import errno
import gc
import importlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING, Any

from broker.datadir import DataDir
from broker.errors import BadInput, BrokerError, DataDirLocked, LedgerFull, LedgerUnusable
from broker.own_redis import OwnRedis
from broker.setting_sources import misspelt
from broker.settings import Settings
from broker.version import VERSION

if TYPE_CHECKING:
    from broker.assembly import Broker

CANNOT_START = 2  # exit code
LEAVE_S = 1.0  # for threads that are still at work in the end
AGAIN_S = 2.0  # before a part that broke is started again
BACKLOG = 2048
GARBAGE = 20_000  # objects made and not freed, after which the collector looks for cycles
LOG_BYTES, LOGS_KEPT = 10 << 20, 3

_log = logging.getLogger("broker")


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
    for name, near in misspelt(os.environ, Settings.model_fields):
        _log.warning("the variable %s is no setting, and nobody reads it: did you mean %s?", name, near)
    try:
        sock = _listen(settings.host, settings.port)
    except OSError as error:
        return _cannot_start(_no_port(settings, error))
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(unheard)
            runner.run(_run(settings, home, key, sock))
            _leave_soon()
    except (LedgerUnusable, LedgerFull) as error:
        return _cannot_start(str(error))
    except BadInput as error:  # a setting that only its user understands, such as the address of a Redis
        return _cannot_start("; ".join(f"{wrong.where}: {wrong.message}: {wrong.hint}" for wrong in error.findings))
    finally:
        home.withdraw()
    return 0


def _leave_soon() -> None:
    """Everything has been let go. A thread that hangs, say in a data set whose disk does not answer, is not waited for,
    as Python would."""
    last = threading.Timer(LEAVE_S, os._exit, (0,))
    last.daemon = True
    last.start()


def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A connection that broke as nobody waited for it any more is no news: uvloop leaves such a future behind where a
    TLS handshake was given up. Everything else is told as ever."""
    future, error = context.get("future"), context.get("exception")
    if (
        isinstance(error, ConnectionError)
        and isinstance(future, asyncio.Future)
        and not isinstance(future, asyncio.Task)
    ):
        _log.debug("a connection that nobody waited for broke: %r", error)
    else:
        loop.default_exception_handler(context)


async def _run(settings: Settings, home: DataDir, key: str, sock: socket.socket) -> None:
    ending = _ending(home)
    async with AsyncExitStack() as stack:
        redis: OwnRedis | None = None
        if settings.redis_url is None:
            redis = await stack.enter_async_context(OwnRedis(settings.data_dir / "redis"))
        await asyncio.to_thread(importlib.import_module, "broker.assembly")  # while Redis starts
        from broker.assembly import assembled

        broker = await stack.enter_async_context(assembled(settings, redis))
        await _serve(broker, home, key, sock, ending)


async def _serve(broker: "Broker", home: DataDir, key: str, sock: socket.socket, ending: asyncio.Event) -> None:
    """From the first answer to the last."""
    server = broker.server(key)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve([sock]), name="api")
        kept = [tasks.create_task(_kept(name, part), name=name) for name, part in broker.background.items()]
        await server.ready.wait()
        home.announce(url := _url(sock))
        gc.freeze()  # what was made to start with stays: the collector need not look at it again
        gc.set_threshold(GARBAGE)
        gc.enable()
        _log.info("wyolo %s answers at %s, data in %s", VERSION, url, home.path)
        await ending.wait()
        _log.info("ending: running jobs go on and are adopted by the next start")
        home.withdraw()
        broker.services.draining = True
        for task in kept:
            task.cancel()
        broker.services.bus.close()
        server.should_exit = True
        await serving


async def _kept(name: str, part: Callable[[], Awaitable[None]]) -> None:
    """A part that breaks is logged and started again: the others, and what runs, are not to suffer for it."""
    while True:
        try:
            await part()
        except BrokerError as error:
            _log.warning("%s: %s", name, error)
        except Exception:
            _log.exception("%s broke and is started again", name)
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


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError, such as EADDRINUSE."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


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
