"""One attempt of a job: launched or adopted, heard and written down, made to obey its owner, and judged at its end."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from broker.crashpoint import crash_here
from broker.engines.base import AttemptRef, Engine, Exit, Handle
from broker.engines.plain import read_plain
from broker.errors import (
    AlreadyLaunched,
    AttemptGone,
    Conflict,
    EngineError,
    EngineUnreachable,
    LedgerFull,
    NotFound,
    StaleFence,
)
from broker.ledger.records import AttemptUpdate, Change
from broker.protocol.job import ACTIVE, Attempt, Checkpoint, EndReason, Intent, Job, JobState, TrainWork
from broker.protocol.training import RESULT_NAME, TrainerResult
from broker.supervisor import work
from broker.supervisor.hearing import Hearing
from broker.supervisor.lease import Lease
from broker.supervisor.means import Means
from broker.supervisor.verdict import Ending, Verdict, judge

BRIEF_S = 0.02  # a command that ends sooner goes from starting to its end in one step
RETRY_S = 5.0  # after an engine could not be reached, or something broke
SOON_S = 0.5  # the first time: a sandbox that was killed is known to be gone in a moment
_FULL_RETRY_S = 1.0  # while the ledger's disk is full
_log = logging.getLogger(__name__)


class Run:
    """`job` comes with its spec. `supervise` is run once, `heed` called whenever its owner wants something."""

    def __init__(self, means: Means, job: Job, attempt: Attempt, adopted: bool) -> None:
        self._means = means
        self._adopted = adopted
        self._handle: Handle | None = None
        self._intent: Intent | None = job.intent if adopted else None
        self._heeded = False
        self._tries = 0  # in a row without a handle
        self._stopping = False
        self._state = job.state
        self._born_seq = means.ledger.seq  # what was asked of this attempt was asked later
        self.job = job
        self.attempt = attempt
        self.ref = AttemptRef(means.ledger.broker_id, job.id, attempt.fence)
        self.hearing = Hearing(means, job, attempt)
        self._lease = Lease(Path(attempt.directory), self._self_fencing_s())
        if adopted:
            self._lease.find()
        self.settled = asyncio.Event()  # it is known whether it runs
        self.doing = ""  # what takes time before it starts
        self.over = False  # nothing of it runs, and the ledger's next word about it is its end

    @property
    def handle(self) -> Handle | None:
        """None while it is not known whether it runs."""
        return self._handle

    # --- the story ---

    async def supervise(self) -> None:
        """Until the attempt has its verdict. Whatever breaks on the way is logged, and tried again."""
        while True:
            try:
                if self._lease.over:
                    await self._give_up()
                else:
                    async with self._lease.limits(self.attempt.node):
                        await self._follow()
            except EngineUnreachable as error:
                await self._guard(self._lost_sight(str(error)))
            except (Conflict, NotFound) as error:  # a person has resolved it, another attempt took over, it was removed
                _log.warning("%s: %s", self.ref.name, error)
                if not await self._guard(self._still_ours()):
                    return
            except LedgerFull as error:
                _log.warning("%s goes on; what it says is written down later: %s", self.ref.name, error)
            except Exception:
                _log.exception("supervision of %s broke; it goes on in %g s", self.ref.name, RETRY_S)
            else:
                return
            finally:
                self.settled.set()
            self._adopted = True  # whatever we did not hear of, its engine knows
            await asyncio.sleep(self._lease.left_s(min(RETRY_S, SOON_S * 2 ** min(self._tries, 10))))
            self._tries += 1
            if not await self._guard(self._still_ours()):
                return

    def heed(self) -> None:
        """Its owner wants something of it: the ledger says what."""
        self._heeded = True
        self._means.spawn(self._obey(), f"obey {self.ref.name}")

    async def _obey(self) -> None:
        await self.settled.wait()
        job = await self._means.ledger.job(self.job.id)
        if job.fence != self.attempt.fence or job.state not in ACTIVE or job.intent is None:
            return
        self._intent = job.intent
        handle = self._handle  # None: it is out of reach, and is told as soon as it is found
        if handle is None or (self._stopping and job.intent is not Intent.KILL):
            return
        self._stopping = True
        while handle is self._handle:
            try:
                return await self._tell(handle, job.intent)
            except EngineUnreachable as error:
                _log.warning("%s is told again to end: %s", self.ref.name, error)
                await asyncio.sleep(RETRY_S)

    async def _tell(self, handle: Handle, intent: Intent) -> None:
        if intent is not Intent.KILL:
            await handle.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(await self._grace_s(intent)):
                    await handle.wait()
                    return
            _log.warning("%s did not leave in time and is killed", self.ref.name)
        await handle.kill()

    async def _follow(self) -> None:
        handle = await self._begin()
        if handle is None:
            return
        self._handle, self._stopping, self._tries = handle, False, 0
        self.settled.set()
        ended = asyncio.ensure_future(handle.wait())
        if self._intent is not None:
            self._means.spawn(self._obey(), f"obey {self.ref.name}")
        try:
            async with self._lease.kept(self._means.engines[self.attempt.node]):
                await self._hear_out(handle, ended)
                exit = await ended
            self._lease.unlimited()
            await self._conclude(handle, exit)
        finally:
            self._handle = None
            ended.cancel()

    async def _begin(self) -> Handle | None:
        """Its handle, or None when it has none and never will."""
        engine = self._means.engines.get(self.attempt.node)
        if engine is None:
            raise EngineUnreachable(f"there is no node {self.attempt.node} in the settings any more")
        try:
            if self._adopted:
                handle = await self._attach(engine)
                if self._state is JobState.UNKNOWN:
                    await self._running(handle, "seen again")
                return handle
            if self._heeded and (intent := (await self._means.ledger.job(self.job.id)).intent) is not None:
                self._intent = intent
                await self._decide(Exit(None), None)
                return None
            return await self._launch(engine)
        except AttemptGone as error:
            await self._never_started(str(error))
        except EngineUnreachable:
            raise
        except EngineError as error:
            await self._end(Verdict(JobState.FAILED, EndReason.LAUNCH_FAILED, str(error)), Exit(None))
        return None

    async def _launch(self, engine: Engine) -> Handle:
        config, told = None, dict[str, str]()
        if isinstance(work.spec_of(self.job).work, TrainWork):
            config = work.train_config(self.job, self.attempt, self._means.settings, *await self._earlier())
        try:
            if config is not None:
                work.make_directory(self.attempt)
                told = self._lease.grant()
            launch = work.prepare(self.job, self.attempt, self.ref, self._means.trainer, config, told=told)
        except OSError as error:
            raise EngineError(
                f"the attempt's directory cannot be made ({error}); nothing was started: make room there, "
                f"then `wyolo resume {self.job.id}`"
            ) from error
        try:
            async with self._lease.kept(engine):
                handle = await engine.launch(replace(launch, tell=self._prepares))
        except AlreadyLaunched:
            return await self._attach(engine)
        finally:
            self.doing = ""
        crash_here("after-spawn")
        return handle

    async def _prepares(self, what: str) -> None:
        """Its engine gets ready: told to who asks, and written down when it begins. Raises AttemptGone when its owner
        wants it to end."""
        if self._heeded:
            raise AttemptGone(f"it was given up before it started: {what}")
        if not self.doing:
            with suppress(LedgerFull):
                await self._advance("prepare", message=what)
        self.doing = what
        self._means.told()

    async def _attach(self, engine: Engine) -> Handle:
        return await engine.attach(self.ref, Path(self.attempt.directory), self.attempt.engine_ref)

    async def _earlier(self) -> tuple[Sequence[Any], int | None]:
        """Checkpoints of earlier attempts, newest first, and the batch that one of them resolved."""
        if self.attempt.fence == 1:
            return (), None
        checkpoints = await self._kept()
        training = work.spec_of(self.job).work
        assert isinstance(training, TrainWork)
        batch: int | None = None
        if work.wants_resolved_batch(training):
            for entry in await self._means.ledger.audit(self.job.id):
                if entry.verb == "started" and isinstance(entry.data.get("batch"), int):
                    batch = entry.data["batch"]
        return checkpoints, batch

    async def _kept(self) -> list[Checkpoint]:
        """Newest first. What was never fetched from a node that shares no files with us is lost with that node."""
        found = await self._means.ledger.checkpoints(self.job.id)
        jobs = Path(self.attempt.directory).parent.parent
        far = {node.name for node in self._means.settings.nodes if not node.shares(jobs)}
        if not far:
            return found
        there = {each.fence for each in await self._means.ledger.attempts(self.job.id) if each.node in far}
        return await asyncio.to_thread(work.present, found, there)

    async def _hear_out(self, handle: Handle, ended: "asyncio.Future[Exit]") -> None:
        """Everything it says, until it has ended and all was read."""
        if self.job.kind == "command" and self._state is JobState.STARTING:
            await asyncio.wait({ended}, timeout=BRIEF_S)
            if not ended.done():
                await self._running(handle)

        async def speaks() -> None:
            if self._state is JobState.STARTING:
                await self._running(handle)

        async for batch in handle.lines(self.hearing.account.log_offset):
            await self.hearing.take_in(handle, batch, speaks)

    # --- what the ledger is told ---

    async def _running(self, handle: Handle, message: str = "") -> None:
        update = AttemptUpdate(engine_ref=handle.engine_ref or None, image=handle.image or None)
        self._state = (await self._advance("run", to=JobState.RUNNING, message=message, attempt=update)).state
        crash_here("after-running")

    async def _lost_sight(self, why: str) -> None:
        if self._state is not JobState.UNKNOWN:
            _log.warning("%s is unknown: %s", self.ref.name, why)
            self._means.silent(self.attempt.node)
            message = f"{why}; nothing is started in its place until it is found, or `wyolo resolve` says it is gone"
            self._state = (await self._advance("lose", to=JobState.UNKNOWN, message=message)).state

    async def _never_started(self, why: str) -> None:
        """Back into the queue; nobody died."""
        if self._state is not JobState.STARTING or self._intent is not None:
            await self._decide(Exit(None), None)
            return
        _log.info("%s: %s", self.ref.name, why)
        now = self._means.clock()
        update = AttemptUpdate(ended_at=now, reason=EndReason.INTERRUPTED, message=why)
        not_before = None if self._adopted else now + timedelta(seconds=RETRY_S)
        try:
            await self._advance(
                "requeue", to=JobState.QUEUED, wish=None, message=why, not_before=not_before, attempt=update
            )
        except Conflict as error:
            await self._hear_late_wish(error, None)
            await self._decide(Exit(None), None)

    async def _conclude(self, handle: Handle, exit: Exit) -> None:
        result = None
        if self.job.kind == "train":
            with suppress(FileNotFoundError, ValidationError):
                result = TrainerResult.model_validate_json(await handle.fetch(RESULT_NAME))
        await self.hearing.complete(handle.fetch)
        await self._until_there_is_room(self.hearing.flush)
        await self._decide(exit, result)

    async def _give_up(self) -> None:
        """Its node is out of reach, and it has left by itself by now."""
        why = f"{self.attempt.node} could not be reached for {self._lease.held_s:g} s, and the training left by itself"
        await self._bury()
        await self._decide(Exit(None), None, lost=why)

    async def _bury(self) -> None:
        """Nobody but its directory can tell of it any more."""
        self._lease.revoke()

        async def fetch(name: str) -> bytes:
            return await asyncio.to_thread(read_plain, Path(self.attempt.directory) / name)

        await self.hearing.complete(fetch)
        await self._until_there_is_room(self.hearing.flush)

    async def _decide(self, exit: Exit, result: TrainerResult | None, lost: str = "") -> None:
        if self._heeded and self._intent is None:  # it may have ended between the wish and our hearing of it
            self._intent = (await self._means.ledger.job(self.job.id)).intent
        kept = await self._kept() if self.job.kind == "train" else []
        settings = self._means.settings
        ending = Ending(
            job_id=self.job.id,
            kind=self.job.kind,
            fence=self.attempt.fence,
            exit=exit,
            now=self._means.clock(),
            intent=self._intent,
            result=result,
            failed=self.hearing.account.failed,
            kept=kept[0] if kept else None,
            progressed=self.hearing.account.progressed or any(each.attempt == self.attempt.fence for each in kept),
            infra_deaths=self.job.infra_deaths,
            lost=lost,
            last_lines=tuple(self.hearing.last_lines),
            max_infra_deaths=settings.max_infra_deaths,
            backoff_s=settings.backoff_s,
            jitter=random.random(),
        )
        try:
            await self._end(judge(ending), exit, ending.intent)
        except Conflict as error:
            await self._hear_late_wish(error, ending.intent)
            await self._decide(exit, result, lost)

    async def _hear_late_wish(self, conflict: Conflict, heard: Intent | None) -> None:
        """What was asked before the way back into the queue was written down counts. Raises the conflict when that is
        not why it came. `heard`: the wish that was known."""
        if not await self._still_ours() or self._intent is heard:
            raise conflict

    async def _end(self, verdict: Verdict, exit: Exit, heard: Intent | None = None) -> None:
        rank = None
        if verdict.reason is EndReason.PREEMPTED:
            rank = await self._place_in_queue(heard)
        update = AttemptUpdate(
            engine_ref=(self._handle.engine_ref or None) if self._handle is not None else None,
            ended_at=self._means.clock(),
            exit_code=exit.code,
            reason=verdict.reason,
            message=verdict.message,
            image=(self._handle.image or None) if self._handle is not None else None,
        )

        async def write() -> None:
            self.over = True
            self._means.room()  # whoever starts in its place does so after this
            await self._advance(
                _VERBS[verdict.to],
                to=verdict.to,
                wish=heard if verdict.to is JobState.QUEUED else "any",
                reason=verdict.reason,
                message=verdict.message,
                not_before=verdict.not_before,
                infra_deaths=verdict.infra_deaths,
                rank=rank,
                attempt=update,
            )

        crash_here("before-final-commit")
        await self._until_there_is_room(write)
        crash_here("after-final-commit")

    async def _place_in_queue(self, heard: Intent | None) -> float | None:
        """Who makes way is the last of its priority; who was moved away is next again, as its own rank has it or
        else before all that wait. None: its rank is right."""
        job = await self._means.ledger.job(self.job.id)
        first, last = await self._means.ledger.bounds(job.priority)
        if heard is Intent.EVICT:
            return None if first is None or job.rank < first else first - 1
        return None if last is None else last + 1

    async def _advance(self, verb: str, **changes: Any) -> Job:
        return await self._means.ledger.advance(
            Change(self.job.id, verb, expect=ACTIVE, fence=self.attempt.fence, **changes)
        )

    # --- odds ---

    async def resolve(self, alive: bool, by: str) -> None:
        """A person's word, while its engine is out of reach. Raises Conflict when it was found meanwhile."""
        if self._state is not JobState.UNKNOWN:
            raise Conflict(f"job {self.job.id} is not unknown any more: it is {self._state}")
        if alive:
            await self._advance("resolve", by=by, message=f"{by or 'someone'} says that it is alive: we go on looking")
        else:
            await self._bury()
            await self._decide(Exit(None), None, lost=f"{by or 'someone'} says that it is gone")

    def _self_fencing_s(self) -> float:
        """As the operator wants it on its node; the lease is a file, which both sides must see."""
        settings = self._means.settings
        for node in settings.nodes if self.job.kind == "train" else ():
            if node.name == self.attempt.node and node.shares(settings.data_dir / "jobs"):
                return node.self_fencing_s
        return 0.0

    async def _grace_s(self, intent: Intent) -> float:
        """As asked with the newest wish, else the setting."""
        grace = self._means.settings.grace_s
        after = 0 if self._adopted else self._born_seq
        for entry in await self._means.ledger.audit(self.job.id, after=after, limit=1_000_000):
            if entry.verb == intent.value and isinstance(entry.data.get("grace_s"), int | float):
                grace = float(entry.data["grace_s"])
        return grace

    async def _still_ours(self) -> bool:
        job = await self._means.ledger.job(self.job.id)
        self._intent = job.intent
        return job.fence == self.attempt.fence and job.state in ACTIVE

    async def _guard(self, step: Coroutine[Any, Any, bool | None]) -> bool:
        """False when the job is not ours any more. What else breaks here is met again on the next try."""
        try:
            return await step is not False
        except NotFound:
            return False
        except Conflict as error:
            _log.warning("%s: %s", self.ref.name, error)
            return not isinstance(error, StaleFence)
        except LedgerFull as error:
            _log.warning("%s: %s", self.ref.name, error)
            return True

    async def _until_there_is_room(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                return await write()
            except LedgerFull as error:
                _log.warning("the end of %s waits to be written down: %s", self.ref.name, error)
                await asyncio.sleep(_FULL_RETRY_S)


_VERBS = {
    JobState.COMPLETED: "complete",
    JobState.FAILED: "fail",
    JobState.STOPPED: "end",
    JobState.QUEUED: "requeue",
}
