"""(b) From submitting to the first instruction of the job's process, on an idle broker, over a bare asyncio spawn."""

import asyncio
import time
from pathlib import Path

from benchmarks import live
from benchmarks.report import Row, percentile

ROUNDS = 40  # in a row, ours and bare ones in turn
TURNS = 5
PROGRAM = ["date", "+%s%N"]  # prints the wall clock in ns as soon as it runs


async def _bare() -> list[float]:
    latencies: list[float] = []
    for _ in range(ROUNDS):
        began = time.time_ns()
        child = await asyncio.create_subprocess_exec(*PROGRAM, stdout=asyncio.subprocess.PIPE)
        output, _ = await child.communicate()
        latencies.append((int(output) - began) / 1e6)
    return latencies


def _ours(broker: live.Live) -> list[float]:
    latencies: list[float] = []
    with broker.client() as client:
        body = {"spec": {"work": {"kind": "command", "argv": PROGRAM}}}
        for _ in range(ROUNDS):
            began = time.time_ns()
            job = client.post("/api/v1/jobs", json=body).raise_for_status().json()
            log = Path(broker.directory, "jobs", str(job["id"]), "1.log")
            live.until(lambda log=log: log.is_file() and log.stat().st_size > 0, 10, 0.001)
            latencies.append((int(log.read_text()) - began) / 1e6)
            path = f"/api/v1/jobs/{job['id']}"
            live.until(lambda path=path: client.get(path).json()["state"] == "completed", 10)
    return latencies


def run() -> list[Row]:
    ours: list[float] = []
    bare: list[float] = []
    with live.broker() as broker:
        _ours(broker)
        for _ in range(TURNS):
            ours += _ours(broker)
            bare += asyncio.run(_bare())
    p50, p99 = percentile(ours, 0.5), percentile(ours, 0.99)
    bare50, bare99 = percentile(bare, 0.5), percentile(bare, 0.99)
    return [
        Row(
            "submit to first instruction, p50",
            f"{p50:.1f} ms",
            f"bare asyncio spawn {bare50:.1f} ms",
            "at most 15 ms over it",
            p50 - bare50 <= 15,
        ),
        Row("the same, p99", f"{p99:.1f} ms", f"bare asyncio spawn {bare99:.1f} ms", "at most 50 ms", p99 <= 50),
    ]
