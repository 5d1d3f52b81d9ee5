"""What an attempt says, taken in: events into its account and the ledger, log lines to those who watch."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from broker.engines.base import Handle, RawLine
from broker.errors import LedgerFull
from broker.plain import MAX_FETCH
from broker.protocol.event import Progressed
from broker.protocol.job import Attempt, Job
from broker.protocol.training import EVENTS_NAME, TrainerEvent
from broker.supervisor import live, wire
from broker.supervisor.account import Account
from broker.supervisor.means import Means
from broker.supervisor.times import TimeIndex

RECORD_S = 1.0  # between two records of what nobody waits for
_SHOWN_LINES = 200  # newest lines of a batch that are shown live
_AT_ONCE = 200  # events, before others have their turn
_END = 1 << 16  # bytes at the end of events.jsonl that are looked at first
_FURTHER = 8  # times as many after that, as long as they begin too late
Fetch = Callable[[str, int], Awaitable[bytes]]  # as `Handle.fetch`


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

    async def complete(self, fetch: Fetch, said: int) -> None:
        """It has ended: take in what the log did not show, and say what nobody can tell any more. `said`: how many
        events there were by its own account; 0 where it left none."""
        self._ended = True
        if not self._trains:
            return
        account = self.account
        if not 0 < said <= account.last_event:
            await self._fill(fetch)
        missing = account.missing + max(0, said - account.last_event)
        if missing or account.malformed:
            account.note(f"{account.malformed} events could not be read, {missing} are missing")

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
        if (seen := self._add(event)) is not None:
            self._means.bus.publish(seen)
        now = self._means.clock()
        self._means.mirror.progress(self._task_id, live.fields(self._job, self.account, self._attempt, now))

    async def _fill(self, fetch: Fetch, before: int | None = None) -> None:
        """The events that the log does not show, from the file that the trainer keeps of them: what is missing is
        mostly at its end, and the rest of it may be long."""
        with suppress(FileNotFoundError):
            after, size = self.account.last_event, _END
            text = await fetch(EVENTS_NAME, size)
            while len(text) == size and (wire.first(text) or 0) > after + 1:
                if size >= MAX_FETCH:
                    self.account.note(f"only the last {size >> 10} KiB of {EVENTS_NAME} were read")
                    break
                size *= _FURTHER
                text = await fetch(EVENTS_NAME, size)
            for number, event in enumerate(wire.between(text, after, before)):
                self._add(event)
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)

    def _add(self, event: TrainerEvent) -> Progressed | None:
        self.account.missing += max(0, event.n - self.account.last_event - 1)
        seen = self.account.hear(event)
        self.progress = seen or self.progress
        return seen
