"""How an attempt ended -> what becomes of its job, and what its owner is told. Pure."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from broker.engines.base import Exit
from broker.protocol.job import MAX_BACKOFF_S, Checkpoint
from broker.protocol.states import EndReason, Intent, JobState
from broker.protocol.training import EXIT_STOPPED, Failed, TrainerResult

_LAST_LINES = 3
_SIGNALLED = 128  # a shell's exit code for a child ended by signal n is 128 + n
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_CRASHES = {signal.SIGSEGV: "segmentation fault", signal.SIGBUS: "bus error", signal.SIGABRT: "abort",
            signal.SIGILL: "illegal instruction", signal.SIGFPE: "arithmetic error"}  # fmt: skip
_INTENDED = {
    Intent.STOP: ("stopped", EndReason.USER_STOP),
    Intent.KILL: ("killed", EndReason.KILLED),
    Intent.PREEMPT: ("made way for others", EndReason.PREEMPTED),
    Intent.EVICT: ("left its node, which was taken back", EndReason.PREEMPTED),
}


@dataclass(frozen=True, slots=True)
class Ending:
    """All that is known when nothing of an attempt runs any more."""

    job_id: int
    kind: Literal["train", "command"]
    fence: int
    exit: Exit
    now: datetime
    intent: Intent | None = None
    result: TrainerResult | None = None
    failed: Failed | None = None  # what the trainer said last, where it said so
    kept: Checkpoint | None = None  # the newest
    progressed: bool = False  # this attempt finished an epoch
    infra_deaths: int = 0  # of the attempts before
    lost: str = ""  # the node was lost: what is known of that
    last_lines: Sequence[str] = ()
    max_infra_deaths: int = 3
    backoff_s: float = 15.0
    jitter: float = 0.5  # 0..1, drawn by the caller


@dataclass(frozen=True, slots=True)
class Verdict:
    to: JobState
    reason: EndReason  # of the attempt, and of a job that has ended
    message: str
    infra_deaths: int | None = None  # None: as it was
    not_before: datetime | None = None


def judge(ending: Ending) -> Verdict:
    result = ending.result if ending.result is not None and ending.result.fence == ending.fence else None
    code = ending.exit.code
    if ending.kind == "train" and code == 0 and result is not None and result.ok:
        return Verdict(JobState.COMPLETED, EndReason.COMPLETED, result.message)
    if ending.kind == "command" and code == 0 and ending.intent is None:
        return Verdict(JobState.COMPLETED, EndReason.COMPLETED, "")
    if ending.intent is not None:
        return _as_intended(ending, ending.intent, result)
    if ending.lost:
        return _interrupted(ending, EndReason.NODE_LOST, ending.lost)
    if ending.exit.oom_killed:
        what = "the machine ran out of memory and the kernel killed it"
        remedy = (
            "give it less: a smaller batch, fewer workers, no cache=ram; or plan its memory with resources.memory_mib"
        )
        return _failed(ending, EndReason.OOM_HOST, f"{what}; {remedy}")
    if ending.kind == "train" and (said := _trainers_word(ending, result)) is not None:
        return said
    if code is None:
        return _interrupted(ending, EndReason.INTERRUPTED, "its process was killed, or the machine went down")
    if ending.kind == "train" and code == _SIGNALLED + signal.SIGALRM:
        return _interrupted(ending, EndReason.INTERRUPTED, "it heard nothing of the broker for too long, and left")
    if code - _SIGNALLED in _FROM_OUTSIDE:
        name = signal.Signals(code - _SIGNALLED).name
        return _interrupted(ending, EndReason.INTERRUPTED, f"something else sent {name} to its process")
    return _failed(ending, *_by_code(ending, code))


def _as_intended(ending: Ending, intent: Intent, result: TrainerResult | None) -> Verdict:
    word, reason = _INTENDED[intent]
    trouble = f" (while stopping: {result.message})" if result is not None and _is_failure(result) else ""
    if intent in {Intent.PREEMPT, Intent.EVICT}:
        return Verdict(JobState.QUEUED, reason, f"{word}; {_goes_on(ending)}{trouble}")
    return Verdict(JobState.STOPPED, reason, f"{word}; {_kept(ending)}{trouble}")


def _trainers_word(ending: Ending, result: TrainerResult | None) -> Verdict | None:
    """What the trainer itself gave as the reason, if it did."""
    if result is not None and _is_failure(result):
        reason, message = result.reason, result.message
    elif ending.failed is not None:
        reason, message = ending.failed.reason, ending.failed.message
    elif ending.exit.code == EXIT_STOPPED or (result is not None and not result.ok):
        return _interrupted(ending, EndReason.INTERRUPTED, "something else asked its process to stop")
    else:
        return None
    if reason is EndReason.INTERRUPTED:
        return _interrupted(ending, reason, message)
    return _failed(ending, reason, message)


def _is_failure(result: TrainerResult) -> bool:
    return not result.ok and result.reason not in {EndReason.USER_STOP, EndReason.PREEMPTED, EndReason.COMPLETED}


def _by_code(ending: Ending, code: int) -> tuple[EndReason, str]:
    lines = [line for line in ending.last_lines if line.strip()][-_LAST_LINES:]
    said = f"; it said last: {' | '.join(lines)}" if lines else "; it said nothing"
    if code == 0:
        return EndReason.EXIT_CODE, f"the trainer exited with 0 but left no result{said}"
    if code - _SIGNALLED in _CRASHES:
        crash = signal.Signals(code - _SIGNALLED)
        if ending.kind == "train" and crash is signal.SIGBUS:
            return EndReason.SHM, f"bus error: /dev/shm is full, most likely; set workers=0 or enlarge it{said}"
        return EndReason.EXIT_CODE, f"it crashed with {crash.name} ({_CRASHES[crash]}){said}"
    if code == 127:
        return EndReason.EXIT_CODE, f"exit code 127: a program was not found{said}"
    if code == 126:
        return EndReason.EXIT_CODE, f"exit code 126: a program was found but could not be executed{said}"
    return EndReason.EXIT_CODE, f"exit code {code}{said}"


def _failed(ending: Ending, reason: EndReason, message: str) -> Verdict:
    if ending.kind == "command":
        return Verdict(JobState.FAILED, reason, f"{message}; `wyolo resume {ending.job_id}` runs it again")
    if "wyolo resume" in message:
        return Verdict(JobState.FAILED, reason, message)
    return Verdict(JobState.FAILED, reason, f"{message.rstrip('.')}; {_kept(ending)}")


def _interrupted(ending: Ending, reason: EndReason, why: str) -> Verdict:
    deaths = (0 if ending.progressed else ending.infra_deaths) + 1
    if deaths >= ending.max_infra_deaths:
        message = f"interrupted {deaths} times in a row, the last time because {why}; {_kept(ending)}"
        return Verdict(JobState.FAILED, EndReason.DEAD_LETTER, message, infra_deaths=deaths)
    wait_s = min(MAX_BACKOFF_S, ending.backoff_s * 2 ** (deaths - 1)) * (0.8 + 0.4 * ending.jitter)
    not_before = ending.now + timedelta(seconds=min(MAX_BACKOFF_S, wait_s))
    message = f"attempt {ending.fence} was interrupted: {why}; {_goes_on(ending)} in {wait_s:.0f} s"
    return Verdict(JobState.QUEUED, reason, message, infra_deaths=deaths, not_before=not_before)


def _kept(ending: Ending) -> str:
    resume = f"`wyolo resume {ending.job_id}`"
    if ending.kept is not None:
        return f"the checkpoint of epoch {ending.kept.epoch} is kept: {resume} goes on from there"
    return f"{resume} starts it again" if ending.kind == "train" else f"{resume} runs it again"


def _goes_on(ending: Ending) -> str:
    if ending.kept is not None:
        return f"goes on after epoch {ending.kept.epoch}"
    return "starts again"
