"""The end of an attempt: the last of it heard, judged with what its owner wanted, and written down."""

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta

from pydantic import ValidationError

from broker.crashpoint import crash_here
from broker.engines.base import Exit, Handle
from broker.errors import Conflict
from broker.ledger.records import AttemptUpdate
from broker.plain import read_plain
from broker.protocol.states import EndReason, Intent, JobState
from broker.protocol.training import RESULT_NAME, TrainerResult
from broker.supervisor.hearing import Fetch, Hearing
from broker.supervisor.lease import Lease
from broker.supervisor.means import Means
from broker.supervisor.standing import Standing
from broker.supervisor.verdict import Ending, Verdict, judge

_VERBS = {
    JobState.COMPLETED: "complete",
    JobState.FAILED: "fail",
    JobState.STOPPED: "end",
    JobState.QUEUED: "requeue",
}
_log = logging.getLogger(__name__)


class Closing:
    def __init__(self, means: Means, standing: Standing, hearing: Hearing, lease: Lease) -> None:
        self._means = means
        self._standing = standing
        self._hearing = hearing
        self._lease = lease
        self._job = standing.job
        self._attempt = standing.attempt
        self.over = False  # nothing of it runs, and the ledger's next word about it is its end

    # --- the ways in which it ends ---

    async def ended(self, handle: Handle, exit: Exit) -> None:
        """It ran, and left."""
        result = None
        if self._job.kind == "train":
            with suppress(FileNotFoundError, ValidationError):
                result = TrainerResult.model_validate_json(await handle.fetch(RESULT_NAME))
        said = result.events if result is not None and result.fence == self._attempt.fence else 0
        await self._hear_the_last(handle.fetch, said)
        await self._decide(exit, result, handle=handle)

    async def gone(self, why: str) -> None:
        """Its engine is out of reach, and nothing of it runs any more: its directory alone can tell of it."""
        self._lease.revoke()

        async def fetch(name: str, last: int | None = None) -> bytes:
            return await asyncio.to_thread(read_plain, self._standing.directory / name, last)

        await self._hear_the_last(fetch)
        await self._decide(Exit(None), lost=why)

    async def given_up(self) -> None:
        """Its owner wanted it to end, and it never started."""
        await self._decide(Exit(None))

    async def refused(self, why: str) -> None:
        """Its engine says that it can never be started."""
        await self._end(Verdict(JobState.FAILED, EndReason.LAUNCH_FAILED, why), Exit(None))

    async def never_started(self, why: str, *, wait_s: float) -> None:
        """Back into the queue, for at least so long; nobody died."""
        if self._standing.state is not JobState.STARTING or self._standing.intent is not None:
            await self._decide(Exit(None))
            return
        _log.info("%s: %s", self._standing.ref.name, why)
        now = self._means.clock()
        update = AttemptUpdate(ended_at=now, reason=EndReason.INTERRUPTED, message=why)
        not_before = now + timedelta(seconds=wait_s) if wait_s else None
        try:
            await self._standing.advance(
                "requeue", to=JobState.QUEUED, wish=None, message=why, not_before=not_before, attempt=update
            )
        except Conflict as error:
            await self._hear_late_wish(error, None)
            await self._decide(Exit(None))

    # --- one verdict ---

    async def _hear_the_last(self, fetch: Fetch, said: int = 0) -> None:
        await self._hearing.complete(fetch, said)
        await self._standing.until_there_is_room(self._hearing.flush)

    async def _decide(
        self, exit: Exit, result: TrainerResult | None = None, *, lost: str = "", handle: Handle | None = None
    ) -> None:
        kept = await self._standing.checkpoints() if self._job.kind == "train" else []
        intent = await self._standing.wish()
        settings = self._means.settings
        account = self._hearing.account
        ending = Ending(
            job_id=self._job.id,
            kind=self._job.kind,
            fence=self._attempt.fence,
            exit=exit,
            now=self._means.clock(),
            intent=intent,
            result=result,
            failed=account.failed,
            kept=kept[0] if kept else None,
            progressed=account.progressed or any(each.attempt == self._attempt.fence for each in kept),
            infra_deaths=self._job.infra_deaths,
            lost=lost,
            last_lines=tuple(self._hearing.last_lines),
            max_infra_deaths=settings.max_infra_deaths,
            backoff_s=settings.backoff_s,
            jitter=random.random(),
        )
        try:
            await self._end(judge(ending), exit, heard=intent, handle=handle)
        except Conflict as error:
            await self._hear_late_wish(error, intent)
            await self._decide(exit, result, lost=lost, handle=handle)

    async def _hear_late_wish(self, conflict: Conflict, heard: Intent | None) -> None:
        """What was asked before the way back into the queue was written down counts. Raises the conflict when that is
        not why it came. `heard`: the wish that was known."""
        if not await self._standing.still_ours() or self._standing.intent is heard:
            raise conflict

    async def _end(
        self, verdict: Verdict, exit: Exit, *, heard: Intent | None = None, handle: Handle | None = None
    ) -> None:
        rank = None
        if verdict.reason is EndReason.PREEMPTED:
            rank = await self._place_in_queue(heard)
        update = AttemptUpdate(
            engine_ref=(handle.engine_ref or None) if handle is not None else None,
            ended_at=self._means.clock(),
            exit_code=exit.code,
            reason=verdict.reason,
            message=verdict.message,
            image=(handle.image or None) if handle is not None else None,
        )

        async def write() -> None:
            self.over = True
            self._means.room()  # whoever starts in its place does so after this
            await self._standing.advance(
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
        await self._standing.until_there_is_room(write)
        crash_here("after-final-commit")

    async def _place_in_queue(self, heard: Intent | None) -> float | None:
        """Who makes way is the last of its priority; who was moved away is next again, as its own rank has it or
        else before all that wait. None: its rank is right."""
        job = await self._means.ledger.job(self._job.id)
        first, last = await self._means.ledger.bounds(job.priority)
        if heard is Intent.EVICT:
            return None if first is None or job.rank < first else first - 1
        return None if last is None else last + 1
