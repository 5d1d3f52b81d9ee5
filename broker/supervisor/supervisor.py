"""Every attempt that may be running has one run here, from its start or its adoption to its verdict."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from broker.bus import Bus
from broker.engines.base import AttemptRef, Engine, Handle
from broker.errors import BrokerError, Conflict
from broker.ledger.ledger import Ledger
from broker.protocol.event import Progressed
from broker.protocol.job import Attempt, Job
from broker.queue import Queue
from broker.settings import Settings
from broker.supervisor.means import Means
from broker.supervisor.mirror import Mirror
from broker.supervisor.orphans import Finder
from broker.supervisor.run import Run
from broker.supervisor.strangers import Strangers
from broker.supervisor.work import TrainerArgv, trainer_argv

_LAST_WORDS_S = 1.0  # for Redis, when the broker ends
_log = logging.getLogger(__name__)


class Supervisor:
    """`async with`: leaving it stops watching; what runs goes on running."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        bus: Bus,
        settings: Settings,
        engines: Mapping[str, Engine],
        on_end: Callable[[Job, Attempt], None] = lambda _job, _attempt: None,
        trainer: TrainerArgv | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`engines` by node. `on_end`: an attempt has its verdict, and what it held is free."""
        self._mirror = Mirror(queue)
        self._means = Means(
            ledger=ledger,
            mirror=self._mirror,
            bus=bus,
            settings=settings,
            trainer=trainer or trainer_argv(settings),
            engines=engines,
            clock=clock,
            spawn=self._spawn,
            silent=self._silent,
            told=self._told,
            room=self._room,
        )
        self._runs: dict[int, Run] = {}
        self.orphans = Finder(ledger, engines, jobs_directory(settings), self._refs, self.reconcile)
        self._strangers = Strangers(ledger, engines, jobs_directory(settings), self._refs)
        self._tasks = asyncio.TaskGroup()
        self._own: set[asyncio.Task[None]] = set()
        self._draining = False
        self._early: set[int] = set()  # jobs whose owners wanted something between their STARTING and their start here
        self.on_end = on_end
        self.on_silence: Callable[[str], None] = lambda _node: None  # nothing should start there until it answers
        self.on_told: Callable[[], None] = lambda: None  # what an attempt does before it starts
        self.on_room: Callable[[], None] = lambda: None  # an attempt has ended: its place can be given away

    @property
    def runs(self) -> Mapping[int, Run]:
        """By job; each holds its share of a node."""
        return self._runs

    def live(self, job_id: int) -> Progressed | None:
        """The newest progress of a running training."""
        run = self._runs.get(job_id)
        return None if run is None else run.hearing.progress

    def handle(self, job_id: int) -> Handle | None:
        """Of what runs now; None where there is none, or it is out of reach."""
        run = self._runs.get(job_id)
        return None if run is None else run.handle

    def doing(self, job_id: int) -> str:
        """What takes time before an attempt starts, such as the pull of its image; '' for nothing."""
        run = self._runs.get(job_id)
        return "" if run is None else run.doing

    def start(self, job: Job, attempt: Attempt) -> None:
        """Launch an attempt whose STARTING is in the ledger. `job` with its spec."""
        run = Run(self._means, job, attempt, adopted=False)
        self._supervise(run)
        if job.id in self._early or job.intent is not None:
            self._early.discard(job.id)
            run.heed()

    async def adopt(self) -> int:
        """As `take_up`. Returns how many, once it is known of each whether it runs, has ended, or cannot be reached."""
        runs = await self.take_up()
        for run in runs:
            await run.settled.wait()
        return len(runs)

    async def take_up(self) -> Sequence[Run]:
        """Look for every attempt that the ledger calls active and nobody here watches, each for itself: one that cannot
        be reached holds up no other. From now on they hold their places."""
        active = [each for each in await self._means.ledger.active() if each.job.id not in self._runs]
        runs = [Run(self._means, each.job, each.attempt, adopted=True) for each in active]
        for run in runs:
            self._supervise(run)
        return runs

    def heed(self, job_id: int) -> None:
        """The intent of a job has changed."""
        run = self._runs.get(job_id)
        if run is None:
            self._early.add(job_id)
        else:
            run.heed()

    async def resolve(self, job_id: int, alive: bool, by: str) -> Job:
        """A person's word about an UNKNOWN job. Raises Conflict, NotFound."""
        run = self._runs.get(job_id)
        if run is None:
            raise Conflict(f"job {job_id} is not unknown: nothing was changed")
        await run.resolve(alive, by)
        if not alive:
            self._forget(run)
        return await self._means.ledger.job(job_id)

    async def reconcile(self) -> int:
        """End what is found under our name and should not be there: an attempt that the ledger does not call active.
        Returns how many. Engines that cannot be reached are left for the next time."""
        return await self._strangers.end()

    async def drain(self) -> None:
        """Stop watching, write down what was read; what runs goes on."""
        self._draining = True
        for task in self._own:
            task.cancel()
        await asyncio.gather(*self._own, return_exceptions=True)
        for run in self._runs.values():
            try:
                await run.hearing.flush()
            except BrokerError as error:
                _log.warning("the last lines of %s are read again after the restart: %s", run.ref.name, error)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._mirror.flush()

    async def __aenter__(self) -> Self:
        jobs_directory(self._means.settings).mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._tasks.__aenter__()
        self._spawn(self._mirror.run(), "mirror")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        await self._tasks.__aexit__(None, None, None)

    def _refs(self) -> set[AttemptRef]:
        return {run.ref for run in self._runs.values()}

    def _supervise(self, run: Run) -> None:
        self._runs[run.job.id] = run
        self._spawn(self._to_the_end(run), run.ref.name)

    async def _to_the_end(self, run: Run) -> None:
        await run.supervise()
        self._forget(run)

    def _room(self) -> None:
        self.on_room()

    def _silent(self, node: str) -> None:
        self.on_silence(node)

    def _told(self) -> None:
        self.on_told()

    def _forget(self, run: Run) -> None:
        if self._runs.get(run.job.id) is run:
            del self._runs[run.job.id]
            self.on_end(run.job, run.attempt)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if self._draining:
            work.close()
            return
        task = self._tasks.create_task(_edge(work, name), name=name)
        self._own.add(task)
        task.add_done_callback(self._own.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before it began


def jobs_directory(settings: Settings) -> Path:
    """Attempts live in <this>/<job>/<fence>."""
    return settings.data_dir / "jobs"


async def _edge(work: Coroutine[Any, Any, None], name: str) -> None:
    """One task that breaks does not take the others with it."""
    try:
        await work
    except Exception:
        _log.exception("task %s broke", name)
