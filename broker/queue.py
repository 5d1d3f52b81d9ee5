"""Redis: intake stream, order, leases, live progress and log tail. It carries ids, never truth.

Everything here may be lost at any moment; `rebuild` makes it again from the ledger. Keys (documented in
docs/redis.md): `wyolo:ready:{high,normal,low}` sorted sets of job ids by rank, `wyolo:lease:<id>`,
`wyolo:generation`, and for other programs `training_queue`, `training_queue:dead`, `results_queue`,
`progress:<task_id>`, `stream:<task_id>`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from broker.protocol.job import Priority


@dataclass(frozen=True, slots=True)
class IntakeMessage:
    id: str  # the stream's message id: also the idempotency key
    fields: Mapping[str, str]


class Queue:
    """Every method raises QueueDown when Redis does not answer in time; none blocks for longer than 5 s."""

    def __init__(self, url: str, broker_id: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError

    # order

    async def put(self, entries: Sequence[tuple[int, Priority, float]]) -> None:
        """Make jobs ready (or move them): id, priority, rank. Idempotent."""
        raise NotImplementedError

    async def drop(self, job_ids: Sequence[int]) -> None:
        raise NotImplementedError

    async def head(self, count: int) -> list[int]:
        """The first `count` ready ids: high before normal before low, by rank within each. Nothing is taken."""
        raise NotImplementedError

    async def length(self) -> int:
        raise NotImplementedError

    async def lost(self) -> bool:
        """True when Redis does not hold this broker's generation: it lost its data and must be rebuilt."""
        raise NotImplementedError

    async def rebuild(self, entries: AsyncIterator[Sequence[tuple[int, Priority, float]]]) -> int:
        """Replace the ready sets with these, then set the generation. Returns how many."""
        raise NotImplementedError

    # leases

    async def claim(self, claims: Sequence[tuple[int, int]], ttl_s: float) -> None:
        """(job id, fence): out of the ready sets, lease written; one round trip."""
        raise NotImplementedError

    async def renew(self, leases: Sequence[tuple[int, int]], ttl_s: float) -> None:
        raise NotImplementedError

    async def release(self, leases: Sequence[tuple[int, int]]) -> None:
        """Only where the lease still has this fence."""
        raise NotImplementedError

    # intake, for other programs

    async def intake(self, block_s: float = 2.0, count: int = 100) -> list[IntakeMessage]:
        """New messages of `training_queue`, own unacknowledged ones first."""
        raise NotImplementedError

    async def ack(self, ids: Sequence[str]) -> None:
        """Acknowledge and delete: the ledger has them."""
        raise NotImplementedError

    async def bury(self, message: IntakeMessage, why: str) -> None:
        """To `training_queue:dead` with the reason, then acknowledge."""
        raise NotImplementedError

    # live, for other programs

    async def progress(self, task_id: str, fields: Mapping[str, str]) -> None:
        raise NotImplementedError

    async def tail(self, task_id: str, lines: Sequence[str]) -> None:
        raise NotImplementedError

    async def results(self, entries: Sequence[Mapping[str, str]]) -> None:
        raise NotImplementedError
