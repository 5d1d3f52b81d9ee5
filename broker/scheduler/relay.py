"""From the ledger's outbox to Redis, and all of the queue again when Redis lost it."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from broker.crashpoint import crash_here
from broker.ledger.ledger import Ledger
from broker.ledger.records import OutboxEntry
from broker.protocol.job import Priority
from broker.queue import Queue

_BATCH = 1_000
_REBUILD_BATCH = 5_000


class Relay:
    """What was relayed is told the ledger later: a repeated entry changes nothing."""

    def __init__(self, ledger: Ledger, queue: Queue) -> None:
        self._ledger = ledger
        self._queue = queue
        self._relayed: list[int] = []

    async def run(self) -> set[int]:
        """Everything in the outbox, oldest first. The jobs it was about. Raises QueueDown."""
        touched: set[int] = set()
        while entries := await self._ledger.outbox(_BATCH + len(self._relayed)):
            known = set(self._relayed)
            fresh = [entry for entry in entries if entry.id not in known]
            if not fresh:
                break
            crash_here("before-xadd")
            await self._send(fresh)
            self._relayed += [entry.id for entry in fresh]
            touched |= {entry.job_id for entry in fresh}
            if len(fresh) < _BATCH:
                break
            await self.settle()
        return touched

    async def settle(self) -> None:
        """The ledger may forget what was relayed. Raises LedgerFull: then it is relayed again, harmlessly."""
        if self._relayed:
            done, self._relayed = self._relayed, []
            await self._ledger.outbox_done(done)

    async def rebuild(self) -> int:
        """The whole queue from the ledger. Returns how many jobs wait. Raises QueueDown."""
        return await self._queue.rebuild(self._queued())

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

    async def _queued(self) -> AsyncIterator[Sequence[tuple[int, Priority, float]]]:
        after = 0
        while batch := await self._ledger.queued(after, _REBUILD_BATCH):
            yield batch
            after = batch[-1][0]


def _flat(entry: OutboxEntry) -> dict[str, str]:
    """An entry of `results_queue`: text only, absent values left out."""
    body: dict[str, Any] = {"job_id": entry.job_id, **entry.body}
    return {name: str(value) for name, value in body.items() if value is not None}
