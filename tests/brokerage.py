"""Ledger, Redis, engine, supervisor and scheduler put together in a test, without the API: `async with Broker(...)`.

Leaving it and entering a new one on the same directory is a restart; jobs go on running in between. `finish` ends them.
"""

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from broker.beside import LOG, beside
from broker.bus import Bus
from broker.engines.attempt import LocalAttempt
from broker.engines.base import AttemptRef, Inventory
from broker.engines.local import LocalEngine
from broker.errors import Conflict, EngineUnreachable
from broker.ledger.ledger import Ledger
from broker.ledger.records import Change, NewJob
from broker.protocol.fleet import HostSample
from broker.protocol.job import CommandWork, Job, JobSpec, Resources, TrainWork
from broker.protocol.states import ACTIVE, FINAL, Intent, JobState
from broker.queue import Queue
from broker.redis_server import RedisServer
from broker.scheduler.scheduler import Scheduler
from broker.settings import NodeSettings, Settings
from broker.supervisor.supervisor import Supervisor
from tests.waiting import until, until_awaited


class Gauges:
    cpus = 64.0
    memory_mib = 1 << 20
    gpu_uuids: Sequence[str] = ()

    async def sample(self) -> HostSample:
        raise AssertionError("nobody asked")


class Engine(LocalEngine):
    """One that can be out of reach."""

    away = False

    async def inventory(self) -> Inventory:
        self._reach()
        return await super().inventory()

    async def contact(self) -> None:
        self._reach()

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> LocalAttempt:
        self._reach()
        return await super().attach(ref, directory, engine_ref)

    def _reach(self) -> None:
        if self.away:
            raise EngineUnreachable("local does not answer")


