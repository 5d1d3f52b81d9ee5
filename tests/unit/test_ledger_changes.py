"""Changes of state: only the allowed ones, each with its event, its attempt and what the queue must hear."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from broker.bus import Bus
from broker.errors import Conflict, NotFound, StaleFence
from broker.ledger.records import AttemptUpdate, Change
from broker.protocol.event import JobChanged
from broker.protocol.states import TRANSITIONS, EndReason, Intent, JobState, Priority
from tests.unit.ledgers import COMMAND, NOW, TRAIN, brought_to, ended, opened, placed, running, submitted


@pytest.mark.parametrize("state", list(JobState))
async def test_a_job_goes_where_the_table_says_and_nowhere_else(tmp_path: Path, state: JobState):
    async with opened(tmp_path) as ledger:
        for to in JobState:
            job_id = await brought_to(ledger, state)
            move = placed(ledger, job_id) if to is JobState.STARTING else ended(ledger, job_id, to)
            if to in TRANSITIONS[state]:
                assert (await move).state == to
            else:
                before = await ledger.job(job_id)
                with pytest.raises(Conflict, match=f"job {job_id} is {state}: .* needs a job that is"):
                    await move
                assert await ledger.job(job_id) == before


async def test_counts_follow_every_change(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        for times, state in enumerate(JobState):
            for _ in range(times):
                await brought_to(ledger, state)
        assert await ledger.counts() == {state: times for times, state in enumerate(JobState)}


async def test_a_change_meant_for_another_state_or_attempt_changes_nothing(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        with pytest.raises(Conflict, match="job 1 is running: hold needs a job that is held or queued"):
            expect = frozenset({JobState.QUEUED, JobState.HELD})
            await ledger.advance(Change(job.id, "hold", to=JobState.STOPPED, expect=expect))
        with pytest.raises(StaleFence, match="attempt 7"):
            await ledger.advance(Change(job.id, "complete", to=JobState.COMPLETED, fence=7))
        with pytest.raises(NotFound):
            await ledger.advance(Change(99, "stop", intent=Intent.STOP))
        assert (await ledger.job(job.id)).state is JobState.RUNNING


async def test_of_many_starts_at_once_one_wins(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await submitted(ledger)
        outcomes = await asyncio.gather(*(placed(ledger, job_id) for _ in range(50)), return_exceptions=True)
        assert len([one for one in outcomes if not isinstance(one, BaseException)]) == 1
        assert {type(one) for one in outcomes if isinstance(one, BaseException)} == {Conflict}
        assert len(await ledger.attempts(job_id)) == 1


async def test_each_start_is_an_attempt_with_its_own_number_and_folder(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ended(ledger, job.id, JobState.QUEUED)
        again = await placed(ledger, job.id)
        assert (job.fence, again.fence) == (1, 2)
        assert again.started_at == job.started_at
        first, second = await ledger.attempts(job.id)
        assert (first.directory, second.directory) == ("/jobs/1/1", "/jobs/1/2")
        assert first.engine_ref == "42:1:boot"
        assert first.running_at is not None
        assert first.ended_at is not None
        assert (second.node, second.gpus, second.ended_at) == ("local", ["GPU-1"], None)
        [active] = await ledger.active()
        assert (active.job.id, active.job.spec, active.attempt) == (job.id, TRAIN, second)


async def test_how_an_attempt_ended_is_kept_beside_why_the_job_did(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        update = AttemptUpdate(ended_at=NOW, exit_code=137, reason=EndReason.INTERRUPTED, message="killed")
        change = Change(job.id, "requeue", to=JobState.QUEUED, reason=EndReason.INTERRUPTED, attempt=update, fence=1)
        job = await ledger.advance(change)
        [attempt] = await ledger.attempts(job.id)
        assert (attempt.exit_code, attempt.reason, attempt.message) == (137, EndReason.INTERRUPTED, "killed")
        assert attempt.ended_at == NOW
        assert (await ledger.audit(job.id))[-1].reason is EndReason.INTERRUPTED
        assert job.reason is None


async def test_a_job_that_waits_again_has_a_clean_row_and_its_old_place(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.advance(Change(job.id, "preempt", intent=Intent.PREEMPT))
        await ended(ledger, job.id, JobState.FAILED, message="out of memory")
        failed = await ledger.job(job.id)
        assert (failed.reason, failed.message, failed.intent) == (EndReason.OOM_CUDA, "out of memory", None)
        job = await ledger.advance(Change(job.id, "resume", to=JobState.QUEUED, not_before=NOW, infra_deaths=2))
        assert (job.reason, job.message, job.intent, job.ended_at, job.node, job.gpus) == (
            None,
            "",
            None,
            None,
            None,
            [],
        )
        assert (job.rank, job.not_before, job.infra_deaths) == (1.0, NOW, 2)
        assert job.queued_at is not None
        assert job.queued_at > job.submitted_at


async def test_an_intent_stays_until_it_has_come_true(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        assert (await ledger.advance(Change(job.id, "stop", intent=Intent.STOP))).intent is Intent.STOP
        assert (await ledger.advance(Change(job.id, "lost", to=JobState.UNKNOWN))).intent is Intent.STOP
        assert (await ledger.advance(Change(job.id, "back", to=JobState.RUNNING))).intent is Intent.STOP
        assert (await ended(ledger, job.id, JobState.STOPPED)).intent is None


async def test_the_queue_hears_of_every_way_in_and_out(tmp_path: Path):
    async with opened(tmp_path) as ledger:

        async def told() -> list[str]:
            entries = await ledger.outbox()
            await ledger.outbox_done([entry.id for entry in entries])
            return [entry.op for entry in entries]

        job_id = await submitted(ledger)
        assert await told() == ["enqueue"]
        await ledger.advance(Change(job_id, "hold", to=JobState.HELD))
        assert await told() == ["dequeue"]
        await ledger.advance(Change(job_id, "priority", priority=Priority.HIGH))
        assert await told() == []
        await ledger.advance(Change(job_id, "release", to=JobState.QUEUED))
        assert await told() == ["enqueue"]
        await ledger.advance(Change(job_id, "move", rank=0.5))
        await ledger.advance(Change(job_id, "priority", priority=Priority.LOW))
        await ledger.advance(Change(job_id, "priority", priority=Priority.LOW))
        assert await ledger.queued() == [(job_id, Priority.LOW, 0.5)]
        assert await told() == ["enqueue", "enqueue"]
        await placed(ledger, job_id)
        assert await told() == []
        await ended(ledger, job_id, JobState.STOPPED)
        assert await told() == ["result"]
        await ledger.advance(Change(job_id, "resume", to=JobState.QUEUED))
        await ended(ledger, job_id, JobState.STOPPED)
        assert await told() == ["enqueue", "dequeue", "result"]


async def test_a_result_says_how_the_job_ended(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger, COMMAND)
        await ended(ledger, job.id, JobState.FAILED, message="exit code 3")
        [_, result] = await ledger.outbox()
        body = dict(result.body)
        assert (body["task_id"], body["job_id"], body["state"], body["reason"]) == ("T-1", 1, "failed", "oom_cuda")
        assert (body["message"], body["node"], body["epoch"], body["fitness"]) == ("exit code 3", "local", 0, None)
        assert body["submitted_at"] <= body["started_at"] <= body["ended_at"]


async def test_an_edit_changes_what_the_job_is_and_how_it_is_found(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await submitted(ledger, TRAIN)
        job = await ledger.advance(Change(job_id, "edit", spec=COMMAND))
        assert (job.kind, job.user, job.model, job.epochs) == ("command", "ana", "python", 0)
        assert (await ledger.job(job_id)).spec == COMMAND
        assert [len((await ledger.jobs(words)).jobs) for words in ("fruit", "prep")] == [0, 1]
        started = await placed(ledger, job_id)
        with pytest.raises(Conflict, match="can be edited"):
            await ledger.advance(Change(started.id, "edit", spec=TRAIN))


async def test_the_audit_trail_says_who_did_what(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await submitted(ledger)
        change = Change(job_id, "hold", to=JobState.HELD, by="ana", message="later", data={"from": "cockpit"})
        await ledger.advance(change)
        await ledger.advance(Change(job_id, "priority", priority=Priority.HIGH, by="bob"))
        submit, hold, priority = await ledger.audit(job_id)
        assert (submit.verb, submit.to_state, hold.verb) == ("submit", JobState.QUEUED, "hold")
        assert (hold.from_state, hold.to_state, hold.by) == (JobState.QUEUED, JobState.HELD, "ana")
        assert (hold.message, hold.data) == ("later", {"from": "cockpit"})
        assert (priority.from_state, priority.to_state, priority.by) == (None, None, "bob")
        assert [entry.seq for entry in await ledger.audit(after=hold.seq)] == [priority.seq]


async def test_a_removed_job_is_forgotten_but_for_its_removal(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await brought_to(ledger, JobState.COMPLETED)
        alive = await brought_to(ledger, JobState.RUNNING)
        with pytest.raises(Conflict, match="stop it"):
            await ledger.remove(alive)
        await ledger.remove(job_id, by="ana")
        with pytest.raises(NotFound):
            await ledger.job(job_id)
        with pytest.raises(NotFound):
            await ledger.remove(job_id)
        assert [(entry.verb, entry.by) for entry in await ledger.audit(job_id)] == [("remove", "ana")]
        assert [job.id for job in (await ledger.jobs("fruit")).jobs] == [alive]
        assert (await ledger.counts())[JobState.COMPLETED] == 0


async def test_what_is_forgotten_in_the_same_commit_as_its_last_change_leaves_nothing(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id, other = [await submitted(ledger, state=JobState.HELD) for _ in range(2)]
        await asyncio.gather(
            ledger.advance(Change(job_id, "release", to=JobState.QUEUED)),
            ledger.remove(job_id),
            ledger.advance(Change(other, "release", to=JobState.QUEUED)),
        )
        assert [entry.verb for entry in await ledger.audit(job_id)] == ["remove"]
        assert [(entry.op, entry.job_id) for entry in await ledger.outbox()] == [
            ("dequeue", job_id),
            ("enqueue", other),
        ]


async def test_changes_of_one_job_in_one_commit_each_see_those_before(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await submitted(ledger)
        update = AttemptUpdate(engine_ref="42:1:boot")
        outcomes = await asyncio.gather(
            placed(ledger, job_id),
            ledger.advance(Change(job_id, "run", to=JobState.RUNNING, fence=1, attempt=update)),
            placed(ledger, job_id),
            ended(ledger, job_id),
            return_exceptions=True,
        )
        assert [isinstance(one, Conflict) for one in outcomes] == [False, False, True, False]
        [attempt] = await ledger.attempts(job_id)
        assert attempt.engine_ref == "42:1:boot"
        assert (attempt.running_at is None, attempt.ended_at is None) == (False, False)
        assert [entry.verb for entry in await ledger.audit(job_id)] == ["submit", "place", "run", "end"]


async def test_an_event_that_cannot_be_written_fails_its_own_change_alone(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        ids = [await submitted(ledger) for _ in range(3)]
        nobody: Any = None
        changes = [
            Change(job_id, "hold", to=JobState.HELD, by=by) for job_id, by in zip(ids, (nobody, "a", "b"), strict=True)
        ]
        changes.append(Change(ids[1], "move", rank=0.5))  # which needs what was written of this job before
        outcomes = await asyncio.gather(*(ledger.advance(change) for change in changes), return_exceptions=True)
        assert [isinstance(one, sqlite3.IntegrityError) for one in outcomes] == [True, False, False, False]
        assert [(await ledger.job(job_id)).state for job_id in ids] == ["queued", "held", "held"]
        held = [(entry.job_id, entry.by) for entry in await ledger.audit() if entry.verb == "hold"]
        assert held == [(ids[1], "a"), (ids[2], "b")]


async def test_a_waiting_job_that_is_removed_leaves_the_queue(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.remove(await submitted(ledger))
        assert [entry.op for entry in await ledger.outbox()] == ["dequeue"]


async def test_neighbours_are_those_of_the_same_priority(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        first, second, third = [await submitted(ledger) for _ in range(3)]
        other = await submitted(ledger, TRAIN.model_copy(update={"priority": Priority.HIGH}))
        assert await ledger.neighbours(second) == (1.0, 3.0)
        assert await ledger.neighbours(first) == (None, 2.0)
        assert await ledger.neighbours(third) == (2.0, None)
        assert await ledger.neighbours(other) == (None, None)
        assert await ledger.bounds(Priority.NORMAL) == (1.0, 3.0)
        assert await ledger.bounds(Priority.LOW) == (None, None)
        with pytest.raises(Conflict, match="neighbours"):
            await ledger.neighbours((await placed(ledger, first)).id)


async def test_failures_are_counted_from_a_moment_on(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        jobs = [await ledger.job(await brought_to(ledger, JobState.FAILED)) for _ in range(3)]
        moments = [job.ended_at for job in jobs if job.ended_at is not None]
        assert [await ledger.failed_since(moment) for moment in moments] == [3, 2, 1]


async def test_followers_see_each_change_once_and_in_order(tmp_path: Path):
    bus = Bus()
    async with opened(tmp_path, bus) as ledger:
        follower = bus.subscribe()
        job = await running(ledger)
        await ended(ledger, job.id)
        await ledger.remove(job.id)
        assert ledger.seq == 5
        bus.close()
        told = [event async for event in follower]
        assert [event.seq for event in told] == [1, 2, 3, 4, 5]
        changes = [event for event in told if isinstance(event, JobChanged)]
        assert [(event.verb, event.job.state) for event in changes] == [
            ("submit", "queued"), ("place", "starting"), ("run", "running"), ("end", "completed"),
        ]  # fmt: skip
        assert all(event.job.spec is None for event in changes)
        assert told[-1].kind == "removed"
