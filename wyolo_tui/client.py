"""BrokerClient: the HTTP API with protocol models in and out; errors are those of unanswered.py. Knows no screens."""

import os
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import TypeAdapter

from broker.protocol.api import (
    BatchAnswer,
    BatchRequest,
    DrainRequest,
    FileEntry,
    Health,
    JobPage,
    LogChunk,
    MetricTable,
    MoveRequest,
    Orphans,
    PauseRequest,
    PriorityRequest,
    ResolveRequest,
    ResumeRequest,
    StopRequest,
    SubmitRequest,
    Validation,
    Version,
)
from broker.protocol.event import AuditEntry, QueueChanged
from broker.protocol.fleet import Node
from broker.protocol.job import Attempt, Checkpoint, Job
from broker.protocol.states import Priority
from wyolo_tui.wire import Wire, asked, read, without_none

PREFLIGHT_S = 300.0  # a submission opens images of its data set before it is answered
ORPHANS_S = 120.0  # every node is asked, and every folder of a job looked into
COPY_BYTES = 1 << 18

ATTEMPTS = TypeAdapter(list[Attempt])
CHECKPOINTS = TypeAdapter(list[Checkpoint])
ENTRIES = TypeAdapter(list[AuditEntry])
FILES = TypeAdapter(list[FileEntry])
NODES = TypeAdapter(list[Node])


def new_key() -> str:
    """An Idempotency-Key: the same one makes a repeated submission harmless."""
    return secrets.token_hex(16)


