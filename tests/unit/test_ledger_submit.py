"""Submissions: durable, all or none, and harmless when repeated."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.bus import Bus
from broker.errors import Conflict, IdempotencyConflict, NotFound
from broker.ledger.records import NewJob
from broker.protocol.event import JobChanged
from broker.protocol.job import CommandWork, JobSpec, TrainWork
from broker.protocol.states import JobState, Priority
from tests.unit.ledgers import COMMAND, TRAIN, ended, opened, submitted


async def test_a_submitted_job_is_as_it_was_asked_for(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job_id = await submitted(ledger, COMMAND)
    async with opened(tmp_path) as ledger:
        job = await ledger.job(job_id)
    assert (job.spec, job.state, job.kind, job.user, job.task_id) == (COMMAND, "queued", "command", "ana", "T-1")
    assert (job.model, job.name, job.epochs, job.rank) == ("python", "python prep.py --fast", 0, float(job_id))
    assert job.queued_at == job.submitted_at <= datetime.now(UTC)


async def test_a_training_without_a_name_is_called_after_its_model_and_data(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        work = TrainWork(model="weights/yolov8n.pt", args={"data": "/data/coco8.yaml"})
        job = await ledger.job(await submitted(ledger, JobSpec(work=work)))
    assert (job.name, job.epochs, job.data) == ("yolov8n-coco8", 100, "/data/coco8.yaml")


async def test_two_hundred_submissions_with_one_key_make_one_job(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = NewJob(TRAIN, key="once", body_hash="abc")
        answers = await asyncio.gather(*(ledger.submit([job]) for _ in range(200)))
        assert len({answer.id for [answer] in answers}) == 1
        assert [answer.fresh for [answer] in answers].count(True) == 1
        assert sum((await ledger.counts()).values()) == 1
        assert len(await ledger.outbox()) == 1


async def test_a_key_is_remembered_after_a_restart_and_refused_with_another_body(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN, key="once", body_hash="abc")])
    async with opened(tmp_path) as ledger:
        assert not (await ledger.submit([NewJob(TRAIN, key="once", body_hash="abc")]))[0].fresh
        with pytest.raises(IdempotencyConflict, match="once"):
            await ledger.submit([NewJob(COMMAND, key="new", body_hash="1"), NewJob(TRAIN, key="once", body_hash="xyz")])
        assert sum((await ledger.counts()).values()) == 1
        assert (await ledger.submit([NewJob(COMMAND, key="new", body_hash="2")]))[0].fresh


async def test_a_batch_with_a_key_is_answered_with_all_of_its_jobs(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        first = await ledger.submit([NewJob(TRAIN)] * 100, key="batch", body_hash="abc")
        again = await ledger.submit([NewJob(TRAIN)] * 100, key="batch", body_hash="abc")
        assert [answer.id for answer in again] == [answer.id for answer in first]
        assert not any(answer.fresh for answer in again)
        with pytest.raises(IdempotencyConflict):
            await ledger.submit([NewJob(TRAIN)], key="batch", body_hash="other")


async def test_the_same_key_twice_in_a_batch_is_one_job(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        twin = NewJob(TRAIN, key="twin", body_hash="abc")
        answers = await ledger.submit([twin, NewJob(COMMAND), twin])
        assert [(answer.id, answer.fresh) for answer in answers] == [(1, True), (2, True), (1, False)]


async def test_old_keys_are_forgotten(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN, key="old", body_hash="abc")])
        assert await ledger.prune(datetime.now(UTC) - timedelta(days=1)) == 0
        assert await ledger.prune(datetime.now(UTC) + timedelta(days=1)) == 1
        assert (await ledger.submit([NewJob(TRAIN, key="old", body_hash="abc")]))[0].fresh


async def test_the_queue_is_told_of_waiting_jobs_and_not_of_held_ones(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        urgent = TRAIN.model_copy(update={"priority": Priority.HIGH})
        await ledger.submit([NewJob(urgent), NewJob(TRAIN, JobState.HELD), NewJob(TRAIN)])
        told = [(entry.op, entry.job_id, entry.priority, entry.rank) for entry in await ledger.outbox()]
        assert told == [("enqueue", 1, Priority.HIGH, 1.0), ("enqueue", 3, Priority.NORMAL, 3.0)]
        assert await ledger.queued() == [(1, Priority.HIGH, 1.0), (3, Priority.NORMAL, 3.0)]
        assert await ledger.queued(after_id=1, limit=1) == [(3, Priority.NORMAL, 3.0)]
        await ledger.outbox_done([entry.id for entry in await ledger.outbox()])
        assert await ledger.outbox() == []


async def test_ten_thousand_jobs_at_once_are_all_there_and_all_told(tmp_path: Path):
    bus = Bus()
    async with opened(tmp_path, bus) as ledger:
        follower = bus.subscribe(capacity=20_000)
        answers = await ledger.submit([NewJob(COMMAND)] * 10_000, by="ana")
        bus.close()
        told = [event async for event in follower]
        assert [answer.id for answer in answers] == list(range(1, 10_001))
        assert [event.seq for event in told] == list(range(1, 10_001))
        assert {event.verb for event in told if isinstance(event, JobChanged)} == {"submit"}
        assert (await ledger.counts())[JobState.QUEUED] == 10_000
        assert (await ledger.audit(10_000))[0].by == "ana"


async def test_numbers_are_not_given_out_twice(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        last = [await submitted(ledger) for _ in range(3)][-1]
        await ledger.remove(last)
    async with opened(tmp_path) as ledger:
        assert await submitted(ledger) == last + 1


async def test_a_job_is_found_by_number_name_or_task_id(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        fruit, prep = await submitted(ledger, TRAIN), await submitted(ledger, COMMAND)
        assert [await ledger.find(ref) for ref in (str(fruit), f"#{prep}", "fruit", "FRUIT", "T-1")] == [1, 2, 1, 1, 2]
        for missing in ("99", "apple", ""):
            with pytest.raises(NotFound):
                await ledger.find(missing)


async def test_specs_come_in_the_order_asked_without_those_that_are_gone(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await ledger.submit([NewJob(TRAIN), NewJob(JobSpec(work=CommandWork(argv=["true"])))])
        jobs = await ledger.specs([2, 99, 1])
        assert [job.id for job in jobs] == [2, 1]
        assert jobs[1].spec == TRAIN


async def test_two_jobs_with_one_task_id_are_warned_of_while_neither_has_ended(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        twin = COMMAND.model_copy(update={"task_id": "worker-1"})
        first = await submitted(ledger, twin)
        ids = [made.id for made in await ledger.submit([NewJob(TRAIN), *[NewJob(twin, warnings=["w"])] * 7])]
        told = [(await ledger.job(job_id)).warnings for job_id in (first, *ids)]
        assert told[:2] == [[], []]
        assert told[2][0] == "w" and f"task_id: `worker-1` is also that of job {first}:" in told[2][1]
        assert f"jobs {first}, {ids[1]}:" in told[3][1] and "progress:worker-1" in told[3][1]
        assert "and more" in told[-1][1]
        with pytest.raises(Conflict, match="'worker-1' is the task id of several jobs"):
            await ledger.find("worker-1")
        for job_id in (first, *ids[1:]):
            await ended(ledger, job_id, JobState.STOPPED)
        assert await ledger.shared_task_id("worker-1") is None
        assert (await ledger.job(await submitted(ledger, twin))).warnings == []
