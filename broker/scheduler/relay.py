"""From the ledger to Redis: the outbox, the leases, and all of the queue again when Redis lost it.

What takes jobs out of the order goes before the part of the outbox that was read before it: so a job that has come back
into the queue meanwhile stays there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

from broker.crashpoint import crash_here
from broker.errors import LedgerFull, QueueDown
from broker.ledger.ledger import Ledger
from broker.ledger.records import OutboxEntry
from broker.protocol.states import JobState, Priority
from broker.queue import Lease, Queue

TICK_S = 1.0  # between looks without a reason: has Redis lost its data?
LATER_S = 0.2  # what nobody waits for goes together
LEASE_S, RENEW_S = 60.0, 20.0
COUNT_S = 5.0  # between counts of what waits, in Redis and in the ledger
_BATCH = 1_000
_REBUILD_BATCH = 5_000
_log = logging.getLogger(__name__)


class Relay:
    """What was relayed is told the ledger later: a repeated entry changes nothing."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        held: Callable[[], Sequence[Lease]],
        changed: Callable[[Collection[int]], None],
    ) -> None:
        """`held`: the leases of what runs. `changed`: called when jobs have come into the order, left it or moved in
        it; with none when Redis answers again."""
        self._ledger = ledger
        self._queue = queue
        self._held = held
        self._changed = changed
        self._news = asyncio.Event()
        self._asked = False  # somebody waits for the order to be told
        self._this, self._next = asyncio.Event(), asyncio.Event()  # two passes for them; set when one has told it
        self._this.set()
        self._later: asyncio.TimerHandle | None = None
        self._looked_at = self._renewed_at = self._counted_at = float("-inf")
        self._differed = False  # Redis and ledger, when they were counted last
        self._relayed: list[int] = []
        self._started: list[Lease] = []
        self._ended: list[Lease] = []
        self._stale: set[int] = set()
        self.redis: Literal["ok", "down", "rebuilding"] = "rebuilding"
        self.message = ""  # why it is down

    def wake(self) -> None:
        """The outbox has something that somebody waits for."""
        self._asked = True
        self._news.set()

    async def caught_up(self) -> None:
        """Until Redis was told, or could not be told, what had been decided about the order before this was called."""
        await (self._next if self._asked else self._this).wait()

    def started(self, lease: Lease) -> None:
        self._started.append(lease)
        self._wake_later()

    def ended(self, lease: Lease) -> None:
        self._ended.append(lease)
        self._wake_later()

    def stale(self, job_ids: Iterable[int]) -> None:
        """These stand in Redis' order, and did not wait when the ledger was asked."""
        self._stale.update(job_ids)
        self._wake_later()

    async def run(self) -> None:
        """For ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            self._news.clear()
            if self._asked:
                self._asked = False
                self._this, self._next = self._next, asyncio.Event()
            try:
                await self._pass()
            except QueueDown as error:
                if self.redis != "down":
                    _log.warning("nothing is started until Redis answers: %s", error)
                self.redis, self.message = "down", str(error)
                await asyncio.sleep(TICK_S)
            except LedgerFull as error:
                _log.warning("Redis is told again what it was told, harmlessly, until there is room: %s", error)
                await asyncio.sleep(TICK_S)
            except Exception:
                _log.exception("a pass to Redis broke; the next one follows")
                await asyncio.sleep(TICK_S)
            finally:
                self._this.set()

    async def _pass(self) -> None:
        """Raises QueueDown, LedgerFull."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= TICK_S or self.redis != "ok":
            await self._look()
            self._looked_at = now
        await self._send_all()
        if now - self._counted_at >= COUNT_S:
            await self._count()

    async def _send_all(self) -> None:
        more = True
        while more:
            entries = await self._ledger.outbox(_BATCH + len(self._relayed))
            await self._take_out()
            known = set(self._relayed)
            fresh = [entry for entry in entries if entry.id not in known]
            if fresh:
                crash_here("before-xadd")
                await self._send(fresh)
                self._relayed += [entry.id for entry in fresh]
                if moved := {entry.job_id for entry in fresh if entry.op != "result"}:
                    self._changed(moved)
            more = len(fresh) >= _BATCH
            if not more:
                self._this.set()
            await self._release()
            await self._settle()

    async def _look(self) -> None:
        """At Redis: is it the one that was filled?"""
        if await self._queue.lost():
            await self._fill()
        self._well()

    async def _count(self) -> None:
        """Has Redis lost some of what it was told, or kept what it was to forget? Compared while nothing is on its way
        there, and believed the second time."""
        if await self._busy():
            return
        waiting = (await self._ledger.counts()).get(JobState.QUEUED, 0)
        ready = await self._queue.length()
        if await self._busy():
            return
        self._counted_at = asyncio.get_running_loop().time()
        self._differed, before = waiting != ready, self._differed
        if self._differed and before:
            _log.warning("Redis has %d jobs in order, %d wait: it is filled again", ready, waiting)
            self._differed = False
            await self._fill()

    async def _busy(self) -> bool:
        return bool(self._started or self._stale or self._news.is_set() or await self._ledger.outbox(1))

    async def _fill(self) -> None:
        self.redis = "rebuilding"
        count = await self._queue.rebuild(self._queued())
        _log.info("Redis was filled again from the ledger: %d jobs wait", count)
        self._well()

    def _well(self) -> None:
        if self.redis != "ok":
            self.redis, self.message = "ok", ""
            self._changed(())

    async def _take_out(self) -> None:
        """What Redis misses here is mended later: leases are renewed, and stale jobs are found again."""
        started, self._started = self._started, []
        stale, self._stale = self._stale, set[int]()
        brief = set(started).intersection(self._ended)
        taken = [lease for lease in started if lease not in brief]
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at >= RENEW_S:
            taken, self._renewed_at = list(self._held()), now
        if taken:
            await self._queue.claim(taken, LEASE_S)
            crash_here("after-claim")
        gone = {job_id for job_id, _ in brief}
        if stale:  # asked again: one that waits by now may have been told Redis already
            gone |= stale - {job.id for job in await self._ledger.specs(list(stale)) if job.state is JobState.QUEUED}
        if gone:
            await self._queue.drop(list(gone))
        self._ended = [lease for lease in self._ended if lease not in brief]

    async def _release(self) -> None:
        """One that Redis keeps expires."""
        ended, self._ended = self._ended, []
        if ended:
            await self._queue.release(ended)

    async def _settle(self) -> None:
        """The ledger may forget what was relayed. Raises LedgerFull: then it is relayed again, harmlessly."""
        if self._relayed:
            done, self._relayed = self._relayed, []
            await self._ledger.outbox_done(done)

    async def _send(self, entries: Sequence[OutboxEntry]) -> None:
        last: dict[int, OutboxEntry] = {}  # of several words about one job the last one counts
        for entry in entries:
            if entry.op != "result":
                last[entry.job_id] = entry
        ready = [(e.job_id, e.priority, e.rank) for e in last.values() if e.op == "enqueue"]
        gone = [entry.job_id for entry in last.values() if entry.op == "dequeue"]
        results = [_flat(entry) for entry in entries if entry.op == "result"]
        if ready:
            await self._queue.put(ready)
        if gone:
            await self._queue.drop(gone)
        if results:
            await self._queue.results(results)

    def _wake_later(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._wake_now)

    def _wake_now(self) -> None:
        self._later = None
        self._news.set()

    async def _queued(self) -> AsyncIterator[Sequence[tuple[int, Priority, float]]]:
        after = 0
        while batch := await self._ledger.queued(after, _REBUILD_BATCH):
            yield batch
            after = batch[-1][0]


def _flat(entry: OutboxEntry) -> dict[str, str]:
    """An entry of `results_queue`: text only, absent values left out."""
    body: dict[str, Any] = {"job_id": entry.job_id, **entry.body}
    return {name: str(value) for name, value in body.items() if value is not None}
