"""Jobs as they change, for the verbs that wait: what the feed says of them, across lost connections."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from broker.protocol.event import EpochDone, FollowerEvent, JobChanged, JobRemoved, Progressed, Resync
from broker.protocol.job import Job
from broker.protocol.states import FINAL, JobState
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.client import BrokerClient
from wyolo_tui.feed import Feed, LinkDown, LinkUp
from wyolo_tui.unanswered import BrokerOut

GIVE_UP_S = 300.0  # how long the broker may be out of reach while somebody waits

Seen = JobChanged | JobRemoved | EpochDone | Progressed
Load = Callable[[], Awaitable[Sequence[Job]]]


async def changes(cli: Session, broker: BrokerClient, load: Load) -> AsyncGenerator[Seen]:
    """First each job as it is, then what happens to them. Raises BrokerOut after five minutes without a broker."""
    feed = Feed(broker, (await broker.health()).seq)
    ids = set[int]()
    for job in await load():
        ids.add(job.id)
        yield _as_it_is(job)
    out_since: float | None = None
    async with aclosing(feed.follow()) as items:
        async for item in items:
            match item:
                case LinkDown():
                    if out_since is None:
                        out_since = time.monotonic()
                        cli.note(f"{item.why}; the jobs go on, and so does this when it is back")
                    elif time.monotonic() - out_since > GIVE_UP_S:
                        raise BrokerOut(f"{item.why}, and has not for {GIVE_UP_S:.0f} s; the jobs go on")
                case LinkUp():
                    if out_since is not None:
                        out_since = None
                        cli.note("the broker is back")
                case Resync():
                    feed.seq = (await broker.health()).seq
                    for job in await load():
                        yield _as_it_is(job)
                case _:
                    seen = _of(item, ids)
                    if seen is not None:
                        yield seen


def until_final(ids: set[int]) -> Callable[[Seen], bool]:
    """A predicate that has seen each job end, or go."""
    waiting = set(ids)

    def ended(seen: Seen) -> bool:
        if isinstance(seen, JobRemoved):
            waiting.discard(seen.job_id)
        elif isinstance(seen, JobChanged):
            if seen.job.state in FINAL:
                waiting.discard(seen.job.id)
            else:
                waiting.add(seen.job.id)
        return not waiting

    return ended


async def all_ended(cli: Session, broker: BrokerClient, ids: Sequence[int]) -> None:
    """Returns when each of them has."""

    async def load() -> list[Job]:
        return list(await asyncio.gather(*(broker.job(job_id) for job_id in ids)))

    ended = until_final(set(ids))
    async with aclosing(changes(cli, broker, load)) as items:
        async for seen in items:
            if ended(seen):
                return


def verdict(jobs: Sequence[Job]) -> Exit:
    """0 when all have completed."""
    return Exit.OK if all(job.state is JobState.COMPLETED for job in jobs) else Exit.FAILED


def _as_it_is(job: Job) -> JobChanged:
    return JobChanged(at=job.ended_at or job.started_at or job.submitted_at, job=job)


def _of(event: FollowerEvent, ids: set[int]) -> Seen | None:
    match event:
        case JobChanged():
            return event if event.job.id in ids else None
        case JobRemoved() | EpochDone() | Progressed():
            return event if event.job_id in ids else None
        case _:
            return None
