"""What goes through the ledger's door: the arguments and answers of `Ledger`, as plain frozen records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from broker.protocol.fleet import NodeState, Withheld
from broker.protocol.job import Attempt, Checkpoint, Job, JobSpec
from broker.protocol.states import EndReason, Intent, JobState, Priority


@dataclass(frozen=True, slots=True)
class NewJob:
    spec: JobSpec
    state: JobState = JobState.QUEUED  # or HELD
    warnings: Sequence[str] = ()
    parent_id: int | None = None
    key: str | None = None  # Idempotency-Key
    body_hash: str = ""  # of the request, checked when the key is seen again


@dataclass(frozen=True, slots=True)
class Submitted:
    id: int
    fresh: bool  # False: the key had been seen with this body


@dataclass(frozen=True, slots=True)
class AttemptStart:
    """With Change(to=STARTING): the ledger makes fence = job.fence + 1 and the attempt's row."""

    node: str
    gpus: Sequence[str]
    directory_root: Path  # the attempt's directory becomes <directory_root>/<job id>/<fence>


@dataclass(frozen=True, slots=True)
class AttemptUpdate:
    """What to write on the attempt `Change.fence`. None: unchanged."""

    engine_ref: str | None = None
    running_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: EndReason | None = None
    message: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a job. Applied only if the job is in `expect`, its fence is `fence` and its intent is `wish`, where
    these are given."""

    job_id: int
    verb: str  # what the audit trail calls it
    to: JobState | None = None  # None: the state stays
    expect: frozenset[JobState] | None = None
    fence: int | None = None
    wish: Intent | Literal["any"] | None = "any"
    by: str = ""
    reason: EndReason | None = None  # stored on the job; cleared whenever it goes to QUEUED
    message: str = ""
    intent: Intent | Literal["keep"] | None = "keep"  # always cleared by a final state and by QUEUED
    priority: Priority | None = None
    rank: float | None = None
    spec: JobSpec | None = None  # edit (waiting), or resume with more epochs
    warnings: Sequence[str] | None = None  # what is worth knowing of that spec; None: unchanged
    not_before: datetime | None = None
    infra_deaths: int | None = None
    start: AttemptStart | None = None
    attempt: AttemptUpdate | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])  # for the audit trail


@dataclass(frozen=True, slots=True)
class EpochRow:
    epoch: int
    epochs: int
    values: Mapping[str, float]
    fitness: float | None
    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a supervisor read from an attempt's output; one transaction. Reading it twice changes nothing."""

    job_id: int
    fence: int
    log_offset: int
    last_event: int
    fitness_name: str | None = None
    epochs_planned: int | None = None
    epochs: Sequence[EpochRow] = ()
    checkpoints: Sequence[Checkpoint] = ()
    notes: Sequence[str] = ()
    started: Mapping[str, Any] | None = None  # the Started event: kept for the effective configuration


@dataclass(frozen=True, slots=True)
class NodeNote:
    """Something that was seen of a node, or that a person said of it."""

    verb: str  # what the audit trail calls it
    message: str = ""
    by: str = ""
    seen: NodeState | None = None  # None: nothing new was seen
    withheld: Withheld | Literal["keep"] | None = "keep"
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])  # for the audit trail


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What was seen of a node last, and what people said."""

    seen: NodeState
    message: str
    withheld: Withheld | None


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    id: int
    op: Literal["enqueue", "dequeue", "result"]
    job_id: int
    priority: Priority
    rank: float
    body: Mapping[str, Any]  # result: what goes to results_queue


@dataclass(frozen=True, slots=True)
class ActiveJob:
    job: Job  # with spec
    attempt: Attempt
