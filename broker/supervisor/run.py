"""One attempt of a job: launched or adopted, heard, made to obey its owner, and brought to its end."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from broker.engines.base import AttemptRef, Exit, Handle
from broker.errors import AttemptGone, Conflict, EngineError, EngineUnreachable, LedgerFull, NotFound, StaleFence
from broker.protocol.job import Attempt, Job
from broker.protocol.states import ACTIVE, Intent, JobState
from broker.settings import Settings
from broker.supervisor.closing import Closing
from broker.supervisor.hearing import Hearing
from broker.supervisor.launching import Launching
from broker.supervisor.lease import Lease
from broker.supervisor.means import Means
from broker.supervisor.standing import Standing

BRIEF_S = 0.02  # a command that ends sooner goes from starting to its end in one step
RETRY_S = 5.0  # after an engine could not be reached, or something broke
SOON_S = 0.5  # the first time: a sandbox that was killed is known to be gone in a moment
_log = logging.getLogger(__name__)


class Run:
    """`job` comes with its spec. `supervise` is run once, `heed` called whenever its owner wants something."""

    def __init__(self, means: Means, job: Job, attempt: Attempt, adopted: bool) -> None:
        self._means = means
        self._adopted = adopted
        self._handle: Handle | None = None
        self._tries = 0  # in a row without a handle
        self._stopping = False
        self._born_seq = means.ledger.seq  # what was asked of this attempt was asked later
        self.job = job
        self.attempt = attempt
        self._standing = Standing(means, job, attempt, job.intent if adopted else None)
        self.hearing = Hearing(means, job, attempt, self._standing.directory)
        self._lease = Lease(self._standing.directory, _self_fencing_s(means.settings, job, attempt))
        if adopted:
            self._lease.find()
        self._launching = Launching(means, self._standing, self._lease)
        self._closing = Closing(means, self._standing, self.hearing, self._lease)
        self.settled = asyncio.Event()  # it is known whether it runs

    @property
    def ref(self) -> AttemptRef:
        return self._standing.ref

    @property
    def handle(self) -> Handle | None:
        """None while it is not known whether it runs."""
        return self._handle

    @property
    def doing(self) -> str:
        """What takes time before it starts; '' for nothing."""
        return self._launching.doing

    @property
    def over(self) -> bool:
        """Nothing of it runs, and the ledger's next word about it is its end."""
        return self._closing.over

    # --- the story ---

    async def supervise(self) -> None:
        """Until the attempt has its verdict. Whatever breaks on the way is logged, and tried again."""
        while True:
            try:
                if self._lease.over:
                    await self._closing.gone(
                        f"{self.attempt.node} could not be reached for {self._lease.held_s:g} s, "
                        "and the training left by itself"
                    )
                else:
                    async with self._lease.limits(self.attempt.node):
                        await self._follow()
            except EngineUnreachable as error:
                await self._guard(self._standing.lost_sight(str(error)))
            except (Conflict, NotFound) as error:  # a person has resolved it, another attempt took over, it was removed
                _log.warning("%s: %s", self.ref.name, error)
                if not await self._guard(self._standing.still_ours()):
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
            if not await self._guard(self._standing.still_ours()):
                return

    async def _follow(self) -> None:
        handle = await self._begin()
        if handle is None:
            return
        self._handle, self._stopping, self._tries = handle, False, 0
        self.settled.set()
        ended = asyncio.ensure_future(handle.wait())
        if self._standing.intent is not None:
            self._means.spawn(self._obey(), f"obey {self.ref.name}")
        try:
            async with self._lease.kept(self._means.engines[self.attempt.node]):
                await self._hear_out(handle, ended)
                exit = await ended
            self._lease.unlimited()
            await self._closing.ended(handle, exit)
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
                handle = await self._launching.attach(engine)
                if self._standing.state is JobState.UNKNOWN:
                    await self._standing.runs(handle, "seen again")
                return handle
            if await self._standing.wish() is not None:
                await self._closing.given_up()
                return None
            return await self._launching.launch(engine)
        except AttemptGone as error:
            await self._closing.never_started(str(error), wait_s=0 if self._adopted else RETRY_S)
        except EngineUnreachable:
            raise
        except EngineError as error:
            await self._closing.refused(str(error))
        return None

    async def _hear_out(self, handle: Handle, ended: "asyncio.Future[Exit]") -> None:
        """Everything it says, until it has ended and all was read."""
        if self.job.kind == "command" and self._standing.state is JobState.STARTING:
            await asyncio.sleep(0)  # it may have ended already
            if not ended.done():
                await asyncio.wait({ended}, timeout=BRIEF_S)
            if not ended.done():
                await self._standing.runs(handle)

        async def speaks() -> None:
            if self._standing.state is JobState.STARTING:
                await self._standing.runs(handle)

        async for batch in handle.lines(self.hearing.account.log_offset):
            await self.hearing.take_in(handle, batch, speaks)

    # --- its owner, and other people ---

    def heed(self) -> None:
        """Its owner wants something of it: the ledger says what."""
        self._standing.heeded = True
        self._means.spawn(self._obey(), f"obey {self.ref.name}")

    async def _obey(self) -> None:
        await self.settled.wait()
        job = await self._means.ledger.job(self.job.id)
        if job.fence != self.attempt.fence or job.state not in ACTIVE or job.intent is None:
            return
        self._standing.intent = job.intent
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
            except EngineError as error:  # asking again would change nothing, but its owner may, and ask again
                self._stopping = False
                _log.warning("%s cannot be told to end: %s", self.ref.name, error)
                await self._guard(self._standing.note(f"{job.intent} failed: {error}"))
                return

    async def _tell(self, handle: Handle, intent: Intent) -> None:
        if intent is not Intent.KILL:
            with suppress(TimeoutError):
                async with asyncio.timeout(await self._grace_s(intent)):
                    await handle.stop()
                    await handle.wait()
                    return
            _log.warning("%s did not leave in time and is killed", self.ref.name)
        await handle.kill()

    async def _grace_s(self, intent: Intent) -> float:
        """As asked with the newest wish, else the setting."""
        grace = self._means.settings.grace_s
        after = 0 if self._adopted else self._born_seq
        for entry in await self._means.ledger.audit(self.job.id, after=after, limit=1_000_000):
            if entry.verb == intent.value and isinstance(entry.data.get("grace_s"), int | float):
                grace = float(entry.data["grace_s"])
        return grace

    async def resolve(self, alive: bool, by: str) -> None:
        """A person's word, while its engine is out of reach. Raises Conflict when it was found meanwhile."""
        if self._standing.state is not JobState.UNKNOWN:
            raise Conflict(f"job {self.job.id} is not unknown any more: it is {self._standing.state}")
        if alive:
            await self._standing.advance(
                "resolve", by=by, message=f"{by or 'someone'} says that it is alive: we go on looking"
            )
        else:
            await self._closing.gone(f"{by or 'someone'} says that it is gone")

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


def _self_fencing_s(settings: Settings, job: Job, attempt: Attempt) -> float:
    """As the operator wants it on the attempt's node; the lease is a file, which both sides must see."""
    for node in settings.nodes if job.kind == "train" else ():
        if node.name == attempt.node and node.shares(settings.data_dir / "jobs"):
            return node.self_fencing_s
    return 0.0
