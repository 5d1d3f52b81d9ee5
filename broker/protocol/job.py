"""What a job is: what a person asked for (JobSpec), where it stands (Job) and each time it ran (Attempt).

Pure data; `states.py` has the words for where it stands.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from broker.protocol.states import EndReason, Intent, JobState, Priority


class Strict(BaseModel):
    """A model that a person writes: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Lenient(BaseModel):
    """A model that a program reads: unknown fields are ignored, so that versions may differ."""

    model_config = ConfigDict(extra="ignore", defer_build=True)


MAX_BACKOFF_S = 600.0  # longest that an interrupted job waits
MOST_WORDS = 4096  # of a command


Family = Literal["yolo", "rtdetr"]
IMAGE = r"^[a-z0-9][a-zA-Z0-9._/:@-]*$"  # host:5000/name:tag, name@sha256:...
NETWORK = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"  # a name: no `container:...`
Task = Literal["detect", "segment", "classify", "pose", "obb"]


class GpuRequest(Strict):
    """What a job wants of the GPUs. Absent altogether: the node's default (one GPU where there are any)."""

    count: int = Field(default=1, ge=0, le=64)  # 0: the job runs on the CPU
    ids: list[int] = Field(default_factory=list[int])  # node-local indexes of those it is to have
    memory_fraction: float | None = Field(default=None, gt=0, le=1)  # share a GPU: `extras.gpu.limit`
    required: bool = False  # `extras.force_gpu`, and a GPU called by its number: never the CPU instead


class Resources(Strict):
    cpus: float = Field(default=1.0, gt=0, le=1024)  # cores
    memory_mib: int = Field(default=0, ge=0)  # 0: not accounted
    gpu: GpuRequest | None = None
    node: str | None = None  # a private queue: only this node
    labels: dict[str, str] = Field(default_factory=dict[str, str], max_length=16)  # that its node must have
    image: str | None = Field(default=None, max_length=255, pattern=IMAGE)  # of its container; None: the node's own
    network: str | None = Field(default=None, max_length=100, pattern=NETWORK)  # None: the node's own


class TrainWork(Strict):
    """An Ultralytics training."""

    kind: Literal["train"] = "train"
    model: str  # a name (yolov8n.pt, yolov8n.yaml) or a path
    family: Family = "yolo"
    task: Task | None = None  # None: Ultralytics decides from the model
    args: dict[str, Any] = Field(default_factory=dict[str, Any])  # every `train.*` key, passed through
    val: dict[str, Any] = Field(default_factory=dict[str, Any])  # the `val.*` keys for the final validation
    sweep: dict[str, Any] | None = None  # the `sweeper` section, kept as written

    @property
    def epochs(self) -> int:
        """Planned epochs; Ultralytics' own default is 100."""
        value = self.args.get("epochs")
        return value if isinstance(value, int) else 100


class CommandWork(Strict):
    """Any program: `wyolo run -- python prep.py`."""

    kind: Literal["command"] = "command"
    argv: list[str] = Field(min_length=1, max_length=MOST_WORDS)
    cwd: str | None = None
    env: dict[str, str] = Field(default_factory=dict[str, str])


Work = Annotated[TrainWork | CommandWork, Field(discriminator="kind")]


class JobSpec(Strict):
    """Everything needed to run a job again. Immutable once the job has started; `resume` may raise `epochs`."""

    work: Work
    name: str = Field(default="", max_length=200)  # "": the broker makes one from the model or the argv
    user: str = Field(default="", max_length=100)
    task_id: str | None = Field(default=None, max_length=200)  # the id other programs know this job by
    trial_number: int | None = None
    priority: Priority = Priority.NORMAL
    resources: Resources = Field(default_factory=Resources)
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class Checkpoint(Lenient):
    """A file that training can go on from. `epoch` counts finished epochs: resuming runs epoch + 1 next."""

    path: str  # absolute, in the attempt's directory
    epoch: int
    sha256: str
    attempt: int
    at: datetime  # UTC


class Attempt(Lenient):
    """One run of a job. `fence` is the fencing number: 1 for the first attempt, one more each time."""

    job_id: int
    fence: int
    node: str
    engine_ref: str = ""  # "pid:starttime:boot_id" (local) or a container id
    gpus: list[str] = Field(default_factory=list[str])  # physical UUIDs
    directory: str = ""
    log_offset: int = 0  # bytes of its log whose events are in the ledger
    last_event: int = 0  # highest event number `n` in the ledger
    started_at: datetime  # UTC; when `starting` was committed
    running_at: datetime | None = None  # UTC; first event (train) or process started (command)
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: EndReason | None = None
    message: str = ""
    image: str = ""  # of its container, with the digest: name@sha256:...


class Job(Lenient):
    """A job as everyone sees it. The part after `# live` is added by the broker when it answers."""

    id: int
    name: str
    kind: Literal["train", "command"]
    state: JobState
    reason: EndReason | None = None
    message: str = ""  # why it ended, what was kept, what to do next
    intent: Intent | None = None
    priority: Priority = Priority.NORMAL
    rank: float = 0.0  # order within a priority, lower first
    user: str = ""
    task_id: str | None = None
    model: str = ""  # the model's name, or the program's for a command
    task: str | None = None
    data: str = ""
    node: str | None = None
    gpus: list[str] = Field(default_factory=list[str])
    fence: int = 0  # fencing number of the latest attempt; 0: never started
    infra_deaths: int = 0
    epoch: int = 0  # finished epochs
    epochs: int = 0  # planned epochs; 0 for a command
    fitness_name: str = ""
    fitness: float | None = None  # newest
    best_fitness: float | None = None
    best_epoch: int | None = None
    parent_id: int | None = None  # the job this is a rerun of
    submitted_at: datetime  # UTC
    queued_at: datetime | None = None
    not_before: datetime | None = None  # backoff: not started before
    started_at: datetime | None = None  # UTC; first attempt
    ended_at: datetime | None = None
    warnings: list[str] = Field(default_factory=list[str])
    # live
    spec: JobSpec | None = None  # only in a detail answer
    waits_for: str = ""  # why it waits
    epoch_progress: float = 0.0  # 0..1 of the current epoch
    eta_s: float | None = None
    spark: list[float] = Field(default_factory=list[float])  # newest fitness values, oldest first, at most 32
