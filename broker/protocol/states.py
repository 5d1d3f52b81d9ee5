"""Where a job is, why it ended, and what its owner asked of it. Plain words, known without pydantic and its models.

`JobState` says where a job is, `EndReason` why it ended; the two are never mixed.
"""

from enum import StrEnum


class JobState(StrEnum):
    HELD = "held"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


WAITING = frozenset({JobState.HELD, JobState.QUEUED})
ACTIVE = frozenset({JobState.STARTING, JobState.RUNNING, JobState.UNKNOWN})
FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.STOPPED})

_ENDS = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.STOPPED, JobState.QUEUED, JobState.UNKNOWN})

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.HELD: frozenset({JobState.QUEUED, JobState.STOPPED}),
    JobState.QUEUED: frozenset({JobState.HELD, JobState.STARTING, JobState.STOPPED}),
    JobState.STARTING: _ENDS | {JobState.RUNNING},
    JobState.RUNNING: _ENDS,
    JobState.UNKNOWN: (_ENDS - {JobState.UNKNOWN}) | {JobState.RUNNING},
    JobState.COMPLETED: frozenset({JobState.QUEUED}),  # resume with more epochs
    JobState.FAILED: frozenset({JobState.QUEUED}),  # resume, or another try after a dead letter
    JobState.STOPPED: frozenset({JobState.QUEUED}),  # resume
}


class EndReason(StrEnum):
    """Why a job (or an attempt) ended."""

    COMPLETED = "completed"
    USER_STOP = "user_stop"
    KILLED = "killed"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"  # the process died without our doing: retried by itself
    DEAD_LETTER = "dead_letter"  # three infrastructure deaths: waits for a person
    NODE_LOST = "node_lost"
    OOM_HOST = "oom_host"
    OOM_CUDA = "oom_cuda"
    SHM = "shm"
    DISK_FULL = "disk_full"
    NAN = "nan"
    BAD_CONFIG = "bad_config"
    BAD_DATA = "bad_data"
    BAD_CHECKPOINT = "bad_checkpoint"
    WEIGHTS_MISSING = "weights_missing"
    LAUNCH_FAILED = "launch_failed"
    EXIT_CODE = "exit_code"


class Intent(StrEnum):
    """What a person asked of a running job that has not come true yet. It survives a crash of the broker."""

    STOP = "stop"
    KILL = "kill"
    PREEMPT = "preempt"
    EVICT = "evict"  # its node is taken back: as preempt, but it is next again, and goes on elsewhere


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
