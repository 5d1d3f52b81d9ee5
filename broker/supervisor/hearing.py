"""What an attempt says, taken in: events into its account and the ledger, log lines to those who watch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from broker.engines.base import Handle, RawLine
from broker.errors import LedgerFull
from broker.protocol.event import Progressed
from broker.protocol.job import Attempt, Job
from broker.protocol.training import EVENTS_NAME, TrainerEvent
from broker.supervisor import live, wire
from broker.supervisor.account import Account
from broker.supervisor.means import Means
from broker.supervisor.times import TimeIndex

RECORD_S = 1.0  # between two records of what nobody waits for
_SHOWN_LINES = 200  # newest lines of a batch that are shown live
Fetch = Callable[[str], Awaitable[bytes]]  # a file of the attempt's directory; raises FileNotFoundError


class Hearing:
    def __init__(self, means: Means, job: Job, attempt: Attempt, directory: Path) -> None:
        """`directory`: the attempt's."""
        self._means = means
        self._attempt = attempt
        self._trains = job.kind == "train"
        self._job = job
        self._task_id = job.task_id or str(job.id)
        self._log_keep = means.settings.log_keep_mib * 1024 * 1024
        self._times = TimeIndex(directory)
        self._recorded_at = asyncio.get_running_loop().time()
        self.account = Account(
            job.id,
            attempt.fence,
            log_offset=attempt.log_offset,
            last_event=attempt.last_event,
            epoch=job.epoch,
            epochs=job.epochs,
        )
        self._ended = False
        self.last_lines: deque[str] = deque(maxlen=20)
        self.progress: Progressed | None = None  # newest

    async def take_in(self, handle: Handle, batch: Sequence[RawLine], speaks: Callable[[], Awaitable[None]]) -> None:
        """The next lines of its output. `speaks`: called before each event is taken in."""
        account = self.account
        self._times.add(batch[0].offset, self._means.clock())
        if batch[-1].end > self._log_keep >= account.log_offset:
            account.note(f"the log has reached {self._log_keep >> 20} MiB: from here on only events are read")
        texts: list[bytes] = []
        for line in batch:
            heard = wire.hear(line) if self._trains else wire.Heard(line.data)
            account.malformed += heard.malformed
            if heard.text is not None:
                texts.append(heard.text)
            if heard.event is not None and self._is_new(heard.event):
                await speaks()
                await self._take(handle, heard.event)
        account.log_offset = batch[-1].end
        if texts:
            shown = [wire.shown(text) for text in texts[-_SHOWN_LINES:]]
            self.last_lines.extend(shown)
            self._means.mirror.tail(self._task_id, shown)
        now = asyncio.get_running_loop().time()
        if account.urgent or now - self._recorded_at > RECORD_S:
            with suppress(LedgerFull):  # it is kept, and tried again with the next
                await self.flush()

    async def complete(self, fetch: Fetch) -> None:
        """It has ended: take in what the log did not show, and say what nobody can tell any more."""
        self._ended = True
        if self._trains:
            await self._fill(fetch)
            if self.account.missing or self.account.malformed:
                malformed, missing = self.account.malformed, self.account.missing
                self.account.note(f"{malformed} events could not be read, {missing} are missing")

    async def flush(self) -> None:
        """Record what is not in the ledger yet. Raises what `Ledger.record` raises."""
        if self.account.unrecorded:
            what = self.account.recorded()
            await self._means.ledger.record(what, last=self._ended)
            self.account.settle(what)
            self._recorded_at = asyncio.get_running_loop().time()

    def _is_new(self, event: TrainerEvent) -> bool:
        """Not read before, by us or by the broker before us."""
        return event.n == 0 or event.n > self.account.last_event

    async def _take(self, handle: Handle, event: TrainerEvent) -> None:
        if event.n > self.account.last_event + 1:
            await self._fill(handle.fetch, event.n)
            self.account.missing += event.n - self.account.last_event - 1
        if (seen := self._add(event)) is not None:
            self._means.bus.publish(seen)
        now = self._means.clock()
        self._means.mirror.progress(self._task_id, live.fields(self._job, self.account, self._attempt, now))

    async def _fill(self, fetch: Fetch, before: int | None = None) -> None:
        """The events that the log does not show, from the file that the trainer keeps of them."""
        with suppress(FileNotFoundError):
            for event in wire.between(await fetch(EVENTS_NAME), self.account.last_event, before):
                self._add(event)

    def _add(self, event: TrainerEvent) -> Progressed | None:
        seen = self.account.hear(event)
        self.progress = seen or self.progress
        return seen
