"""How fast the ledger is: durable submissions, and lists and filters among many ended jobs.

python -m benchmarks.ledger [--rows 1000000] [--dir DIR]
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from broker.bus import Bus
from broker.ledger.ledger import Ledger
from broker.ledger.records import AttemptStart, Change, NewJob
from broker.protocol.job import CommandWork, JobSpec, TrainWork
from broker.protocol.states import JobState

USERS = ("ana", "bob", "eve", "kim")
MODELS = ("yolov8n.pt", "yolov8s.pt", "yolo11n.pt", "rtdetr-l.pt")
BATCH = 10_000
SINGLES = 20_000
AT_ONCE = 64  # callers that each wait for their own submission

ENDED = """
UPDATE jobs SET fence = 1, node = 'gpu-' || (id % 5), gpus = '["GPU-' || (id % 8) || '"]', epoch = id % 100,
    state = CASE WHEN id % 20 = 0 THEN 'failed' WHEN id % 33 = 0 THEN 'stopped' ELSE 'completed' END,
    reason = CASE WHEN id % 20 = 0 THEN 'oom_cuda' WHEN id % 33 = 0 THEN 'user_stop' ELSE 'completed' END,
    fitness = (id * 7919 % 10007) / 10007.0, best_fitness = (id * 7919 % 10007) / 10007.0 + 0.01,
    started_at = submitted_at + 1000000, ended_at = submitted_at + 60000000 + id * 1000
WHERE id BETWEEN ? AND ?
"""
NEWEST = """
INSERT INTO newest SELECT id, 1, (id * 104729 % 10007) / 10007.0 FROM jobs WHERE id BETWEEN ? AND ?;
"""
EPOCHS = """
INSERT INTO epochs SELECT jobs.id, epoch - j.value, 1, 1.5, fitness - j.value / 100.0, ended_at
FROM jobs, json_each('[0,1,2,3]') AS j WHERE jobs.id BETWEEN ? AND ?
"""

QUESTIONS = (
    ("", ""), ("", "-submitted"), ("", "name"), ("", "-fitness"), ("", "-best"), ("", "user"), ("", "-started"),
    ("", "node"), ("", "model"), ("", "-epoch"), ("state:failed", ""), ("state:failed,stopped", "-ended"),
    ("state:failed", "name"), ("state:waiting", ""), ("@gpu-3", ""), ("@gpu-3 state:failed", "-best"), ("user:ana", ""),
    ("user:ana model:rtdetr", "-fitness"), ("reason:oom_cuda", "-ended"), ("map50>0.6", ""), ("map50>0.9995", ""),
    ("map50>0.6 state:failed", "-best"), ("fitness>0.9999", "name"), ("epoch>90", ""), ("run-77", ""),
    ("run-77777", "name"), ("task_id:t-4242", ""), ("fruit yolov8n", ""), ("nothing-like-it", ""), ("user:zoe", ""),
    ("!fruit", ""), ("-user:ana -user:bob state:completed", "-best"), ("id:5,50,500", ""), ("map50>2", ""),
)  # fmt: skip


def job(number: int) -> NewJob:
    args = {"data": f"/datasets/fruit-{number % 50}/data.yaml", "epochs": 100, "imgsz": 640, "batch": 16}
    work = TrainWork(model=MODELS[number % 4], args=args)
    return NewJob(JobSpec(work=work, name=f"run-{number}", user=USERS[number % 4], task_id=f"t-{number}"))


def command() -> NewJob:
    return NewJob(JobSpec(work=CommandWork(argv=["python", "prep.py"])))


async def batches(ledger: Ledger, rows: int) -> float:
    """Submissions per second."""
    spent = 0.0
    for first in range(0, rows, BATCH):
        jobs = [job(first + number) for number in range(min(BATCH, rows - first))]
        start = time.perf_counter()
        await ledger.submit(jobs)
        spent += time.perf_counter() - start
    return rows / spent


async def singles(ledger: Ledger) -> tuple[float, list[float]]:
    """Submissions per second by AT_ONCE callers, and how long each took, in ms."""
    took: list[float] = []

    async def caller(number: int) -> None:
        for index in range(SINGLES // AT_ONCE):
            start = time.perf_counter()
            spec = command()
            await ledger.submit([NewJob(spec.spec, key=f"{number}-{index}", body_hash="x")])
            took.append((time.perf_counter() - start) * 1e3)

    start = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(AT_ONCE)))
    return len(took) / (time.perf_counter() - start), took


async def changes(ledger: Ledger, root: Path) -> float:
    """Jobs per second taken from queued through starting and running to completed, AT_ONCE side by side."""
    waiting = [job_id for job_id, _, _ in await ledger.queued(limit=6_400)]

    async def run(job_ids: list[int]) -> None:
        for job_id in job_ids:
            start = AttemptStart("local", [], root)
            await ledger.advance(Change(job_id, "place", to=JobState.STARTING, start=start))
            await ledger.advance(Change(job_id, "run", to=JobState.RUNNING, fence=1))
            await ledger.advance(Change(job_id, "complete", to=JobState.COMPLETED, fence=1))

    start = time.perf_counter()
    await asyncio.gather(*(run(waiting[number::AT_ONCE]) for number in range(AT_ONCE)))
    return len(waiting) / (time.perf_counter() - start)


def end_all(path: Path, rows: int) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("INSERT INTO metric_names VALUES (1, 'metrics/mAP50(B)', 'map50')")
    for first in range(1, rows + 1, 50_000):
        for statement in (ENDED, NEWEST, EPOCHS):
            db.execute(statement, (first, min(first + 49_999, rows)))
    db.close()


def quantiles(took: list[float]) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"p50 {cuts[49]:7.2f}  p99 {cuts[98]:7.2f}  max {max(took):7.2f} ms"


async def timed(ask: Callable[[], Awaitable[object]], times: int) -> list[float]:
    took: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - start) * 1e3)
    return took


async def lists(ledger: Ledger, repeat: int = 12) -> None:
    everything: list[float] = []
    for wanted, sort in QUESTIONS:
        pages: list[int] = []

        async def ask(wanted: str = wanted, sort: str = sort, pages: list[int] = pages) -> None:
            first = await ledger.jobs(wanted, sort, limit=100)
            pages.append(len(first.jobs))

        took = await timed(ask, repeat)
        more = (await ledger.jobs(wanted, sort, limit=100)).next_cursor is not None
        print(f"  {wanted or '(all)':38} {sort or '(default)':10} {quantiles(took)}  {pages[-1]} jobs{' ...' * more}")
        everything += took
    print(f"list and filter                        {quantiles(everything)}")


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--dir", type=Path, default=None, help="where the ledger is made; default: a temporary folder")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        path = Path(folder) / "ledger.db"
        ledger = await Ledger.open(path, Bus())
        print(f"batches of {BATCH:,}: {await batches(ledger, given.rows):,.0f} jobs/s")
        await ledger.close()
        end_all(path, given.rows)
        start = time.perf_counter()
        ledger = await Ledger.open(path, Bus())
        await ledger.counts()
        print(f"opened among {given.rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB: "
              f"{(time.perf_counter() - start) * 1e3:.1f} ms")  # fmt: skip
        rate, took = await singles(ledger)
        print(f"singles, {AT_ONCE} callers, with keys: {rate:,.0f}/s  {quantiles(took)}")
        print(f"one caller: {quantiles(await timed(lambda: ledger.submit([command()]), 500))}")
        print(f"whole lives (3 changes each): {await changes(ledger, path.parent):,.0f} jobs/s")
        await lists(ledger)
        await ledger.close()


if __name__ == "__main__":
    asyncio.run(main())
