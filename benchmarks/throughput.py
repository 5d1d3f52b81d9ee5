"""(d) No-op command jobs per second, a process for each, beside rq (fork), a bare spawn loop and task-spooler.

How fast they are submitted is measured elsewhere (submissions.py): here they wait already, ours and rq's.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import live
from benchmarks.report import Row

JOBS = 2000
BARE_JOBS = 1000
ROUNDS = 5  # in turns, medians of them: a shared machine changes under us
RQ_JOBS = 150
SLOTS = 8  # places, for all but rq, which has one
NOOP = ["/bin/true"]


def _ours() -> float:
    toml = f'[[nodes]]\nname = "local"\nslots = {SLOTS}\ncpus = 64\n'
    with live.broker(toml=toml) as broker, broker.client() as client:
        jobs = [{"spec": {"work": {"kind": "command", "argv": NOOP}}}] * JOBS
        client.post("/api/v1/jobs:batch", json={"jobs": jobs}).raise_for_status()
        live.until(lambda: client.get("/api/v1/health").json()["counts"].get("completed", 0) >= JOBS, 300, 0.25)

        def when(sort: str, moment: str) -> float:
            [job] = client.get("/api/v1/jobs", params={"sort": sort, "limit": 1}).json()["jobs"]
            return datetime.fromisoformat(job[moment]).timestamp()

        return JOBS / (when("-ended", "ended_at") - when("started", "started_at"))


async def _bare() -> float:
    places = asyncio.Semaphore(SLOTS)

    async def one() -> None:
        async with places:
            child = await asyncio.create_subprocess_exec(*NOOP)
            await child.wait()

    began = time.monotonic()
    await asyncio.gather(*(one() for _ in range(BARE_JOBS)))
    return BARE_JOBS / (time.monotonic() - began)


_RQ_WORKER = """
import sys
from redis import Redis
from rq import Queue, Worker
connection = Redis(unix_socket_path=sys.argv[1])
Worker([Queue(connection=connection)], connection=connection).work(burst=True, logging_level="ERROR")
"""


def _rq() -> float:
    """rq's default worker forks for each job, one at a time."""
    from redis import Redis
    from rq import Queue

    server = shutil.which("redis-server")
    if server is None:
        raise RuntimeError("no redis-server on PATH: install redis-server")
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder, "redis.sock"))
        redis = subprocess.Popen(
            [server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            live.until(lambda: Path(socket).exists(), 10)
            queue: Any = Queue(connection=Redis(unix_socket_path=socket))
            for _ in range(RQ_JOBS):
                queue.enqueue("os.getpid", result_ttl=0)
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", _RQ_WORKER, socket], check=True, stderr=subprocess.DEVNULL)
            return RQ_JOBS / (time.monotonic() - began)
        finally:
            redis.terminate()
            redis.wait()


def _task_spooler() -> float | None:
    program = shutil.which("tsp")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"TS_SOCKET": f"{folder}/ts.sock", "TS_SLOTS": str(SLOTS), "TMPDIR": folder}
        jobs = 500
        began = time.monotonic()
        for _ in range(jobs):
            subprocess.run([program, "-n", *NOOP], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([program, "-w"], env=env, check=True, stdout=subprocess.DEVNULL)
        rate = jobs / (time.monotonic() - began)
        subprocess.run([program, "-K"], env=env, check=True)
        return rate


def run() -> list[Row]:
    bares, rates = [asyncio.run(_bare())], list[float]()
    for _ in range(ROUNDS):
        rates.append(_ours())
        bares.append(asyncio.run(_bare()))
    shares = sorted(ours / ((bares[n] + bares[n + 1]) / 2) for n, ours in enumerate(rates))
    ours, bare, share = (statistics.median(values) for values in (rates, bares, shares))
    rq, spooler = _rq(), _task_spooler()
    beside_spooler = "not installed here" if spooler is None else f"task-spooler {spooler:.0f}/s (submit and run)"
    what = "no-op jobs, a process each"
    return [
        Row(what, f"{ours:.0f}/s", f"rq (fork) {rq:.0f}/s", "at least 5 times", ours >= 5 * rq),
        Row(
            what,
            f"{ours:.0f}/s, {share:.2f} of it ({shares[0]:.2f} to {shares[-1]:.2f})",
            f"bare asyncio spawn loop {bare:.0f}/s, {ROUNDS} times in turns",
            "at least half",
            share >= 0.5,
        ),
        Row(what, f"{ours:.0f}/s", beside_spooler, "for comparison", None),
    ]
