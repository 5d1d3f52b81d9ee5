"""The list: filters mean in SQL what they mean in Python, and every order can be paged through to the end."""

import asyncio
import random
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import BadInput
from broker.ledger import listing
from broker.ledger.ledger import Ledger
from broker.ledger.records import NewJob
from broker.protocol.api import ErrorCode
from broker.protocol.filter import SORTS, FilterError, parse
from broker.protocol.job import CommandWork, Job, JobSpec, TrainWork
from broker.protocol.states import JobState, Priority
from tests.unit.ledgers import COMMAND, TRAIN, brought_to, ended, epoch, opened, placed, read, running, submitted

NAMES = ("red fruit", "Red apple", "yolov8n", "été 2024", "a_b-c", "")
MODELS = ("yolov8n.pt", "yolov8s.pt", "rtdetr-l.pt", "/w/Best.PT")
USERS = ("", "ana", "Ana", "anabel", "bob")
TERMS = (
    "fruit", "re", "red", '"red fruit"', '"fruit"', "yolov8n.pt", "été", "ET", "2024", "apple red", "zebra", "t-1",
    "-fruit", "state:completed", "state:active", "state:waiting,failed", "-state:ended", "@local", "@other", "-@local",
    "user:ana", 'user:"ana"', "user:b,anab", "-user:ana", "model:yolov8", "model:best", "name:red", "data:coco8",
    "kind:command", "kind:train", "task:detect", "-task:detect", "priority:high", "priority:low,normal",
    "reason:oom_cuda", "-reason:completed", "id:1,5,999", "id>10", "epoch>1", "epoch:0", "epochs=5", "fitness>0.2",
    "fitness<=0.3", "-fitness>0", "best>=0.4", "best<0.2", "map50>0.2", "mAP50<0.3", "-map50>0.1", "loss=2",
    "nothing>0", "!red", "!^y.*n$", "-!apple", "task_id:T-1", "task_id:t-1", "!data",
)  # fmt: skip


async def make_jobs(ledger: Ledger, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(count):
        if chance.random() < 0.3:
            work: Any = CommandWork(argv=[chance.choice(("python", "bash")), f"step-{number % 3}.py"])
        else:
            args = {"data": chance.choice(("coco8.yaml", "/data/fruit/data.yaml")), "epochs": 5}
            work = TrainWork(model=chance.choice(MODELS), task=chance.choice((None, "detect", "obb")), args=args)
        spec = JobSpec(
            work=work,
            name=chance.choice(NAMES),
            user=chance.choice(USERS),
            priority=chance.choice(list(Priority)),
            task_id=chance.choice((None, "T-1", f"id-{number}")),
        )
        state = chance.choice(list(JobState))
        if state in {JobState.HELD, JobState.QUEUED} or work.kind == "command":
            await brought_to(ledger, state, spec)
            continue
        job = await running(ledger, spec)
        for n in range(chance.randrange(4)):
            await ledger.record(read(job, epoch(n + 1, chance.randrange(6) / 10, loss=float(chance.randrange(4)))))
        if state not in {JobState.STARTING, JobState.RUNNING}:
            await ended(ledger, job.id, state)


async def everything(ledger: Ledger, wanted: str = "", sort: str = "", limit: int = 100) -> list[Job]:
    jobs: list[Job] = []
    cursor: str | None = None
    while True:
        page = await ledger.jobs(wanted, sort, limit, cursor)
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return jobs


async def newest_values(ledger: Ledger, jobs: list[Job]) -> dict[int, dict[str, float]]:
    values: dict[int, dict[str, float]] = {}
    for job in jobs:
        columns = (await ledger.metrics(job.id)).columns
        found = {name: [value for value in column if value is not None] for name, column in columns.items()}
        values[job.id] = {name: column[-1] for name, column in found.items() if column}
    return values


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among few jobs, take the ways that are meant for a million."""
    monkeypatch.setattr(listing, "_LOOK", 3)
    monkeypatch.setattr(listing, "_FEW", 4)
    monkeypatch.setattr(listing, "_COMMON", 100)


@pytest.mark.parametrize("few", [0, 10, 10_000], ids=["looking on", "some candidates", "candidates"])
def test_the_broker_and_the_cockpit_filter_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int):
    monkeypatch.setattr(listing, "_LOOK", 3)
    monkeypatch.setattr(listing, "_FEW", few)
    with asyncio.Runner() as runner:
        manager = opened(tmp_path)
        ledger = runner.run(manager.__aenter__())
        runner.run(make_jobs(ledger, 80, seed=few))
        jobs = runner.run(everything(ledger))
        values = runner.run(newest_values(ledger, jobs))
        assert len(jobs) == 80

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.sampled_from(TERMS), min_size=1, max_size=3), st.sampled_from(("", "-name", "best")))
        def alike(terms: list[str], sort: str) -> None:
            text = " ".join(terms)
            wanted = parse(text)
            expected = [job.id for job in jobs if wanted.matches(job, values[job.id])]
            found = [job.id for job in runner.run(everything(ledger, text, sort, limit=7))]
            assert sorted(found) == sorted(expected)
            assert sort or found == expected

        alike()
        for term in TERMS:
            wanted = parse(term)
            found = [job.id for job in runner.run(everything(ledger, term))]
            assert found == [job.id for job in jobs if wanted.matches(job, values[job.id])], term
        runner.run(manager.__aexit__(None, None, None))


async def test_active_jobs_come_first_then_waiting_in_order_then_the_newest_ended(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        urgent = TRAIN.model_copy(update={"priority": Priority.HIGH})
        first = await brought_to(ledger, JobState.COMPLETED)
        waits = await submitted(ledger)
        last = await brought_to(ledger, JobState.FAILED)
        held = await submitted(ledger, state=JobState.HELD)
        soon = await submitted(ledger, urgent)
        runs = await brought_to(ledger, JobState.RUNNING)
        page = await ledger.jobs()
        assert [job.id for job in page.jobs] == [runs, soon, waits, held, last, first]
        assert (page.total, page.next_cursor, page.seq) == (6, None, ledger.seq)


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with so many jobs, to be copied."""

    async def make() -> None:
        async with opened(folder) as ledger:
            await make_jobs(ledger, 40, seed=1)

    folder = tmp_path_factory.mktemp("forty")
    asyncio.run(make())
    return folder


@pytest.mark.parametrize("sort", ["", *SORTS, *(f"-{name}" for name in SORTS)])
async def test_every_order_can_be_paged_through(tmp_path: Path, forty: Path, sort: str):
    copytree(forty, tmp_path, dirs_exist_ok=True)
    async with opened(tmp_path) as ledger:
        whole = (await ledger.jobs(sort=sort, limit=100)).jobs
        assert sorted(job.id for job in whole) == list(range(1, 41))
        assert [job.id for job in await everything(ledger, sort=sort, limit=3)] == [job.id for job in whole]
        assert (await ledger.jobs(sort=sort, limit=3)).total == 40


async def test_sorting_sorts(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await make_jobs(ledger, 40, seed=2)
        names = [job.name.casefold() for job in await everything(ledger, sort="name")]
        assert names == sorted(names, key=lambda name: name.encode())
        best = [
            -1.0 if job.best_fitness is None else job.best_fitness for job in await everything(ledger, sort="-best")
        ]
        assert best == sorted(best, reverse=True)
        epochs = [job.epoch for job in await everything(ledger, "state:ended", "epoch", limit=5)]
        assert epochs == sorted(epochs)


@pytest.mark.usefixtures("narrow")
async def test_a_rare_job_among_many_is_found_by_following_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    async with opened(tmp_path) as ledger:
        monkeypatch.setattr(listing, "_PATIENCE_S", 0.0)
        await ledger.submit([NewJob(COMMAND)] * 50)
        rare = await submitted(ledger, TRAIN)
        await ledger.submit([NewJob(COMMAND)] * 50)
        page = await ledger.jobs("kind:train")
        assert (page.jobs, page.total) == ([], None)
        assert page.next_cursor is not None
        assert [job.id for job in await everything(ledger, "kind:train")] == [rare]
        assert [job.id for job in (await ledger.jobs("fruit")).jobs] == [rare]


async def test_totals_are_told_where_they_need_no_counting(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN)] * 30 + [NewJob(COMMAND, JobState.HELD)] * 20)
        assert (await ledger.jobs(limit=5)).total == 50
        assert (await ledger.jobs("state:held", limit=5)).total == 20
        assert (await ledger.jobs("-state:held", limit=5)).total == 30
        assert (await ledger.jobs("kind:train", limit=5)).total is None
        assert (await ledger.jobs("kind:train", limit=50)).total == 30


