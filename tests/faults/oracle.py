"""What must be true after every fault: each job in one state, by one attempt at a time, nothing of ours running
without a row, no line and no epoch missing or told twice."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.engines import proc
from broker.protocol.api import JobPage, LogChunk
from broker.protocol.job import Attempt, Job
from broker.protocol.states import FINAL, JobState
from tests.flows.daemon import Client

Needed = Literal["one attempt", "one run", "whatever"]


@dataclass(frozen=True, slots=True)
class Entry:
    what: str
    fence: int
    at: int  # monotonic nanoseconds
    pid: int
    number: int


def diary(path: Path) -> list[Entry]:
    """What a job of `program.py` did, as it says itself."""
    if not path.exists():
        return []
    words = [line.split() for line in path.read_text().splitlines()]
    return [Entry(what, int(fence), int(at), int(pid), int(number)) for what, fence, at, pid, number in words]


async def ended_well(client: Client, diaries: Path, jobs: Iterable[int], needed: Needed = "one attempt") -> None:
    """Each of these has ended as completed and the story of each is sound. Nobody hurt the jobs themselves, so each
    `needed` one attempt; or `one run`: a broker may have died between writing an attempt down and starting it."""
    wanted = list(jobs)
    rows = {job.id: job for job in await everyone(client)}
    assert set(wanted) <= set(rows), f"acknowledged and lost: {sorted(set(wanted) - set(rows))}"
    for job_id in wanted:
        job = rows[job_id]
        assert job.state is JobState.COMPLETED, (job, await client.verbs(job_id))
        if needed != "whatever":
            ran = [entry.fence for entry in _told(diaries, job) if entry.what == "start"]
            assert (ran, job.infra_deaths) == ([job.fence], 0), (job, await client.verbs(job_id))
            assert job.fence == 1 or needed == "one run", (job, await client.verbs(job_id))
        await sound(client, diaries, job_id)
    await no_strangers(client)


async def sound(client: Client, diaries: Path, job_id: int) -> None:
    job = await client.job(job_id)
    await told_right(client, job, _told(diaries, job))


def _told(diaries: Path, job: Job) -> list[Entry]:
    return diary(diaries / f"{job.id}.diary") or diary(diaries / f"{job.name}.diary")


async def told_right(
    client: Client, job: Job, entries: list[Entry], lost_words: Callable[[Attempt], int] = lambda _: 0
) -> None:
    """`lost_words`: last lines that may be missing of an attempt whose end nobody saw, since whatever was reading them
    died with it, or was out of reach."""
    await _one_story(client, job)
    _one_at_a_time(job, entries)
    answer = (await client.http.get(f"/jobs/{job.id}/attempts")).json()
    attempts = {attempt.fence: attempt for attempt in map(Attempt.model_validate, answer)}
    for fence in sorted({entry.fence for entry in entries}):
        lost = 0 if attempts[fence].exit_code == 0 else lost_words(attempts[fence])
        await _every_line_once(client, job, fence, entries, lost)
    if job.kind == "train":
        await _every_epoch_once(client, job)


async def _one_story(client: Client, job: Job) -> None:
    """Its changes of state follow on each other, and lead to where it is."""
    state: JobState | None = None
    events = await client.events(job.id)
    assert len({event.seq for event in events}) == len(events)
    for event in events:
        if event.to_state is not None:
            assert event.from_state is state or state is None, [(e.verb, e.from_state, e.to_state) for e in events]
            state = event.to_state
    assert state is job.state
    verbs = [event.verb for event in events]
    assert verbs.count("place") == job.fence, verbs
    ends = [event for event in events if event.to_state in FINAL]
    assert len(ends) == verbs.count("resume") + (job.state in FINAL), verbs


def _one_at_a_time(job: Job, entries: list[Entry]) -> None:
    told = [(entry.what, entry.fence) for entry in entries]
    assert "overlap" not in {what for what, _ in told}, told
    starts = [entry.fence for entry in entries if entry.what == "start"]
    assert starts == sorted(set(starts)), f"job {job.id}: attempts ran twice or out of order: {starts}"
    assert not starts or starts[-1] <= job.fence
    in_order = [entry.fence for entry in sorted(entries, key=lambda entry: entry.at)]
    assert in_order == sorted(in_order), f"job {job.id}: attempts ran beside each other: {told}"


async def _every_line_once(client: Client, job: Job, fence: int, entries: list[Entry], lost_words: int) -> None:
    """One that was killed may have printed one line more than it could write down."""
    mine = [entry for entry in entries if entry.fence == fence]
    said = [entry.number for entry in mine if entry.what == "said"]
    if job.kind == "train":
        said = [entry.number for entry in mine if entry.what == "epoch"]
    prefix = "epoch " if job.kind == "train" else f"{fence}:"
    heard = [
        int(line.removeprefix(prefix)) for line in await whole_log(client, job.id, fence) if line.startswith(prefix)
    ]
    unsaid = heard[:-1] == said and mine[-1].what != "end"
    unheard = heard == said[: len(heard)] and len(said) - len(heard) <= lost_words
    assert heard == said or unsaid or unheard, f"job {job.id}, attempt {fence}: printed {said}, kept {heard}"


async def _every_epoch_once(client: Client, job: Job) -> None:
    table = (await client.http.get(f"/jobs/{job.id}/metrics")).json()
    assert table["epochs"] == list(range(1, job.epoch + 1)), table
    if job.state is JobState.COMPLETED:
        assert job.epoch == job.epochs


async def whole_log(client: Client, job_id: int, attempt: int) -> list[str]:
    texts: list[str] = []
    offset = 0
    while True:
        chunk: LogChunk = await client.logs(job_id, attempt=attempt, offset=offset)
        texts += [line.text for line in chunk.lines]
        if chunk.eof or chunk.next_offset == offset:
            return texts
        offset = chunk.next_offset


async def everyone(client: Client) -> list[Job]:
    """Every job that there is, page by page."""
    jobs: list[Job] = []
    cursor: dict[str, str] = {}
    while True:
        page = JobPage.model_validate((await client.http.get("/jobs", params={"limit": 1000, **cursor})).json())
        jobs += page.jobs
        if page.next_cursor is None:
            return jobs
        cursor = {"cursor": page.next_cursor}


async def no_strangers(client: Client) -> None:
    """Nothing runs under this broker's name but attempts that the ledger calls active."""
    broker_id: str = (await client.http.get("/version")).json()["broker_id"]
    allowed = {f"{broker_id}/{job.id}/{job.fence}" for job in await client.jobs("state:active")}
    assert {mark for mark in marks(broker_id).values() if mark not in allowed} == set()


def marks(broker_id: str) -> dict[int, str]:
    """Of all living processes that were started for this broker, by pid."""
    found: dict[int, str] = {}
    for pid in proc.pids():
        process, mark = proc.process(pid), proc.mark(pid)
        if mark is not None and mark.startswith(f"{broker_id}/") and process is not None and not process.dead:
            found[pid] = mark
    return found
