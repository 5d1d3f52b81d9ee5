"""Waiting for jobs to end, with or without their log running by."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from broker.protocol.api import LogChunk
from broker.protocol.event import JobChanged, JobRemoved
from broker.protocol.job import Job
from wyolo_tui.cli.reporting import reporter, state_line
from wyolo_tui.cli.session import Exit, Session
from wyolo_tui.cli.watching import changes, until_final, verdict
from wyolo_tui.client import BrokerClient
from wyolo_tui.feed import LinkDown, follow_log
from wyolo_tui.unanswered import Unanswered

LAST_LINES_S = 10.0  # how long the end of a log may take after the job's end


async def wait_for(
    cli: Session, broker: BrokerClient, jobs: Sequence[Job], *, log: bool = False, lines: bool = False
) -> Exit:
    """Until each of them has ended; prints how. `log`: what they write, too. Ctrl-C leaves them running."""
    cli.on_interrupt = _goes_on(jobs)
    latest = {job.id: job for job in jobs}
    ended = until_final(set(latest))
    with reporter(cli, len(jobs), lines) as show:

        def hear(chunk: LogChunk) -> None:
            whose = f"{chunk.job_id}: " if len(jobs) > 1 else ""
            for line in chunk.lines:
                show.log(whose + line.text)

        async def pump(job_id: int) -> None:
            try:
                await follow(cli, broker, job_id, hear)
            except Unanswered as error:
                cli.note(f"the log of job {job_id} cannot be followed: {error}")

        pumps = [asyncio.create_task(pump(job_id), name=f"log of {job_id}") for job_id in latest if log]
        try:
            async with aclosing(changes(cli, broker, _load(broker, list(latest)))) as items:
                async for seen in items:
                    show.see(seen)
                    if isinstance(seen, JobChanged):
                        latest[seen.job.id] = seen.job
                    elif isinstance(seen, JobRemoved):
                        latest.pop(seen.job_id, None)
                    if ended(seen):
                        break
            if pumps:
                await asyncio.wait(pumps, timeout=LAST_LINES_S)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
    cli.on_interrupt = ""
    final = [latest[job.id] for job in jobs if job.id in latest]
    for job in final:
        if cli.json:
            cli.emit(job)
        else:
            cli.say(state_line(job))
    return verdict(final) if len(final) == len(jobs) else Exit.FAILED


async def follow(
    cli: Session,
    broker: BrokerClient,
    job_id: int,
    hear: Callable[[LogChunk], object],
    *,
    attempt: int | None = None,
    tail: int | None = None,
    quiet: bool = True,
) -> None:
    """The job's log as it is written, until it has ended; of one `attempt` alone where one is given."""
    async with aclosing(follow_log(broker, job_id, attempt=attempt, tail=tail)) as items:
        async for item in items:
            if isinstance(item, LogChunk):
                if attempt is not None and item.attempt != attempt:
                    return
                hear(item)
            elif isinstance(item, LinkDown) and not quiet:
                cli.note(f"{item.why}; trying again")


def _load(broker: BrokerClient, ids: Sequence[int]) -> Callable[[], asyncio.Future[list[Job]]]:
    return lambda: asyncio.gather(*(broker.job(job_id) for job_id in ids))


def _goes_on(jobs: Sequence[Job]) -> str:
    if len(jobs) == 1:
        job_id = jobs[0].id
        return f"job {job_id} goes on: look with `wyolo logs -f {job_id}`, end it with `wyolo stop {job_id}`"
    ids = " ".join(str(job.id) for job in jobs)
    return f"{len(jobs)} jobs go on: wait again with `wyolo wait {ids}`"
