"""How an attempt ended, and what becomes of its job: the whole table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.engines.base import Exit
from broker.protocol.job import Checkpoint
from broker.protocol.states import EndReason, Intent, JobState
from broker.protocol.training import Failed, TrainerResult
from broker.supervisor.verdict import Ending, judge

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEPT = Checkpoint(path="/x/3.pt", epoch=3, sha256="0", attempt=1, at=NOW)
OK = TrainerResult(fence=2, ok=True, reason=EndReason.COMPLETED)
STOPPED = TrainerResult(fence=2, ok=False, reason=EndReason.USER_STOP)
NAN = TrainerResult(fence=2, ok=False, reason=EndReason.NAN, message="loss is NaN")
DATA = Failed(at=NOW, reason=EndReason.BAD_DATA, message="no labels")


def ending(kind: Any = "train", code: int | None = 0, **more: Any) -> Ending:
    exit = Exit(code, more.pop("oom", False))
    return Ending(job_id=7, kind=kind, fence=2, exit=exit, now=NOW, **more)


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        (ending(result=OK), JobState.COMPLETED, EndReason.COMPLETED),
        (ending(result=OK, intent=Intent.STOP), JobState.COMPLETED, EndReason.COMPLETED),
        (ending(), JobState.FAILED, EndReason.EXIT_CODE),
        (ending(result=OK.model_copy(update={"fence": 1})), JobState.FAILED, EndReason.EXIT_CODE),
        (ending(code=1, result=OK), JobState.FAILED, EndReason.EXIT_CODE),
        (ending(code=1, result=NAN), JobState.FAILED, EndReason.NAN),
        (ending(code=1, failed=DATA), JobState.FAILED, EndReason.BAD_DATA),
        (ending(code=1, failed=DATA, result=NAN), JobState.FAILED, EndReason.NAN),
        (ending(code=75, result=STOPPED, intent=Intent.STOP), JobState.STOPPED, EndReason.USER_STOP),
        (ending(code=137, intent=Intent.STOP), JobState.STOPPED, EndReason.USER_STOP),
        (ending(code=None, intent=Intent.KILL), JobState.STOPPED, EndReason.KILLED),
        (ending(code=75, result=STOPPED, intent=Intent.PREEMPT), JobState.QUEUED, EndReason.PREEMPTED),
        (ending(code=75, result=STOPPED, intent=Intent.EVICT), JobState.QUEUED, EndReason.PREEMPTED),
        (ending(code=75, result=STOPPED), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending(code=75), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending(code=None), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending(code=137), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending(code=143), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending(code=137, oom=True), JobState.FAILED, EndReason.OOM_HOST),
        (ending(code=135), JobState.FAILED, EndReason.SHM),
        (ending(code=139), JobState.FAILED, EndReason.EXIT_CODE),
        (ending(code=None, lost="gone"), JobState.QUEUED, EndReason.NODE_LOST),
        (ending(code=None, infra_deaths=2), JobState.FAILED, EndReason.DEAD_LETTER),
        (ending(code=None, infra_deaths=2, progressed=True), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending("command"), JobState.COMPLETED, EndReason.COMPLETED),
        (ending("command", intent=Intent.STOP), JobState.STOPPED, EndReason.USER_STOP),
        (ending("command", 3), JobState.FAILED, EndReason.EXIT_CODE),
        (ending("command", 75), JobState.FAILED, EndReason.EXIT_CODE),
        (ending("command", 135), JobState.FAILED, EndReason.EXIT_CODE),
        (ending("command", 130), JobState.QUEUED, EndReason.INTERRUPTED),
        (ending("command", None), JobState.QUEUED, EndReason.INTERRUPTED),
    ],
)
def test_every_way_to_end_has_its_verdict(how: Ending, state: JobState, reason: EndReason) -> None:
    verdict = judge(how)
    assert (verdict.to, verdict.reason) == (state, reason)


def test_waits_between_tries_double_up_to_ten_minutes() -> None:
    def wait(deaths: int, jitter: float = 0.5) -> timedelta:
        how = ending(code=None, infra_deaths=deaths, max_infra_deaths=100, jitter=jitter)
        verdict = judge(how)
        assert verdict.not_before is not None
        assert verdict.infra_deaths == deaths + 1
        return verdict.not_before - NOW

    assert [wait(n).total_seconds() for n in range(4)] == [15, 30, 60, 120]
    assert wait(50) == timedelta(seconds=600)
    assert (wait(0, 0).total_seconds(), wait(0, 1).total_seconds()) == (12, 18)


def test_an_epoch_done_forgives_earlier_deaths() -> None:
    assert judge(ending(code=None, infra_deaths=2, progressed=True)).infra_deaths == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            ending(code=75, intent=Intent.STOP, kept=KEPT),
            "stopped; the checkpoint of epoch 3 is kept: `wyolo resume 7` goes on from there",
        ),
        (
            ending(code=1, result=NAN, kept=KEPT),
            "loss is NaN; the checkpoint of epoch 3 is kept: `wyolo resume 7` goes on from there",
        ),
        (
            ending("command", 3, last_lines=["one", " ", "two"]),
            "exit code 3; it said last: one | two; `wyolo resume 7` runs it again",
        ),
        (
            ending("command", 127),
            "exit code 127: a program was not found; it said nothing; `wyolo resume 7` runs it again",
        ),
        (
            ending("command", 139),
            "it crashed with SIGSEGV (segmentation fault); it said nothing; `wyolo resume 7` runs it again",
        ),
        (
            ending(code=None, kept=KEPT),
            "attempt 2 was interrupted: its process was killed, or the machine went down; "
            "goes on after epoch 3 in 15 s",
        ),
        (
            ending(code=1, result=NAN.model_copy(update={"reason": EndReason.DISK_FULL}), intent=Intent.STOP),
            "stopped; `wyolo resume 7` starts it again (while stopping: loss is NaN)",
        ),
    ],
)
def test_the_owner_is_told_what_was_kept_and_what_to_do(how: Ending, message: str) -> None:
    assert judge(how).message == message
