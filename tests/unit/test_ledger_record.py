"""What supervisors record: one continuous series, and reading something twice changes nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from broker.bus import Bus
from broker.errors import NotFound, StaleFence
from broker.ledger.ledger import Ledger
from broker.ledger.records import Recorded
from broker.protocol.api import Pace
from broker.protocol.event import EpochDone, FollowerEvent, JobChanged
from broker.protocol.job import Checkpoint, CommandWork, GpuRequest, Job, JobSpec, Resources, TrainWork
from broker.protocol.states import JobState
from tests.unit.ledgers import NOW, ended, epoch, opened, placed, read, running


def checkpoint(number: int, attempt: int = 1) -> Checkpoint:
    return Checkpoint(path=f"/jobs/1/{attempt}/{number}.pt", epoch=number, sha256="ab", attempt=attempt, at=NOW)


async def resumed(ledger: Ledger, job: Job) -> Job:
    await ended(ledger, job.id, JobState.QUEUED)
    return await placed(ledger, job.id)


async def test_epochs_become_metrics_and_the_job_knows_its_best(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1, 0.2), epoch(2, 0.6, extra=7.0), epoch(3, 0.4)))
        table = await ledger.metrics(job.id)
        assert (table.epochs, table.attempts, table.seconds) == ([1, 2, 3], [1, 1, 1], [1.5, 1.5, 1.5])
        assert table.columns == {"metrics/mAP50(B)": [0.2, 0.6, 0.4], "extra": [None, 7.0, None]}
        job = await ledger.job(job.id)
        assert (job.epoch, job.epochs, job.fitness, job.best_fitness, job.best_epoch) == (3, 5, 0.4, 0.6, 2)
        assert (job.fitness_name, job.spark) == ("mAP50", [0.2, 0.6, 0.4])
        done = [entry.data for entry in await ledger.audit(job.id) if entry.verb == "epoch"]
        assert done[1] == {"epoch": 2, "seconds": 1.5, "fitness": 0.6}
        short = await ledger.metrics(job.id, names=["map50"], last=2)
        assert (short.epochs, short.columns) == ([2, 3], {"metrics/mAP50(B)": [0.6, 0.4]})


async def test_what_is_read_twice_changes_nothing(tmp_path: Path):
    bus = Bus()
    async with opened(tmp_path, bus) as ledger:
        job = await running(ledger)
        what = replace(
            read(job, epoch(1), epoch(2)), checkpoints=[checkpoint(2)], notes=["batch halved"], started={"batch": 8}
        )
        await ledger.record(what)
        before = (await ledger.job(job.id), await ledger.metrics(job.id), await ledger.audit(job.id), ledger.seq)
        follower = bus.subscribe()
        await ledger.record(what)
        await ledger.record(replace(what, epochs=what.epochs[:1], checkpoints=[], notes=[]))
        after = (await ledger.job(job.id), await ledger.metrics(job.id), await ledger.audit(job.id), ledger.seq)
        assert after == before
        bus.close()
        assert [event async for event in follower] == []


async def test_where_reading_goes_on_is_kept_with_what_was_read(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1), position=4))
        await ledger.record(read(job, position=2))
        [attempt] = await ledger.attempts(job.id)
        assert (attempt.log_offset, attempt.last_event) == (400, 4)


async def test_an_epoch_that_was_missed_is_filled_in_later(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1), epoch(3, 0.3)))
        await ledger.record(read(job, epoch(2, 0.9), position=4))
        assert (await ledger.metrics(job.id)).epochs == [1, 2, 3]
        job = await ledger.job(job.id)
        assert (job.epoch, job.fitness, job.best_epoch) == (3, 0.3, 2)
        assert [one.id for one in (await ledger.jobs("map50=0.3")).jobs] == [job.id]


async def test_a_resumed_run_goes_on_in_the_same_series(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1), epoch(2)))
        job = await resumed(ledger, job)
        await ledger.record(read(job, epoch(3), epoch(4)))
        table = await ledger.metrics(job.id)
        assert (table.epochs, table.attempts) == ([1, 2, 3, 4], [1, 1, 2, 2])


async def test_a_run_resumed_from_further_back_replaces_what_came_after(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1, 0.1), epoch(2, 0.2), epoch(3, 0.9), epoch(4, 0.8)))
        job = await resumed(ledger, job)
        await ledger.record(read(job, epoch(3, 0.5)))
        table = await ledger.metrics(job.id)
        assert (table.epochs, table.attempts) == ([1, 2, 3], [1, 1, 2])
        assert table.columns == {"metrics/mAP50(B)": [0.1, 0.2, 0.5]}
        job = await ledger.job(job.id)
        assert (job.epoch, job.best_fitness, job.best_epoch) == (3, 0.5, 3)


async def test_an_attempt_that_was_taken_over_cannot_record(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        old = await running(ledger)
        await resumed(ledger, old)
        with pytest.raises(StaleFence):
            await ledger.record(read(old, epoch(1)))
        with pytest.raises(NotFound):
            await ledger.record(Recorded(99, 1, 0, 0))
        assert (await ledger.metrics(old.id)).epochs == []


async def test_values_that_are_no_numbers_are_kept_as_gaps(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, epoch(1, math.nan, loss=math.inf), epoch(2, 0.5, loss=1.0)))
        assert (await ledger.metrics(job.id)).columns == {"metrics/mAP50(B)": [None, 0.5], "loss": [None, 1.0]}
        assert (await ledger.job(job.id)).spark == [0.5]


async def test_checkpoints_come_newest_first(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(replace(read(job), checkpoints=[checkpoint(1), checkpoint(2)]))
        job = await resumed(ledger, job)
        await ledger.record(replace(read(job), checkpoints=[checkpoint(2, attempt=2)]))
        found = [(one.epoch, one.attempt) for one in await ledger.checkpoints(job.id)]
        assert found == [(2, 2), (2, 1), (1, 1)]


async def test_a_row_shows_the_newest_thirty_two_values(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        await ledger.record(read(job, *(epoch(n, n / 100) for n in range(1, 51))))
        [row] = (await ledger.jobs()).jobs
        assert row.spark == [n / 100 for n in range(19, 51)]


async def test_a_command_s_notes_are_told_though_its_log_stands_still(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        job = await running(ledger)
        note = Recorded(job.id, job.fence, log_offset=0, last_event=0, notes=["log cut at 512 MiB"])
        await ledger.record(note)
        await ledger.record(note)
        assert [entry.message for entry in await ledger.audit(job.id) if entry.verb == "note"] == ["log cut at 512 MiB"]


async def test_who_reconnects_misses_no_epoch_and_sees_the_job_as_it_is(tmp_path: Path):
    bus = Bus()
    async with opened(tmp_path, bus) as ledger:
        follower = bus.subscribe()
        job = await running(ledger)
        await ledger.record(replace(read(job, epoch(1), epoch(2)), notes=["careful"]))
        await ledger.record(read(job, epoch(3)))
        bus.close()
        live = [event async for event in follower]
        numbers = [event.seq for event in live]
        assert numbers == sorted(set(numbers))

        def epochs(events: list[FollowerEvent]) -> list[tuple[int, int, dict[str, float]]]:
            return [(event.seq, event.epoch, event.values) for event in events if isinstance(event, EpochDone)]

        replayed = await ledger.events_after(0)
        assert epochs(replayed) == epochs(live)
        assert replayed[-1].seq == live[-1].seq == ledger.seq
        for seen in numbers:
            rest = await ledger.events_after(seen)
            assert epochs(rest) == [one for one in epochs(live) if one[0] > seen]
            assert all(event.seq > seen for event in rest)
            newest = [event.job for event in rest if isinstance(event, JobChanged)][-1:]
            assert [one.epoch for one in newest] == ([3] if seen < ledger.seq else [])


def training(**args: object) -> JobSpec:
    return JobSpec(work=TrainWork(model="yolov8n.pt", args={"data": "coco8.yaml", "epochs": 5, **args}))


async def test_a_training_takes_as_long_as_the_newest_that_is_like_it(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        assert await ledger.pace(training()) is None
        for seconds in (9.0, 4.0):  # the newer one counts
            job = await running(ledger, training(epochs=3, lr0=0.1))
            rows = [replace(epoch(number), seconds=seconds) for number in (1, 2)]
            await ledger.record(read(job, *rows))
            await ended(ledger, job.id)
        await running(ledger, training())  # nothing is known of it yet
        assert await ledger.pace(training()) == Pace(job_id=2, epoch_s=4.0)
        for other in (
            training(imgsz=1280),
            training(batch=8),
            training(data="coco128.yaml"),
            training().model_copy(update={"resources": Resources(gpu=GpuRequest(count=0))}),
            training().model_copy(update={"work": TrainWork(model="yolov8s.pt", args={"data": "coco8.yaml"})}),
            JobSpec(work=CommandWork(argv=["true"])),
        ):
            assert await ledger.pace(other) is None
