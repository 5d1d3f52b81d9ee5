"""The ledger's file: what was acknowledged survives a kill, one bad write harms no other, a full disk loses nothing."""

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.bus import Bus
from broker.errors import Conflict, IdempotencyConflict, LedgerFull, LedgerUnusable, NotFound
from broker.ledger import schema
from broker.ledger.ledger import Ledger
from broker.ledger.records import Change, NewJob, NodeNote
from broker.protocol.event import JobChanged
from broker.protocol.fleet import NodeState, Withheld
from broker.protocol.states import JobState
from tests.unit.ledgers import COMMAND, NOW, TRAIN, brought_to, ended, epoch, opened, placed, read, running, submitted

SUBMITTER = """
import asyncio, sys
from pathlib import Path
from broker.bus import Bus
from broker.ledger.ledger import Ledger
from broker.ledger.records import NewJob
from tests.unit.ledgers import COMMAND

async def main() -> None:
    ledger = await Ledger.open(Path(sys.argv[1]), Bus())

    async def one(number: int) -> None:
        while True:
            [answer] = await ledger.submit([NewJob(COMMAND)])
            sys.stdout.write(f"{answer.id}\\n")
            sys.stdout.flush()

    await asyncio.gather(*(one(number) for number in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged", [1, 50, 400])
async def test_a_kill_loses_no_acknowledged_submission(tmp_path: Path, acknowledged: int):
    path = tmp_path / "ledger.db"
    child = subprocess.Popen([sys.executable, "-c", SUBMITTER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    answers = [child.stdout.readline() for _ in range(acknowledged)]
    child.send_signal(signal.SIGKILL)
    answers += child.stdout.readlines()
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    known = {int(line) for line in answers if line.endswith("\n")}
    async with opened(tmp_path) as ledger:
        there = {job_id for job_id, _, _ in await ledger.queued()}
        assert known <= there
        assert there == set(range(1, max(there) + 1))
        assert (await ledger.counts())[JobState.QUEUED] == len(there) == len(await ledger.outbox(limit=10_000))
        assert await submitted(ledger) == max(there) + 1


async def test_one_bad_write_fails_alone(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        ids = [await submitted(ledger) for _ in range(20)]
        holds = [ledger.advance(Change(job_id, "hold", to=JobState.HELD)) for job_id in ids]
        wrong = [
            ledger.advance(Change(99, "hold", to=JobState.HELD)),
            ledger.advance(Change(1, "start", to=JobState.STARTING)),
            ledger.advance(Change(2, "run", to=JobState.RUNNING)),
            ledger.submit([NewJob(TRAIN, key="twin", body_hash="1"), NewJob(TRAIN, key="twin", body_hash="2")]),
        ]
        outcomes = await asyncio.gather(*holds[:10], *wrong, *holds[10:], return_exceptions=True)
        errors = [type(one) for one in outcomes if isinstance(one, BaseException)]
        assert errors == [NotFound, ValueError, Conflict, IdempotencyConflict]
        assert (await ledger.submit([NewJob(TRAIN, key="twin", body_hash="3")]))[0].fresh
        assert (await ledger.counts())[JobState.HELD] == 20
        assert [entry.seq for entry in await ledger.audit()] == list(range(1, len(await ledger.audit()) + 1))


async def test_a_write_goes_on_though_nobody_waits_for_it_any_more(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        task = asyncio.create_task(ledger.submit([NewJob(TRAIN)]))
        await asyncio.sleep(0)
        task.cancel()
        await submitted(ledger)
        assert len(await ledger.queued()) == 2


async def test_what_was_asked_before_closing_is_written(tmp_path: Path):
    ledger = await Ledger.open(tmp_path / "ledger.db", Bus())
    tasks = [asyncio.create_task(ledger.submit([NewJob(TRAIN)])) for _ in range(50)]
    await asyncio.sleep(0)
    await ledger.close()
    assert len(await asyncio.gather(*tasks)) == 50
    async with opened(tmp_path) as ledger:
        assert len(await ledger.queued()) == 50


async def test_a_follower_who_comes_between_a_write_and_its_commit_misses_nothing(tmp_path: Path):
    bus = Bus()
    first_is_written, go_on = threading.Event(), threading.Event()
    asked = itertools.count()

    def clock() -> datetime:
        if next(asked) == 1:  # asked for the second write of the group
            first_is_written.set()
            go_on.wait()
        return NOW

    ledger = await Ledger.open(tmp_path / "ledger.db", bus, clock)
    writing = asyncio.gather(*(ledger.submit([NewJob(TRAIN)]) for _ in range(2)))
    await asyncio.to_thread(first_is_written.wait)
    follower = bus.subscribe()
    page = await ledger.jobs()
    go_on.set()
    await writing
    await ledger.close()
    bus.close()
    told = [event.job.id async for event in follower if isinstance(event, JobChanged)]
    assert [job.id for job in page.jobs] + told == [1, 2]


async def test_the_broker_keeps_its_id_and_its_numbers(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await submitted(ledger)
        before = (ledger.broker_id, ledger.seq)
    async with opened(tmp_path) as ledger:
        assert (ledger.broker_id, ledger.seq) == before


async def test_every_commit_is_on_the_disk_before_it_is_answered(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        assert not ledger.read_only
        db = sqlite3.connect(tmp_path / "ledger.db")
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.close()
    db, _ = schema.open_ledger(tmp_path / "ledger.db")
    pragmas = ("synchronous", "foreign_keys", "busy_timeout")
    assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas] == [2, 1, 5000]
    db.close()


def test_readers_cannot_write(tmp_path: Path):
    schema.open_ledger(tmp_path / "ledger.db")[0].close()
    db = schema.open_reader(tmp_path / "ledger.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        db.execute("DELETE FROM jobs")
    db.close()


def test_a_file_without_a_version_is_brought_to_the_newest(tmp_path: Path):
    path = tmp_path / "ledger.db"
    path.touch()
    db, _ = schema.open_ledger(path)
    scripts = sorted(schema.MIGRATIONS.glob("*.sql"))
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(scripts)
    assert [int(script.name[:4]) for script in scripts] == list(range(1, len(scripts) + 1))
    db.close()


def test_each_migration_is_applied_once_and_a_failed_one_not_at_all(tmp_path: Path):
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    newest = len(list(folder.iterdir())) + 1
    path = tmp_path / "ledger.db"
    schema.open_ledger(path)[0].close()
    script = folder / f"{newest:04}_next.sql"
    script.write_text("CREATE TABLE colours (name TEXT);\nINSERT INTO nowhere VALUES (1);")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        schema.open_ledger(path, folder)
    script.write_text("CREATE TABLE colours (name TEXT);")
    for _ in range(2):
        db, _id = schema.open_ledger(path, folder)
        assert db.execute("PRAGMA user_version").fetchone()[0] == newest
        db.close()


async def test_where_attempts_ran_is_known_of_a_ledger_from_before_nodes_were(tmp_path: Path):
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(schema.MIGRATIONS / "0001_ledger.sql", older)
    db, _ = schema.open_ledger(tmp_path / "ledger.db", older)
    db.executescript(
        """INSERT INTO jobs (id, state, kind, name, user, model, data, words, priority, rank, epochs, submitted_at)
               VALUES (7, 'completed', 'train', 'a', '', '', '', '', 1, 7, 5, 1);
           INSERT INTO attempts (job_id, fence, node, gpus, directory, started_at) VALUES (7, 1, 'attic', '[]', '', 1);
           INSERT INTO events (at, job_id, attempt, verb, from_state, to_state) VALUES
               (1, 7, NULL, 'submit', NULL, 'queued'), (2, 7, 1, 'place', 'queued', 'starting'),
               (3, 7, 1, 'epoch', NULL, NULL), (4, 7, 1, 'complete', 'running', 'completed');"""
    )
    db.close()
    async with opened(tmp_path) as ledger:
        assert [entry.verb for entry in await ledger.node_trail("attic")] == ["place", "complete"]
        assert [entry.verb for entry in await ledger.node_trail("attic", after=2)] == ["complete"]
        assert await ledger.nodes() == {}


async def test_nothing_starts_on_a_node_that_is_withheld_until_its_time_is_over(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        said = Withheld(state=NodeState.PAUSED, since=NOW, until=datetime.now(UTC) + timedelta(hours=1), by="ann")
        await ledger.note_node("local", NodeNote("pause", by="ann", withheld=said))
        job_id = await submitted(ledger)
        with pytest.raises(Conflict, match=r"cannot start on local, which is paused"):
            await placed(ledger, job_id)
        over = said.model_copy(update={"until": datetime.now(UTC) - timedelta(seconds=1)})
        await ledger.note_node("local", NodeNote("pause", withheld=over))
        assert (await placed(ledger, job_id)).state is JobState.STARTING
        assert (await ledger.nodes())["local"].withheld == over


async def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path):
    async with opened(tmp_path) as ledger:
        await submitted(ledger)
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = (tmp_path / "ledger.db").read_bytes()
    with pytest.raises(LedgerUnusable, match=r"newer wyolo .* 999"):
        await Ledger.open(tmp_path / "ledger.db", Bus())
    assert (tmp_path / "ledger.db").read_bytes() == before


async def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path: Path):
    path = tmp_path / "ledger.db"
    path.write_text("these are notes\n" * 1000)
    with pytest.raises(LedgerUnusable, match="left as it is"):
        await Ledger.open(path, Bus())
    assert path.read_text() == "these are notes\n" * 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small tmpfs needs root and mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("this system does not allow mounting a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no space on the disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue
    return path


async def test_on_a_full_disk_final_states_are_written_and_all_that_was_there_is_kept(small_disk: Path):
    async with opened(small_disk) as ledger:
        runs = [(await running(ledger)).id for _ in range(5)]
        waits = await submitted(ledger)
        assert (small_disk / "ballast").stat().st_size == 8 * 2**20
        filler = fill(small_disk)
        accepted = 6
        with pytest.raises(LedgerFull, match="free some space"):
            for _ in range(1000):
                await submitted(ledger)
                accepted += 1
        assert ledger.read_only
        for job_id in runs:
            assert (await ended(ledger, job_id)).state is JobState.COMPLETED
        assert (await ledger.job(runs[0])).state is JobState.COMPLETED
        with pytest.raises(LedgerFull):
            await submitted(ledger)
        with pytest.raises(LedgerFull):
            await placed(ledger, waits)
        assert sum((await ledger.counts()).values()) == accepted
        filler.unlink()
        await submitted(ledger, COMMAND)
        assert not ledger.read_only
        assert (small_disk / "ballast").stat().st_size == 8 * 2**20
    async with opened(small_disk) as ledger:
        counts = await ledger.counts()
        assert (counts[JobState.COMPLETED], sum(counts.values())) == (5, accepted + 1)
        assert (await ledger.job(accepted + 1)).spec == COMMAND


async def test_a_broker_that_starts_on_a_full_disk_reads_and_ends_jobs(small_disk: Path):
    async with opened(small_disk) as ledger:
        job = await running(ledger)
    for path in (small_disk / "ledger.db-wal", small_disk / "ledger.db-shm"):
        assert not path.exists()
    filler = fill(small_disk)
    async with opened(small_disk) as ledger:
        assert ledger.read_only
        assert [one.id for one in (await ledger.jobs()).jobs] == [job.id]
        with pytest.raises(LedgerFull):
            await submitted(ledger)
        await ended(ledger, job.id)
        filler.unlink()
        await submitted(ledger)
        assert not ledger.read_only


async def test_while_the_disk_is_full_what_was_read_of_a_run_is_refused_and_can_be_read_again(small_disk: Path):
    async with opened(small_disk) as ledger:
        job = await running(ledger)
        filler = fill(small_disk)
        with pytest.raises(LedgerFull):
            for number in range(1, 10_000):
                await ledger.record(read(job, epoch(number)))
        number = (await ledger.job(job.id)).epoch + 1
        filler.unlink()
        await ledger.record(read(job, epoch(number)))
        assert (await ledger.metrics(job.id)).epochs == list(range(1, number + 1))


async def test_times_are_those_of_the_clock_that_was_given(tmp_path: Path):
    then = datetime(2031, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
    ledger = await Ledger.open(tmp_path / "ledger.db", Bus(), clock=lambda: then)
    job = await ledger.job(await brought_to(ledger, JobState.COMPLETED))
    assert {job.submitted_at, job.queued_at, job.started_at, job.ended_at} == {then}
    await ledger.close()
