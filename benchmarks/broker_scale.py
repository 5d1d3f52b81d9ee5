"""(e) The broker at rest and among very many jobs: start, memory, CPU, lists and filters, restart, a flushed queue."""

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis

from benchmarks import ledger as filling
from benchmarks import live
from benchmarks.report import Row, percentile
from broker.bus import Bus
from broker.ledger.ledger import Ledger

ENDED = 1_000_000
WAITING = 100_000
REPEATS = 5  # of each question
IDLE_S = 10.0


def _at_rest() -> list[Row]:
    with live.broker():  # the first start compiles what an installation has compiled
        pass
    with live.broker() as broker:
        time.sleep(2)
        process = broker.process
        before = sum(process.cpu_times()[:2])
        time.sleep(IDLE_S)
        busy = (sum(process.cpu_times()[:2]) - before) / IDLE_S * 100
        memory = process.memory_full_info().uss / 2**20
        started = broker.started_in_s
    return [
        Row("broker, exec to healthy", f"{started:.2f} s", "", "under 1 s", started < 1),
        Row("broker, idle memory (USS)", f"{memory:.0f} MiB", "", "under 120 MiB", memory < 120),
        Row("broker, idle CPU", f"{busy:.2f} % of a core", "", "under 1 %", busy < 1),
    ]


async def _fill(path: Path) -> None:
    ledger = await Ledger.open(path, Bus())
    await filling.batches(ledger, ENDED)
    await ledger.close()
    filling.end_all(path, ENDED)
    db = sqlite3.connect(path)
    db.execute("DELETE FROM outbox")  # those jobs ended long ago
    db.commit()
    db.close()


def _ask(broker: live.Live) -> list[float]:
    took: list[float] = []
    with broker.client() as client:
        for _ in range(REPEATS):
            for filter_, sort in filling.QUESTIONS:
                began = time.perf_counter()
                path = f"/api/v1/jobs?limit=100&filter={quote(filter_)}&sort={quote(sort)}"
                client.get(path).raise_for_status()
                took.append((time.perf_counter() - began) * 1e3)
    return took


def _flush(broker: live.Live) -> float:
    """Seconds from FLUSHALL until every waiting job is in the queue again."""
    with broker.client() as client:
        filler = [{"spec": {"work": {"kind": "command", "argv": ["sleep", "3600"]}}}]
        noop = [{"spec": {"work": {"kind": "command", "argv": ["/bin/true"]}}}]
        blocker = client.post("/api/v1/jobs:batch", json={"jobs": filler}).raise_for_status().json()["ids"][0]
        live.until(lambda: client.get(f"/api/v1/jobs/{blocker}").json()["state"] == "running", 30)
        for _ in range(WAITING // 10_000):
            client.post("/api/v1/jobs:batch", json={"jobs": noop * 10_000}).raise_for_status()
        redis: Any = Redis(unix_socket_path=str(broker.directory / "redis" / "redis.sock"))
        ready = "wyolo:{}:ready:normal".format(client.get("/api/v1/version").json()["broker_id"])
        live.until(lambda: redis.zcard(ready) == WAITING, 60)
        began = time.monotonic()
        redis.flushall()
        live.until(lambda: redis.zcard(ready) == WAITING, 60)
        took = time.monotonic() - began
        client.post(f"/api/v1/jobs/{blocker}/kill").raise_for_status()
    return took


def _among_many() -> list[Row]:
    directory = live.folder()
    asyncio.run(_fill(directory / "ledger.db"))
    config = directory / "wyolo.toml"
    config.write_text('[[nodes]]\nname = "local"\nslots = 1\n')
    child, broker = live.start(directory, None, "--config", str(config))
    _ask(broker)
    took = _ask(broker)
    live.stop(child)
    child, broker = live.start(directory, None, "--config", str(config))
    restart = broker.started_in_s
    flush = _flush(broker)
    live.stop(child)
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    among = f"among {ENDED:,} ended jobs"
    return [
        Row(f"list and filter over HTTP {among}, p99", f"{p99:.1f} ms", f"p50 {p50:.1f} ms", "under 20 ms", p99 < 20),
        Row(f"restart to healthy {among}", f"{restart:.2f} s", "", "under 2 s", restart < 2),
        Row(f"{WAITING:,} waiting jobs queued again after FLUSHALL", f"{flush:.2f} s", "", "within 2 s", flush <= 2),
    ]


def run() -> list[Row]:
    return [*_at_rest(), *_among_many()]