@pytest.mark.parametrize(
    ("asked", "where", "hint"),
    [
        (("fruit stat:held", "", None), "filter, column 7", "state"),
        (("", "colour", None), "sort", "fitness"),
        (("", "", "nonsense"), "cursor", "without a cursor"),
        (("", "", "é"), "cursor", "without a cursor"),
        (("", "", "W10"), "cursor", "without a cursor"),
        (("", "", "WyIiLG51bGwsMSwxLDFd"), "cursor", "without a cursor"),
    ],
)
async def test_what_cannot_be_listed_is_refused_with_a_remedy(
    tmp_path: Path, asked: tuple[str, str, str | None], where: str, hint: str
):
    async with opened(tmp_path) as ledger:
        with pytest.raises(BadInput) as caught:
            await ledger.jobs(asked[0], asked[1], cursor=asked[2])
        [finding] = caught.value.findings
        assert caught.value.code is ErrorCode.BAD_REQUEST
        assert finding.where == where
        assert hint in finding.hint


async def test_a_cursor_of_another_order_is_refused(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN)] * 3)
        cursor = (await ledger.jobs(sort="name", limit=1)).next_cursor
        with pytest.raises(BadInput, match="cursor"):
            await ledger.jobs(sort="-name", cursor=cursor)


@pytest.mark.usefixtures("narrow")
def test_whatever_is_typed_lists_jobs_or_is_refused(tmp_path: Path):
    with asyncio.Runner() as runner:
        manager = opened(tmp_path)
        ledger = runner.run(manager.__aenter__())
        runner.run(ledger.submit([NewJob(TRAIN), NewJob(COMMAND)] * 5))

        @settings(max_examples=100, deadline=None)
        @given(text=st.text(st.sampled_from('abz:@!"-<>=.,*()[]\\^$ 019é_%\0'), max_size=12))
        def listed(text: str) -> None:
            try:
                parse(text)
            except FilterError:
                with pytest.raises(BadInput):
                    runner.run(ledger.jobs(text))
            else:
                runner.run(everything(ledger, text))

        listed()
        runner.run(manager.__aexit__(None, None, None))


async def test_a_page_goes_on_where_it_ended_though_jobs_move_meanwhile(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN)] * 10)
        page = await ledger.jobs(limit=4)
        await placed(ledger, 1)
        rest = await ledger.jobs(limit=100, cursor=page.next_cursor)
        assert [job.id for job in page.jobs + rest.jobs] == list(range(1, 11))
