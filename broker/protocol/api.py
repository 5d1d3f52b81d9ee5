"""Bodies of the HTTP API v1. Errors are RFC 9457 problem+json with a stable `code`; docs/api.md lists the routes."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from broker.protocol.job import Job, JobSpec, Lenient, Strict
from broker.protocol.states import JobState, Priority


class ErrorCode(StrEnum):
    BAD_CONFIG = "bad_config"
    BAD_DATA = "bad_data"
    BAD_REQUEST = "bad_request"
    UNAUTHORISED = "unauthorised"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"  # the verb does not fit the job's state
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    TOO_LARGE = "too_large"
    DISK_FULL = "disk_full"
    LOCKED = "locked"
    REDIS_UNAVAILABLE = "redis_unavailable"
    ENGINE = "engine"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"
    BROKER_OUT = "broker_out"  # only clients say this: nobody answered


class Finding(Lenient):
    """One thing wrong (or worth knowing) in what a person wrote."""

    level: Literal["error", "warning"] = "error"
    where: str = ""  # "train.epochs", "line 3, column 7", "labels/train/0042.txt:3"
    message: str
    hint: str = ""  # the nearest known name, or what to do


class Problem(Lenient):
    """application/problem+json."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: ErrorCode
    findings: list[Finding] = Field(default_factory=list[Finding])


class SubmitRequest(Strict):
    """Either `config` (YAML text as a person wrote it) or `spec`. The rest overrides what they say."""

    config: str | None = Field(default=None, max_length=262_144)
    spec: JobSpec | None = None
    base_dir: str | None = None  # relative paths in `config` are relative to this directory
    set: dict[str, Any] = Field(default_factory=dict[str, Any])  # dotted: {"train.epochs": 3}
    name: str | None = None
    user: str | None = None
    priority: Priority | None = None
    task_id: str | None = None
    hold: bool = False


class BatchRequest(Strict):
    jobs: list[SubmitRequest] = Field(min_length=1, max_length=10_000)


class BatchAnswer(Lenient):
    ids: list[int]
    warnings: dict[int, list[str]] = Field(default_factory=dict[int, list[str]])  # by job, of those that have any


class DataSummary(Lenient):
    """What the preflight found in a data set."""

    path: str
    train_images: int = 0
    val_images: int = 0
    classes: int = 0
    names: list[str] = Field(default_factory=list[str])
    instances: list[int] = Field(default_factory=list[int])  # labels for each class
    checked_images: int = 0
    seconds: float = 0.0


class Pace(Lenient):
    """What an epoch took in the newest training that is like another: the same model, data, imgsz and batch."""

    job_id: int
    epoch_s: float  # seconds, the mean of its newest epochs


class Validation(Lenient):
    """What a submission would do. `spec` is absent when there are errors."""

    ok: bool
    findings: list[Finding] = Field(default_factory=list[Finding])
    spec: JobSpec | None = None
    data: DataSummary | None = None
    would_start: str = ""  # "now on local:GPU 0", "after 3 jobs"
    pace: Pace | None = None  # None: nothing like it has run


class StopRequest(Strict):
    grace_s: float | None = Field(default=None, ge=0, le=86_400)


class ResumeRequest(Strict):
    epochs: int | None = Field(default=None, ge=1, le=1_000_000)  # extend to this many epochs in all


class PriorityRequest(Strict):
    priority: Priority


class MoveRequest(Strict):
    """Put a waiting job right before or after another, or first or last in its priority."""

    before: int | None = None
    after: int | None = None
    to: Literal["first", "last"] | None = None


class ResolveRequest(Strict):
    verdict: Literal["gone", "alive"]


class DrainRequest(Strict):
    now: bool = False  # what runs there saves, leaves, and goes on elsewhere


class PauseRequest(Strict):
    """At most one of `for_s` and `until`; neither: until resumed."""

    for_s: float | None = Field(default=None, allow_inf_nan=False)  # seconds
    until: AwareDatetime | None = None
    now: bool = False


class JobPage(Lenient):
    jobs: list[Job]
    next_cursor: str | None = None
    total: int | None = None  # None: not counted (filtered among very many)
    seq: int = 0  # follow /events from here to miss nothing


class LogLine(Lenient):
    offset: int  # bytes, of this line in the attempt's log
    at: datetime | None = None  # UTC; when the broker read it, None if it never did
    text: str  # made harmless, at most 4,096 characters


class LogChunk(Lenient):
    job_id: int
    attempt: int
    lines: list[LogLine]
    start: int = 0  # bytes: of all output between here and next_offset these are the lines
    next_offset: int
    eof: bool = False  # the attempt has ended and all was read


class MetricTable(Lenient):
    """Columns of equal length; None where an epoch has no such value."""

    job_id: int
    epochs: list[int]
    seconds: list[float | None] = Field(default_factory=list[float | None])  # wall time of each epoch
    attempts: list[int] = Field(default_factory=list[int])  # which attempt produced each epoch
    columns: dict[str, list[float | None]]


class FileEntry(Lenient):
    path: str  # relative to the job's directory
    size: int  # bytes
    modified: datetime


class Orphan(Lenient):
    """Something of this broker's that no job has."""

    kind: Literal["container", "volume", "process", "attempt", "checkpoint"]
    node: str = ""  # where it is; "": on the broker's own disk
    name: str
    path: str = ""
    size: int | None = None  # bytes, where it is known
    why: str
    remedy: str


class Orphans(Lenient):
    orphans: list[Orphan] = Field(default_factory=list[Orphan])
    unasked: dict[str, str] = Field(default_factory=dict[str, str])  # nodes that could not say, and why


class Health(Lenient):
    status: Literal["ok", "degraded"]
    redis: Literal["ok", "down", "rebuilding"]
    ledger: Literal["ok", "read_only"]
    nodes: dict[str, str]
    message: str = ""
    uptime_s: float
    counts: dict[JobState, int]
    seq: int


class Version(Lenient):
    name: Literal["wyolo"] = "wyolo"
    version: str
    api: int = 1
    broker_id: str


TERMINAL_WINDOW = 16  # messages of input that may be on their way


class TerminalSize(Strict):
    columns: int = Field(ge=1, le=1000)
    lines: int = Field(ge=1, le=1000)


class TerminalRequest(Strict):
    """What is to be opened in a job's container."""

    argv: list[str] = Field(default_factory=list[str], max_length=4096)  # empty: a shell
    tty: bool = True  # at a terminal, by which it can be typed to
    hears: bool = False  # without a terminal: what is sent is its input, which an empty message ends
    term: str = Field(default="", max_length=64)  # what kind of terminal
    size: TerminalSize | None = None


class TerminalEnd(Lenient):
    """The last word. `code` where the program ran to its end, else `error`."""

    code: int | None = None
    error: str = ""
