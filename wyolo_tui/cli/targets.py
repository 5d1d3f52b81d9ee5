"""Which jobs a person means: ids, ranges (3-7), names, a filter. And whether they really mean so many."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from broker.protocol.api import ErrorCode
from broker.protocol.fleet import Node
from broker.protocol.job import Job
from wyolo_tui.cli.session import BadUse, Exit, Session
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import ProblemError

PAGE = 1000
RANGE = re.compile(r"(\d+)-(\d+)")
LONGEST_RANGE = 10_000
UNASKED = 3  # so many jobs are changed without a question
AT_ONCE = 16  # requests


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """For the shell: ids and names of jobs that begin so. Silent where no broker answers."""
    from wyolo_tui.unanswered import Unanswered

    async def ask() -> list[Job]:
        async with Session().broker() as broker:
            return (await broker.jobs(limit=200)).jobs

    try:
        jobs = asyncio.run(ask())
    except Unanswered:
        return []
    ids = [(str(job.id), f"{job.state} {job.name}") for job in jobs if str(job.id).startswith(incomplete)]
    names = [(job.name, f"{job.state} {job.id}") for job in jobs if incomplete and job.name.startswith(incomplete)]
    return ids + names


def complete_node(incomplete: str) -> list[tuple[str, str]]:
    """For the shell: names of nodes that begin so. Silent where no broker answers."""
    from wyolo_tui.unanswered import Unanswered

    async def ask() -> list[Node]:
        async with Session().broker() as broker:
            return await broker.nodes()

    try:
        return [(node.name, str(node.state)) for node in asyncio.run(ask()) if node.name.startswith(incomplete)]
    except Unanswered:
        return []


OneJob = Annotated[
    str, typer.Argument(metavar="JOB", help="Id or name of a job.", autocompletion=complete_job, show_default=False)
]
Jobs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB...", help="Ids (12), ranges (3-7) or names.", autocompletion=complete_job, show_default=False
    ),
]
Filter = Annotated[
    str, typer.Option("--filter", "-F", metavar="FILTER", help="All jobs that it fits: 'state:failed user:ana'.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, however many jobs it concerns.")]


async def one(broker: BrokerClient, token: str) -> Job:
    """The job with that id, name or task id, with its spec. Raises ProblemError."""
    return await broker.job(token)


@asynccontextmanager
async def meant(
    cli: Session, tokens: Sequence[str] | None, filter: str
) -> AsyncGenerator[tuple["BrokerClient", list[Job]]]:
    """The broker, and each job once, in the order typed. Raises BadUse when nothing is meant, Unanswered."""
    if not tokens and not filter:
        raise BadUse("no job was named", "give ids (12), ranges (3-7) or names, or --filter 'state:queued'")
    async with cli.broker() as broker:
        yield broker, await _found(broker, tokens or (), filter)


async def _found(broker: "BrokerClient", tokens: Sequence[str], filter: str) -> list[Job]:
    found = dict[int, Job]()
    for token in tokens:
        match = RANGE.fullmatch(token)
        jobs = await _between(broker, int(match[1]), int(match[2])) if match else [await broker.job(token)]
        found |= {job.id: job for job in jobs if job.id not in found}
    if filter:
        found |= {job.id: job async for job in all_pages(broker, filter) if job.id not in found}
        if not found:
            raise BadUse(f"no job fits {filter!r}", "what there is: wyolo jobs")
    return list(found.values())


async def all_pages(broker: BrokerClient, filter: str) -> AsyncIterator[Job]:
    cursor: str | None = None
    while True:
        page = await broker.jobs(filter, limit=PAGE, cursor=cursor)
        for job in page.jobs:
            yield job
        cursor = page.next_cursor
        if cursor is None:
            return


def confirm(cli: Session, jobs: Sequence[Job], deed: str, yes: bool) -> None:
    """Returns when it may be done to so many jobs. Raises BadUse where it must not, or nobody can be asked."""
    if yes or len(jobs) <= UNASKED:
        return
    some = ", ".join(f"{job.id} {job.name}" for job in jobs[:UNASKED])
    question = f"{deed} {len(jobs)} jobs ({some} and {len(jobs) - UNASKED} more)?"
    if cli.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadUse(f"{question[:-1]}: not without being asked", "say --yes if you mean it")
    cli.on_interrupt = "nothing was changed"
    if not typer.confirm(question, default=False, err=True):
        raise BadUse("nothing was changed")
    cli.on_interrupt = ""


async def each(
    cli: Session, jobs: Sequence[Job], act: Callable[[int], Awaitable[Job]], say: Callable[[Job], str]
) -> Exit:
    """Does it to each job, whatever becomes of the others, and reports in their order. The worst exit code wins."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def attempt(job: Job) -> Job | ProblemError:
        async with gate:
            try:
                return await act(job.id)
            except ProblemError as error:
                return error

    worst = Exit.OK
    for outcome in await asyncio.gather(*(attempt(job) for job in jobs)):
        if isinstance(outcome, ProblemError):
            worst = max(worst, cli.report(outcome))
        elif cli.json:
            cli.emit(outcome)
        else:
            cli.say(say(outcome))
    return worst


async def _between(broker: BrokerClient, first: int, last: int) -> list[Job]:
    """Those that exist. Raises BadUse when none does."""
    if last < first or last - first >= LONGEST_RANGE:
        raise BadUse(f"{first}-{last} is no range of jobs", f"from low to high, at most {LONGEST_RANGE} of them")
    gate = asyncio.Semaphore(AT_ONCE)

    async def look(job_id: int) -> Job | None:
        async with gate:
            try:
                return await broker.job(job_id)
            except ProblemError as error:
                if error.problem.code is not ErrorCode.NOT_FOUND:
                    raise
                return None

    seen = await asyncio.gather(*(look(job_id) for job_id in range(first, last + 1)))
    jobs = [job for job in seen if job is not None]
    if not jobs:
        raise BadUse(f"there is no job from {first} to {last}", "what there is: wyolo jobs")
    return jobs
