"""The cockpit under load, in a terminal of its own: many jobs, events and log lines. Run by cockpit.py.

python -m benchmarks.cockpit_load JOBS EVENTS_PER_S LINES_PER_S PAINTS   (PAINTS: a file that hears of every paint)
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker.protocol.api import JobPage, LogChunk, LogLine, MetricTable
from broker.protocol.event import FOLLOWER_EVENT, AuditEntry, FollowerEvent, JobChanged, Progressed, QueueChanged
from broker.protocol.fleet import Node
from broker.protocol.job import Job
from broker.protocol.states import JobState, Priority
from wyolo_tui.app import WyoloApp
from wyolo_tui.feed import LinkUp
from wyolo_tui.options import Options
from wyolo_tui.screens import jobs as jobs_screen
from wyolo_tui.widgets.jobs_table import JobsTable

NOW = datetime.now(UTC)
TICK_S = 0.05


def some_job(number: int) -> Job:
    running = number % 50 == 0
    state = JobState.RUNNING if running else JobState.QUEUED
    return Job(
        id=number,
        name=f"run-{number}",
        kind="train",
        state=state,
        model="yolov8n.pt",
        epochs=100,
        epoch=number % 90 if running else 0,
        user="ana",
        submitted_at=NOW,
        rank=float(number),
        priority=list(Priority)[number % 3],
        waits_for="" if running else f"behind {number - 1}",
        spark=[n / 32 for n in range(32)] if running else [],
        fence=1 if running else 0,
    )


class Load:
    """A link that says much, as JSON, so that reading it is part of what is measured."""

    address = "127.0.0.1:1"

    def __init__(self, jobs: int, events_per_s: int, lines_per_s: int) -> None:
        self._jobs = [some_job(number) for number in range(1, jobs + 1)]
        self._events_per_s, self._lines_per_s = events_per_s, lines_per_s

    async def close(self) -> None:
        pass

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        if filter == "state:ended":
            return JobPage(jobs=[])
        start = int(cursor or 0)
        more = str(start + limit) if start + limit < len(self._jobs) else None
        return JobPage(jobs=self._jobs[start : start + limit], next_cursor=more)

    async def nodes(self) -> list[Node]:
        return [Node(name="local", engine="local", slots=4, cpus=8, memory_mib=64_000)]

    async def queue(self) -> QueueChanged:
        return QueueChanged(at=NOW, counts={JobState.QUEUED: len(self._jobs)})

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        epochs = list(range(1, 301 if self._jobs[job_id - 1].fence else 1))
        names = ("train/box_loss", "val/box_loss", "metrics/mAP50(B)", "metrics/mAP50-95(B)")
        return MetricTable(
            job_id=job_id,
            epochs=epochs,
            columns={name: [(e * 7919 % 97) / 97 + e / 300 for e in epochs] for name in names},
        )

    async def events(self, job_id: int, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        return []

    async def follow(self, after: int) -> AsyncGenerator[FollowerEvent | LinkUp]:
        yield LinkUp()
        number = 0
        due = time.monotonic()
        while True:
            for _ in range(max(1, int(self._events_per_s * TICK_S))):
                number += 1
                yield FOLLOWER_EVENT.validate_json(self._event(number))
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _event(self, number: int) -> str:
        job = self._jobs[number * 37 % len(self._jobs)]
        if number % 2:
            running = (number * 50) % len(self._jobs) + 50
            return Progressed(
                at=NOW, job_id=running, epoch=40, epochs=100, epoch_progress=(number % 100) / 100, eta_s=100.0
            ).model_dump_json()
        return JobChanged(seq=number, at=NOW, job=job.model_copy(update={"waits_for": f"{number}"})).model_dump_json()

    async def follow_log(
        self, job_id: int, *, attempt: int | None = None, offset: int | None = None, tail: int | None = None
    ) -> AsyncGenerator[LogChunk]:
        at = 0
        due = time.monotonic()
        while True:
            lines: list[LogLine] = []
            for _ in range(max(1, int(self._lines_per_s * TICK_S))):
                lines.append(
                    LogLine(offset=at, at=NOW, text=f"      {at}/100   2.1G   1.234   0.987   1.02   64  640: 12%")
                )
                at += 64
            chunk = LogChunk(job_id=job_id, attempt=1, lines=lines, next_offset=at)
            yield LogChunk.model_validate_json(chunk.model_dump_json())
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))


class Painted(WyoloApp):
    """Writes down when each paint had left for the terminal, and how often the cursor had moved."""

    paints: Any = None

    def _display(self, screen: Any, renderable: Any) -> None:
        super()._display(screen, renderable)  # pyright: ignore[reportUnknownMemberType]
        if self.paints is not None:
            print(time.monotonic(), CountedTable.moves, len(self.board.jobs), file=self.paints, flush=True)


class CountedTable(JobsTable):
    moves = 0

    def watch_cursor(self, before: int, after: int) -> None:
        super().watch_cursor(before, after)
        CountedTable.moves += 1


def main() -> None:
    jobs, events, lines = (int(text) for text in sys.argv[1:4])

    async def connect() -> Any:
        return Load(jobs, events, lines)

    jobs_screen.JobsTable = CountedTable
    app = Painted(connect, Options(address="127.0.0.1:1", config_dir=Path("/nonexistent")))
    with Path(sys.argv[4]).open("w") as app.paints:
        app.run()


if __name__ == "__main__":
    main()
