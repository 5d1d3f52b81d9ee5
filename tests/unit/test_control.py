"""Each verb in each state, on a real ledger: what changes, who is told, and what is said where it does not fit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from broker.admission import checks
from broker.admission.admission import Admission
from broker.beside import LOG, beside
from broker.control import Control
from broker.errors import BadInput, Conflict, IdempotencyConflict, NotFound
from broker.ledger.ledger import Ledger
from broker.ledger.records import Change, Recorded
from broker.protocol.api import MoveRequest, ResolveRequest, SubmitRequest
from broker.protocol.job import Checkpoint, CommandWork, Job, JobSpec, TrainWork
from broker.protocol.states import ACTIVE, FINAL, WAITING, EndReason, Intent, JobState, Priority
from broker.settings import Settings
from tests.unit import ledgers
from tests.unit.ledgers import NOW, brought_to

COMMAND = JobSpec(work=CommandWork(argv=["/bin/true"]))
TRAIN = JobSpec(work=TrainWork(model="yolov8n.yaml", task="detect", args={"data": "coco8.yaml", "epochs": 5}))
REMOVABLE = WAITING | FINAL


@dataclass
class Heard:
    """Stands for the supervisor: what it was told."""

    heeded: list[int] = field(default_factory=list[int])
    resolved: list[tuple[int, bool, str]] = field(default_factory=list[tuple[int, bool, str]])
    woken: int = 0

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.heeded, self.resolved, self.woken = [], [], 0

    def heed(self, job_id: int) -> None:
        self.heeded.append(job_id)

    async def resolve(self, job_id: int, alive: bool, by: str) -> Job:
        self.resolved.append((job_id, alive, by))
        return await self._ledger.job(job_id)

    def wake(self) -> None:
        self.woken += 1

    async def forecast(self, spec: JobSpec) -> str:
        return f"after {spec.name}"


@dataclass
class Setting:
    control: Control
    ledger: Ledger
    heard: Heard

    async def at(self, state: JobState, spec: JobSpec = COMMAND) -> int:
        return await brought_to(self.ledger, state, spec)


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[Setting]:
    async with ledgers.opened(tmp_path) as ledger:
        heard, admission = Heard(ledger), Admission(Settings.model_validate({}))
        control = Control(
            ledger=ledger,
            admission=admission,
            supervisor=heard,
            wake=heard.wake,
            jobs_dir=tmp_path / "jobs",
            forecast=heard.forecast,
        )
        yield Setting(control, ledger, heard)
        admission.close()


@pytest.mark.parametrize("state", sorted(JobState))
@pytest.mark.parametrize("intent", [Intent.STOP, Intent.KILL])
async def test_stop_and_kill_are_true_of_a_job_in_any_state(given: Setting, state: JobState, intent: Intent) -> None:
    job_id = await given.at(state)
    verb = given.control.stop if intent is Intent.STOP else given.control.kill
    once, twice = await verb(job_id, by="ana"), await verb(job_id, by="ana")
    assert once == twice
    if state in WAITING:
        assert once.state is JobState.STOPPED and given.heard.woken == 1
        assert once.reason is (EndReason.USER_STOP if intent is Intent.STOP else EndReason.KILLED)
    elif state in ACTIVE:
        assert (once.state, once.intent) == (state, intent)
        assert set(given.heard.heeded) == {job_id}
    else:
        assert once.state is state
    asked = [entry for entry in await given.ledger.audit(job_id) if entry.verb == intent]
    assert len(asked) == (0 if state in FINAL else 1)
    assert all(entry.by == "ana" for entry in asked)


async def test_a_kill_overrules_a_stop_and_not_the_other_way_round(given: Setting) -> None:
    job_id = await given.at(JobState.RUNNING)
    assert (await given.control.stop(job_id)).intent is Intent.STOP
    assert (await given.control.kill(job_id)).intent is Intent.KILL
    assert (await given.control.stop(job_id)).intent is Intent.KILL


async def test_many_verbs_at_once_leave_one_truth(given: Setting) -> None:
    job_id = await given.at(JobState.QUEUED)
    control = given.control
    asked = [control.stop(job_id), control.kill(job_id), control.hold(job_id), control.release(job_id)] * 5
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, Job | Conflict) for answer in done)
    assert (await given.ledger.job(job_id)).state is JobState.STOPPED


async def test_a_stop_that_a_start_outran_stops_what_was_started(
    given: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await given.at(JobState.QUEUED)
    advance = given.ledger.advance

    async def outrun(change: Change) -> Job:
        monkeypatch.setattr(given.ledger, "advance", advance)
        await ledgers.placed(given.ledger, job_id)
        return await advance(change)

    monkeypatch.setattr(given.ledger, "advance", outrun)
    stopped = await given.control.stop(job_id)
    assert (stopped.state, stopped.intent) == (JobState.STARTING, Intent.STOP)
    assert given.heard.heeded == [job_id]


FITS = {
    "hold": {JobState.HELD, JobState.QUEUED},
    "release": {JobState.HELD, JobState.QUEUED},
    "preempt": {JobState.QUEUED, *ACTIVE},
    "resume": {JobState.FAILED, JobState.STOPPED},
    "remove": REMOVABLE,
    "edit": WAITING,
}


@pytest.mark.parametrize("state", sorted(JobState))
@pytest.mark.parametrize("verb", FITS)
async def test_a_verb_that_does_not_fit_changes_nothing_and_says_what_to_do(
    given: Setting, verb: str, state: JobState
) -> None:
    job_id = await given.at(state)
    before = await given.ledger.job(job_id)
    arguments = (SubmitRequest(name="other"),) if verb == "edit" else ()
    asked = getattr(given.control, verb)(job_id, *arguments)
    if state in FITS[verb]:
        await asked
        return
    with pytest.raises(Conflict) as caught:
        await asked
    assert str(job_id) in str(caught.value) and len(str(caught.value)) > 40
    assert await given.ledger.job(job_id) == before


@pytest.mark.parametrize("verb", ["stop", "kill", "preempt", "resume", "rerun", "hold", "release", "remove"])
async def test_no_verb_finds_a_job_that_is_not_there(given: Setting, verb: str) -> None:
    with pytest.raises(NotFound, match="99"):
        await getattr(given.control, verb)(99)


async def test_a_training_goes_on_after_its_newest_checkpoint(given: Setting) -> None:
    job = await ledgers.running(given.ledger, TRAIN)
    kept = [Checkpoint(path=f"/{n}.pt", epoch=n, sha256="", attempt=1, at=NOW) for n in (1, 2)]
    await given.ledger.record(Recorded(job.id, job.fence, log_offset=1, last_event=1, checkpoints=kept))
    await ledgers.ended(given.ledger, job.id, JobState.STOPPED)
    resumed = await given.control.resume(job.id)
    assert (resumed.state, resumed.message) == (JobState.QUEUED, "goes on after epoch 2")
    assert given.heard.woken == 1


async def test_a_training_without_a_checkpoint_starts_again_and_says_so(given: Setting) -> None:
    resumed = await given.control.resume(await given.at(JobState.FAILED, TRAIN))
    assert "starts at epoch 1" in resumed.message


async def test_a_completed_training_needs_more_epochs_to_go_on(given: Setting) -> None:
    job_id = await given.at(JobState.COMPLETED, TRAIN)
    for epochs in (None, 3, 5):
        with pytest.raises(Conflict, match="--epochs 10"):
            await given.control.resume(job_id, epochs)
    resumed = await given.control.resume(job_id, 8)
    assert (resumed.state, resumed.epochs) == (JobState.QUEUED, 8)
    spec = (await given.ledger.job(job_id)).spec
    assert spec is not None and isinstance(spec.work, TrainWork) and spec.work.epochs == 8


async def test_planned_epochs_can_only_grow(given: Setting) -> None:
    job_id = await given.at(JobState.STOPPED, TRAIN)
    with pytest.raises(Conflict, match="can only grow"):
        await given.control.resume(job_id, 4)
    assert (await given.control.resume(job_id, 5)).epochs == 5


async def test_another_try_after_a_dead_letter_counts_deaths_anew(given: Setting) -> None:
    job_id = await given.at(JobState.RUNNING)
    change = Change(job_id, "end", to=JobState.FAILED, reason=EndReason.DEAD_LETTER, infra_deaths=3)
    await given.ledger.advance(change)
    assert (await given.control.resume(job_id)).infra_deaths == 0


async def test_a_preempted_job_goes_behind_those_that_wait(given: Setting) -> None:
    job_id = await given.at(JobState.RUNNING)
    others = [await given.at(JobState.QUEUED) for _ in range(3)]
    preempted = await given.control.preempt(job_id)
    ranks = [(await given.ledger.job(other)).rank for other in others]
    assert (preempted.intent, preempted.rank > max(ranks)) == (Intent.PREEMPT, True)
    stopping = await given.at(JobState.RUNNING)
    await given.control.stop(stopping)
    with pytest.raises(Conflict, match="being ended"):
        await given.control.preempt(stopping)


async def test_only_an_unknown_job_is_resolved_by_a_persons_word(given: Setting) -> None:
    running, unknown = await given.at(JobState.RUNNING), await given.at(JobState.UNKNOWN)
    with pytest.raises(Conflict, match="out of reach"):
        await given.control.resolve(running, ResolveRequest(verdict="gone"))
    await given.control.resolve(unknown, ResolveRequest(verdict="gone"), by="ana")
    await given.control.resolve(unknown, ResolveRequest(verdict="alive"), by="ana")
    assert given.heard.resolved == [(unknown, False, "ana"), (unknown, True, "ana")]


async def test_priority_counts_for_what_runs_too_and_not_for_what_has_ended(given: Setting) -> None:
    running = await given.at(JobState.RUNNING)
    assert (await given.control.priority(running, Priority.HIGH)).priority is Priority.HIGH
    assert (await given.control.priority(running, Priority.HIGH)).priority is Priority.HIGH
    assert [entry.verb for entry in await given.ledger.audit(running)].count("priority") == 1
    with pytest.raises(Conflict):
        await given.control.priority(await given.at(JobState.FAILED), Priority.LOW)


async def test_a_move_beside_a_job_that_does_not_wait_is_refused(given: Setting) -> None:
    waiting, running = await given.at(JobState.QUEUED), await given.at(JobState.RUNNING)
    for where in (MoveRequest(before=running), MoveRequest(after=running)):
        with pytest.raises(Conflict, match="does not wait"):
            await given.control.move(waiting, where)
    with pytest.raises(BadInput, match="not clear"):
        await given.control.move(waiting, MoveRequest())


async def test_a_rerun_is_checked_again(given: Setting) -> None:
    job_id = await given.at(JobState.FAILED, JobSpec(work=CommandWork(argv=["/gone/program"])))
    with pytest.raises(BadInput, match="no file /gone/program"):
        await given.control.rerun(job_id)
    assert [job.id for job in (await given.ledger.jobs()).jobs] == [job_id]


async def test_submitting_wakes_the_scheduler_once_for_each_new_job(given: Setting) -> None:
    request = SubmitRequest(spec=COMMAND)
    job, fresh = await given.control.submit(request, key="k")
    again, repeated = await given.control.submit(request, key="k")
    assert (job.id, fresh, repeated, given.heard.woken) == (again.id, True, False, 1)
    with pytest.raises(IdempotencyConflict):
        await given.control.submit(SubmitRequest(spec=COMMAND, name="other"), key="k")


async def test_what_is_sent_again_has_the_same_answer_though_the_world_has_changed(
    given: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TRUSTED_S", 0.0)
    program = tmp_path / "run"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    request = SubmitRequest(spec=JobSpec(work=CommandWork(argv=[str(program)])))
    job, _ = await given.control.submit(request, key="one")
    ids = await given.control.submit_many([request, request], key="many")
    again = await given.control.rerun(job.id, key="again")
    program.unlink()
    assert ((await given.control.submit(request, key="one"))[0].id, job.spec) == (job.id, job.spec)
    assert await given.control.submit_many([request, request], key="many") == ids
    assert (await given.control.rerun(job.id, key="again")).id == again.id
    other = request.model_copy(update={"name": "other"})
    for asked in (given.control.submit(other, key="one"), given.control.submit_many([other], key="many")):
        with pytest.raises(IdempotencyConflict):
            await asked
    with pytest.raises(BadInput):
        await given.control.submit(request, key="new")


async def test_a_batch_with_a_key_is_one_submission(given: Setting) -> None:
    requests = [SubmitRequest(spec=COMMAND, name=f"job {n}") for n in range(3)]
    ids = await given.control.submit_many(requests, key="k")
    assert await given.control.submit_many(requests, key="k") == ids
    with pytest.raises(IdempotencyConflict):
        await given.control.submit_many(requests[:2], key="k")


async def test_a_bad_job_of_a_batch_is_named_by_its_place(given: Setting) -> None:
    bad = SubmitRequest(spec=JobSpec(work=CommandWork(argv=["no-such-program"])))
    with pytest.raises(BadInput) as caught:
        await given.control.submit_many([SubmitRequest(spec=COMMAND), bad, bad])
    assert [finding.where for finding in caught.value.findings] == ["jobs.1.argv", "jobs.2.argv"]
    assert (await given.ledger.jobs()).jobs == []


async def test_what_is_removed_with_its_files_leaves_nothing(given: Setting, tmp_path: Path) -> None:
    job_id = await given.at(JobState.FAILED)
    directory = tmp_path / "jobs" / str(job_id) / "1"
    directory.mkdir(parents=True)
    beside(directory, LOG).touch()
    await given.control.remove(job_id, files=True)
    assert not directory.parent.exists()
    with pytest.raises(NotFound):
        await given.ledger.job(job_id)


async def test_who_is_edited_or_resumed_into_anothers_task_id_is_warned_as_who_is_submitted(given: Setting) -> None:
    twin = COMMAND.model_copy(update={"task_id": "worker-1"})
    ended, alone = await given.at(JobState.STOPPED, twin), await given.at(JobState.HELD)
    assert (await given.control.resume(ended)).warnings == []
    edited = await given.control.edit(alone, SubmitRequest(task_id="worker-1"))
    assert [f"`worker-1` is also that of job {ended}:" in said for said in edited.warnings] == [True]
    for _ in range(2):
        await given.control.stop(ended)
        await given.control.resume(ended)
        said = (await given.ledger.job(ended)).warnings
        assert [f"`worker-1` is also that of job {alone}:" in each for each in said] == [True]
