"""The wire between broker and trainer: TrainConfig goes in as a file, TrainerEvent comes out as lines.

A line on the trainer's stdout that begins with ASCII RS (0x1E, RFC 7464) is one JSON event; every other line is
log. Each event has its number `n` within the attempt (1, 2, 3 ...) and is also appended to `events.jsonl`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from broker.protocol.job import Checkpoint, Family, Lenient, Task
from broker.protocol.states import EndReason

RECORD_SEPARATOR = "\x1e"
CONFIG_NAME = "train.json"  # in the attempt's directory: TrainConfig
RESULT_NAME = "result.json"  # TrainerResult, the last thing written, fsynced
EVENTS_NAME = "events.jsonl"
RUN_NAME = "run"  # Ultralytics' save_dir
BEST_NAME = "best.pt"  # in the folder of checkpoints: the best so far, unstripped
CHECKPOINTS_NAME = "checkpoints"

LEASE_ENV = "WYOLO_LEASE"  # where self-fencing is asked for: a file that changes while the broker has contact
LEASE_S_ENV = "WYOLO_LEASE_S"  # seconds without a change, after which nothing of the attempt may run
LEASE_OVER = "over"  # how it begins once the attempt was given up

EXIT_OK = 0
EXIT_FAILED = 1  # result.json says why
EXIT_STOPPED = 75  # SIGTERM was obeyed: a checkpoint is there (EX_TEMPFAIL)


class TrainConfig(Lenient):
    """Everything a trainer is told. Paths are as the trainer sees them."""

    job_id: int
    fence: int
    directory: str  # the attempt's directory, writable
    model: str
    family: Family = "yolo"
    task: Task | None = None
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    val: dict[str, Any] = Field(default_factory=dict[str, Any])
    resume: list[Checkpoint] = Field(default_factory=list[Checkpoint])  # newest first; empty: from the start
    epochs: int | None = None  # extend a resumed run to this many epochs in all
    batch: int | None = None  # resolved by an earlier attempt: used instead of auto-batch
    gpu_memory_fraction: float | None = None
    weights_dir: str | None = None  # where named weights are looked for before anything is downloaded
    cache_dir: str | None = (
        None  # what was read of data sets, for the jobs after this one; None: for this attempt alone
    )
    offline: bool = False


class _Event(Lenient):
    n: int = 0
    at: datetime  # UTC


class Started(_Event):
    event: Literal["started"] = "started"
    versions: dict[str, str]  # python, torch, ultralytics, cuda
    device: str  # "cpu", "cuda:0"
    task: str
    batch: int
    imgsz: int  # pixels
    epochs: int
    first_epoch: int  # 1, or the checkpoint's epoch + 1
    train_images: int
    val_images: int
    classes: int
    parameters: int
    save_dir: str
    fitness_name: str


class Progress(_Event):
    """At most twice a second."""

    event: Literal["progress"] = "progress"
    epoch: int  # the epoch in work, from 1
    epochs: int
    batch: int
    batches: int
    phase: Literal["train", "val", "final"] = "train"
    losses: dict[str, float] = Field(default_factory=dict[str, float])


class Epoch(_Event):
    """Once for each finished epoch, after its checkpoint is safe, and before that is said."""

    event: Literal["epoch"] = "epoch"
    epoch: int  # finished epochs, from 1
    epochs: int
    values: dict[str, float]  # Ultralytics' names: train/box_loss, metrics/mAP50(B), lr/pg0 ...
    fitness: float | None = None
    seconds: float  # wall time of this epoch
    memory_mib: float = 0.0  # peak GPU memory, or resident memory on a CPU


class Saved(_Event):
    event: Literal["checkpoint"] = "checkpoint"
    checkpoint: Checkpoint


class GpuReading(_Event):
    """NVML samples of the GPUs this trainer sees."""

    event: Literal["gpu"] = "gpu"
    gpus: list[dict[str, Any]]  # fleet.GpuSample as dicts


class Note(_Event):
    """Something a person should know: a fallback, a halved batch."""

    event: Literal["note"] = "note"
    level: Literal["info", "warning"] = "warning"
    text: str


class Finished(_Event):
    event: Literal["finished"] = "finished"
    values: dict[str, float]  # the final validation
    best: str | None = None  # path of best.pt
    last: str | None = None
    seconds: float


class Failed(_Event):
    event: Literal["failed"] = "failed"
    reason: EndReason
    message: str  # what happened, what was kept, what to do next
    traceback: str = ""


TrainerEvent = Annotated[
    Started | Progress | Epoch | Saved | GpuReading | Note | Finished | Failed, Field(discriminator="event")
]
TRAINER_EVENT: TypeAdapter[TrainerEvent] = TypeAdapter(TrainerEvent)


class TrainerResult(Lenient):
    """`result.json`: success is exit code 0 and this file with the attempt's fence and `ok`."""

    fence: int
    ok: bool
    reason: EndReason
    message: str = ""
    epoch: int = 0
    events: int = 0  # how many events this attempt wrote in all