class BrokerClient(Wire):
    """`async with BrokerClient(url, key) as broker: await broker.jobs()`."""

    # --- what is there ---

    async def health(self) -> Health:
        return await self.get(Health, "/health")

    async def version(self) -> Version:
        return await self.get(Version, "/version")

    async def orphans(self) -> Orphans:
        """What of the broker's is left without a job."""
        return read(Orphans, await self.send("GET", "/orphans", repeatable=True, answer_s=ORPHANS_S))

    async def remove_orphans(self) -> Orphans:
        """Those that were removed."""
        return read(Orphans, await self.send("DELETE", "/orphans", repeatable=True, answer_s=ORPHANS_S))

    async def jobs(self, filter: str = "", sort: str = "", limit: int = 100, cursor: str | None = None) -> JobPage:
        query = without_none(filter=filter or None, sort=sort or None, limit=limit, cursor=cursor)
        return await self.get(JobPage, "/jobs", query)

    async def job(self, job_id: int | str) -> Job:
        """With its spec. A name or a task id does, where only one job has it."""
        if isinstance(job_id, int):
            return await self.get(Job, f"/jobs/{job_id}")
        return await self.get(Job, "/jobs:find", {"ref": job_id})

    async def attempts(self, job_id: int) -> list[Attempt]:
        return await self.get_list(ATTEMPTS, f"/jobs/{job_id}/attempts")

    async def logs(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        tail: int | None = None,
        since: str | None = None,
        before: int | None = None,
    ) -> LogChunk:
        """Of the newest attempt unless told. `offset` and `before` in bytes; `limit` and `tail` in lines; `since` ISO
        8601."""
        query = without_none(attempt=attempt, offset=offset, limit=limit, tail=tail, since=since, before=before)
        return await self.get(LogChunk, f"/jobs/{job_id}/logs", query)

    async def metrics(self, job_id: int, names: Sequence[str] = (), last: int | None = None) -> MetricTable:
        query = without_none(names=",".join(names) or None, last=last)
        return await self.get(MetricTable, f"/jobs/{job_id}/metrics", query)

    async def events(self, job_id: int, after: int | None = None, limit: int | None = None) -> list[AuditEntry]:
        """Without `after` the newest of them."""
        return await self.get_list(ENTRIES, f"/jobs/{job_id}/events", without_none(after=after, limit=limit))

    async def audit(self, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
        """Everything that happened, to all jobs and nodes."""
        return await self.get_list(ENTRIES, "/audit", without_none(after=after, limit=limit))

    async def checkpoints(self, job_id: int) -> list[Checkpoint]:
        return await self.get_list(CHECKPOINTS, f"/jobs/{job_id}/checkpoints")

    async def files(self, job_id: int) -> list[FileEntry]:
        return await self.get_list(FILES, f"/jobs/{job_id}/files")

    async def nodes(self) -> list[Node]:
        return await self.get_list(NODES, "/nodes")

    async def node(self, name: str) -> Node:
        """With its history."""
        return await self.get(Node, f"/nodes/{quote(name, safe='')}")

    async def node_events(self, name: str, after: int | None = None, limit: int | None = None) -> list[AuditEntry]:
        """What happened there; without `after` the newest of it."""
        query = without_none(after=after, limit=limit)
        return await self.get_list(ENTRIES, f"/nodes/{quote(name, safe='')}/events", query)

    async def queue(self) -> QueueChanged:
        return await self.get(QueueChanged, "/queue")

    async def fetch(
        self, job_id: int, path: str, destination: Path, on_bytes: Callable[[int, int], None] | None = None
    ) -> int:
        """Copies one of the job's files and returns its size. `destination` is whole or as it was, never half.

        `on_bytes` hears how many have come and how many there are (0: not said). Raises OSError for the destination.
        """
        part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
        done = 0
        try:
            async with self.stream("GET", f"/jobs/{job_id}/files/{quote(path)}") as answer:
                total = int(answer.headers.get("Content-Length", 0))
                with part.open("wb") as file:
                    async for block in answer.aiter_bytes(COPY_BYTES):
                        file.write(block)
                        done += len(block)
                        if on_bytes is not None:
                            on_bytes(done, total)
            part.replace(destination)
        finally:
            part.unlink(missing_ok=True)
        return done

    # --- the verbs ---

    async def validate(self, request: SubmitRequest) -> Validation:
        """What submit would do. Bad input is no error here: the findings say it."""
        return await self.post(Validation, "/jobs:validate", request, repeatable=True, answer_s=PREFLIGHT_S)

    async def submit(self, request: SubmitRequest, key: str | None = None) -> tuple[Job, bool]:
        """The job and whether it is new. With one key it is queued once, however often it is sent."""
        answer = await self.send(
            "POST",
            "/jobs",
            body=request,
            headers={"Idempotency-Key": key or new_key()},
            repeatable=True,
            answer_s=PREFLIGHT_S,
        )
        return read(Job, answer), answer.status_code == 201

    async def submit_many(self, requests: Sequence[SubmitRequest], key: str | None = None) -> list[int]:
        """All or none."""
        answer = await self.send(
            "POST",
            "/jobs:batch",
            body=BatchRequest(jobs=list(requests)),
            headers={"Idempotency-Key": key or new_key()},
            repeatable=True,
            answer_s=PREFLIGHT_S,
        )
        return read(BatchAnswer, answer).ids

    async def edit(self, job_id: int, request: SubmitRequest) -> Job:
        return read(
            Job,
            await self.send("PATCH", f"/jobs/{job_id}", body=request, repeatable=True, answer_s=PREFLIGHT_S),
        )

    async def stop(self, job_id: int, grace_s: float | None = None) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/stop", asked(StopRequest, grace_s=grace_s), repeatable=True)

    async def kill(self, job_id: int) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/kill", repeatable=True)

    async def preempt(self, job_id: int) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/preempt")

    async def resume(self, job_id: int, epochs: int | None = None) -> Job:
        """`epochs`: extend to this many in all."""
        return await self.post(Job, f"/jobs/{job_id}/resume", asked(ResumeRequest, epochs=epochs))

    async def rerun(self, job_id: int, key: str | None = None) -> Job:
        """The new job; with one key there is one, however often it is sent."""
        headers = {"Idempotency-Key": key or new_key()}
        return read(Job, await self.send("POST", f"/jobs/{job_id}/rerun", headers=headers, repeatable=True))

    async def hold(self, job_id: int) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/hold", repeatable=True)

    async def release(self, job_id: int) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/release", repeatable=True)

    async def priority(self, job_id: int, priority: Priority) -> Job:
        return await self.post(Job, f"/jobs/{job_id}/priority", PriorityRequest(priority=priority), repeatable=True)

    async def move(
        self,
        job_id: int,
        *,
        before: int | None = None,
        after: int | None = None,
        to: Literal["first", "last"] | None = None,
    ) -> Job:
        return await self.post(
            Job, f"/jobs/{job_id}/move", MoveRequest(before=before, after=after, to=to), repeatable=True
        )

    async def resolve(self, job_id: int, verdict: Literal["gone", "alive"]) -> Job:
        """A person's word about a job that is UNKNOWN."""
        return await self.post(Job, f"/jobs/{job_id}/resolve", ResolveRequest(verdict=verdict))

    async def drain_node(self, name: str, now: bool = False) -> Node:
        """Nothing new starts there. `now`: what runs there saves, leaves and goes on elsewhere."""
        return await self.post(Node, f"/nodes/{quote(name, safe='')}/drain", DrainRequest(now=now), repeatable=True)

    async def pause_node(
        self, name: str, *, for_s: float | None = None, until: datetime | None = None, now: bool = False
    ) -> Node:
        """As `drain_node`, for a time or (without either) until resumed."""
        request = asked(PauseRequest, for_s=for_s, until=until, now=now)
        return await self.post(Node, f"/nodes/{quote(name, safe='')}/pause", request, repeatable=True)

    async def resume_node(self, name: str) -> Node:
        return await self.post(Node, f"/nodes/{quote(name, safe='')}/resume", repeatable=True)

    async def remove(self, job_id: int, files: bool = False) -> None:
        """`files`: its directory too."""
        await self.send("DELETE", f"/jobs/{job_id}", params={"files": "true" if files else "false"})