class Broker:
    def __init__(
        self,
        directory: Path,
        url: str,
        *,
        slots: int = 4,
        gpus: Sequence[str] = (),
        away: bool = False,
        **settings: Any,
    ) -> None:
        nodes = [NodeSettings.model_validate({"slots": slots})]
        values: dict[str, Any] = {"data_dir": directory, "nodes": nodes, "backoff_s": 0, **settings}
        self.settings = Settings(**values)
        self._url = url
        self._gpus = gpus
        self._away = away
        self._stack = AsyncExitStack()
        self.trainer = directory / "trainer.py"

    async def __aenter__(self) -> Self:
        self.settings.data_dir.mkdir(exist_ok=True)
        gauges = Gauges()
        gauges.gpu_uuids = self._gpus
        self.bus = Bus()
        self.ledger = await Ledger.open(self.settings.data_dir / "ledger.sqlite", self.bus)
        self._stack.push_async_callback(self.ledger.close)
        self.queue = Queue(self._url, self.ledger.broker_id)
        self._stack.push_async_callback(self.queue.close)
        self.engine = Engine("local", self.ledger.broker_id, gauges, self.settings.log_keep_mib)
        self.engine.away = self._away
        self._stack.push_async_callback(self.engine.close)
        engines = {"local": self.engine}
        self.supervisor = Supervisor(
            self.ledger,
            self.queue,
            bus=self.bus,
            settings=self.settings,
            engines=engines,
            trainer=lambda config: (sys.executable, str(self.trainer), str(config)),
        )
        await self._stack.enter_async_context(self.supervisor)
        self.scheduler = Scheduler(
            self.ledger, self.queue, self.supervisor, bus=self.bus, settings=self.settings, engines=engines
        )
        self.adopted = await self.supervisor.adopt()
        loop = asyncio.create_task(self.scheduler.run(), name="scheduler")

        async def stop() -> None:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop

        self._stack.push_async_callback(stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def recover(self, timeout: float = 20.0) -> None:
        """Redis has been found again and filled."""
        await until(lambda: self.scheduler.redis == "ok", timeout, "Redis in order")

    async def finish(self) -> None:
        """Nothing of it runs any more. For teardown."""
        self.engine.away = False
        while active := await self.ledger.active():  # what is killed makes room for what waits
            for each in active:
                with suppress(Conflict):  # it has just ended by itself
                    await self.want(each.job.id, Intent.KILL)
            for each in active:
                await self.ended(each.job.id)

    async def command(self, *argv: str, **resources: Any) -> int:
        spec = JobSpec(work=CommandWork(argv=list(argv)), resources=Resources(**resources))
        return await self.submit(spec)

    async def shell(self, script: str) -> int:
        return await self.command("sh", "-c", script)

    async def train(self, trainer: str, **args: Any) -> int:
        """A training whose trainer is this Python text; it begins with FAKE_TRAINER."""
        self.trainer.write_text(FAKE_TRAINER + textwrap.dedent(trainer))
        return await self.submit(JobSpec(work=TrainWork(model="yolov8n.yaml", args={"epochs": 3, **args})))

    async def submit(self, spec: JobSpec) -> int:
        [made] = await self.ledger.submit([NewJob(spec)])
        self.scheduler.wake()
        return made.id

    async def want(self, job_id: int, intent: Intent, **data: Any) -> None:
        """As Control does it."""
        await self.ledger.advance(Change(job_id, intent.value, expect=ACTIVE, intent=intent, data=data))
        self.supervisor.heed(job_id)

    async def reached(self, job_id: int, *states: JobState) -> Job:
        """The job once it is in one of these states."""

        async def there() -> Job | None:
            job = await self.ledger.job(job_id)
            return job if job.state in states else None

        return await _first(there, f"job {job_id} in {', '.join(states)}")

    async def ended(self, job_id: int) -> Job:
        return await self.reached(job_id, *FINAL)

    async def output(self, job_id: int) -> str:
        """Of the newest attempt so far."""
        attempts = await self.ledger.attempts(job_id)
        path = beside(Path(attempts[-1].directory), LOG)
        return path.read_text(errors="replace") if path.exists() else ""

    async def says(self, job_id: int, text: str) -> None:
        async def there() -> bool:
            return bool(await self.ledger.attempts(job_id)) and text in await self.output(job_id)

        await until_awaited(there, what=f"{text!r} from job {job_id}")


async def _first(probe: Callable[[], Awaitable[Job | None]], what: str) -> Job:
    found = await until_awaited(probe, what=what)
    assert found is not None
    return found


Start = Callable[..., Awaitable[Broker]]


@pytest.fixture
async def start(tmp_path: Path, redis: RedisServer) -> AsyncIterator[Start]:
    """`await start()` is a broker on the test's directory; a second call is its restart."""
    stack = AsyncExitStack()
    last: list[Broker] = []

    async def start(**settings: Any) -> Broker:
        await stack.aclose()
        last.append(await stack.enter_async_context(Broker(tmp_path / "data", redis.url, **settings)))
        return last[-1]

    yield start
    if last:
        await last[-1].finish()
    await stack.aclose()


FAKE_TRAINER = r"""
import datetime, json, os, pathlib, signal, sys, time

config = json.loads(pathlib.Path(sys.argv[1]).read_text())
here = pathlib.Path(config["directory"])
n = 0
silent = False  # the log misses what is said; only events.jsonl has it

def emit(event, **fields):
    global n
    n += 1
    now = datetime.datetime.now(datetime.UTC).isoformat()
    line = json.dumps({"n": n, "at": now, "event": event, **fields})
    with (here / "events.jsonl").open("a") as file:
        file.write(line + "\n")
    if not silent:
        print("\x1e" + line, flush=True)

def started(first=1, batch=16):
    emit("started", versions={}, device="cpu", task="detect", batch=batch, imgsz=64, epochs=config["args"]["epochs"],
         first_epoch=first, train_images=1, val_images=1, classes=1, parameters=1, save_dir=str(here),
         fitness_name="mAP50")

def epoch(k):
    emit("epoch", epoch=k, epochs=config["args"]["epochs"], values={"loss": 1 / k}, fitness=k / 10, seconds=0.01)
    emit("checkpoint", checkpoint={"path": str(here / f"{k}.pt"), "epoch": k, "sha256": "0", "attempt": config["fence"],
         "at": datetime.datetime.now(datetime.UTC).isoformat()})

def result(ok=True, reason="completed", message="", code=0, fence=None):
    (here / "result.json").write_text(json.dumps(
        {"fence": fence or config["fence"], "ok": ok, "reason": reason, "message": message, "events": n}))
    sys.exit(code)

def on_sigterm(act):
    signal.signal(signal.SIGTERM, lambda *_: act())

def wait_for(name):
    while not (here / name).exists():
        time.sleep(0.01)

"""
