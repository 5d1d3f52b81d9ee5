"""What a follower of the broker sees (SSE): a union on `kind`.

Durable kinds carry a `seq` from the ledger, which only grows, and can be replayed with `?after=seq`: of a job's changes
that were missed the newest alone, with the job as it is now; `GET /audit` has each. Transient kinds (progress, sample,
queue, resync) carry `seq = 0`: one that was missed is replaced by the next.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from broker.protocol.fleet import HostSample, Node
from broker.protocol.job import Job, Lenient
from broker.protocol.states import EndReason, JobState


class _Seen(Lenient):
    seq: int = 0
    at: datetime  # UTC


class JobChanged(_Seen):
    """A job was submitted or its row changed. `job` is the whole row as it is now."""

    kind: Literal["job"] = "job"
    job: Job
    verb: str = ""  # submit, place, run, complete, stop ... : what happened
    note: str = ""


class JobRemoved(_Seen):
    kind: Literal["removed"] = "removed"
    job_id: int


class EpochDone(_Seen):
    kind: Literal["epoch"] = "epoch"
    job_id: int
    attempt: int
    epoch: int
    values: dict[str, float]
    seconds: float = 0.0


class Progressed(_Seen):
    kind: Literal["progress"] = "progress"
    job_id: int
    epoch: int  # in work, from 1
    epochs: int
    epoch_progress: float  # 0..1
    phase: str = "train"
    eta_s: float | None = None


class Sampled(_Seen):
    kind: Literal["sample"] = "sample"
    sample: HostSample


class NodeChanged(_Seen):
    kind: Literal["node"] = "node"
    node: Node


class QueueChanged(_Seen):
    """How many jobs are in each state, why waiting ones wait, and when the queue is expected to be empty."""

    kind: Literal["queue"] = "queue"
    counts: dict[JobState, int]
    failed_today: int = 0
    waits: dict[int, str] = Field(default_factory=dict[int, str])  # at most the first 200 in order
    drain_s: float | None = None


class Resync(_Seen):
    """The follower was too slow, or the broker restarted: read the snapshot again."""

    kind: Literal["resync"] = "resync"


FollowerEvent = Annotated[
    JobChanged | JobRemoved | EpochDone | Progressed | Sampled | NodeChanged | QueueChanged | Resync,
    Field(discriminator="kind"),
]
FOLLOWER_EVENT: TypeAdapter[FollowerEvent] = TypeAdapter(FollowerEvent, config=ConfigDict(defer_build=True))


class AuditEntry(Lenient):
    """A row of the ledger's append-only events table, as `GET /jobs/{id}/events` and `/nodes/{name}/events` show it."""

    seq: int
    at: datetime
    job_id: int | None
    attempt: int | None = None
    node: str | None = None  # where it happened, or the node that it happened to
    verb: str
    from_state: JobState | None = None
    to_state: JobState | None = None
    reason: EndReason | None = None
    message: str = ""
    by: str = ""  # who asked
    data: dict[str, Any] = Field(default_factory=dict[str, Any])
