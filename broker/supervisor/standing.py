"""Where one attempt stands: its state in the ledger as we wrote it last, and what its owner wants of it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from broker.crashpoint import crash_here
from broker.engines.base import AttemptRef, Handle
from broker.errors import LedgerFull
from broker.ledger.records import AttemptUpdate, Change
from broker.protocol.job import Attempt, Checkpoint, Job
from broker.protocol.states import ACTIVE, Intent, JobState
from broker.supervisor import work
from broker.supervisor.means import Means

_FULL_RETRY_S = 1.0  # while the ledger's disk is full
_log = logging.getLogger(__name__)


class Standing:
    def __init__(self, means: Means, job: Job, attempt: Attempt, intent: Intent | None) -> None:
        self._means = means
        self.job = job
        self.attempt = attempt
        self.directory = Path(attempt.directory)
        self.ref = AttemptRef(means.ledger.broker_id, job.id, attempt.fence)
        self.state = job.state
        self.intent = intent
        self.heeded = False  # its owner wanted something since it is ours: the ledger knows what

    async def wish(self) -> Intent | None:
        """What its owner wants: it may have been said a moment ago."""
        if self.heeded and self.intent is None:
            self.intent = (await self._means.ledger.job(self.job.id)).intent
        return self.intent

    async def still_ours(self) -> bool:
        job = await self._means.ledger.job(self.job.id)
        self.intent = job.intent
        return job.fence == self.attempt.fence and job.state in ACTIVE

    async def checkpoints(self) -> list[Checkpoint]:
        """Of this attempt and those before, newest first. What was never fetched from a node that shares no files
        with us is lost with that node."""
        found = await self._means.ledger.checkpoints(self.job.id)
        jobs = self.directory.parent.parent
        far = {node.name for node in self._means.settings.nodes if not node.shares(jobs)}
        if not far:
            return found
        there = {each.fence for each in await self._means.ledger.attempts(self.job.id) if each.node in far}
        return await asyncio.to_thread(work.present, found, there)

    # --- what the ledger is told; all raise what `Ledger.advance` raises ---

    async def advance(self, verb: str, **changes: Any) -> Job:
        return await self._means.ledger.advance(
            Change(self.job.id, verb, expect=ACTIVE, fence=self.attempt.fence, **changes)
        )

    async def runs(self, handle: Handle, message: str = "") -> None:
        update = AttemptUpdate(engine_ref=handle.engine_ref or None, image=handle.image or None)
        self.state = (await self.advance("run", to=JobState.RUNNING, message=message, attempt=update)).state
        crash_here("after-running")

    async def note(self, message: str) -> None:
        """For whoever reads the job's events."""
        await self.advance("note", message=message)

    async def lost_sight(self, why: str) -> None:
        if self.state is not JobState.UNKNOWN:
            _log.warning("%s is unknown: %s", self.ref.name, why)
            self._means.silent(self.attempt.node)
            message = f"{why}; nothing is started in its place until it is found, or `wyolo resolve` says it is gone"
            self.state = (await self.advance("lose", to=JobState.UNKNOWN, message=message)).state

    async def until_there_is_room(self, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Its end, which must be written down: again and again while the ledger's disk is full."""
        while True:
            try:
                return await write()
            except LedgerFull as error:
                _log.warning("the end of %s waits to be written down: %s", self.ref.name, error)
                await asyncio.sleep(_FULL_RETRY_S)
