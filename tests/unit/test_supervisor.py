"""Supervision with a real ledger, Redis and processes; trainers are small programs that speak the trainer's wire."""

import asyncio
import errno
import os
import re
import signal
from pathlib import Path

import pytest

from broker.engines import claim
from broker.engines.attempt import LocalAttempt
from broker.engines.base import AttemptRef, Launch
from broker.ledger.records import AttemptStart, Change
from broker.plain import read_plain
from broker.protocol.event import Progressed
from broker.protocol.job import Attempt
from broker.protocol.states import EndReason, Intent, JobState
from broker.redis_server import RedisServer
from broker.supervisor import run
from broker.supervisor.supervisor import jobs_directory
from tests.brokerage import Broker, Start, start
from tests.redis_fixtures import Ask, ask, redis
from tests.waiting import until, until_awaited

__all__ = ["ask", "redis", "start"]


@pytest.fixture
async def broker(start: Start) -> Broker:
    return await start()


async def reason_of_attempt(broker: Broker, job_id: int) -> EndReason | None:
    return (await broker.ledger.attempts(job_id))[0].reason


def shim_of(attempt: Attempt) -> int:
    return int((claim.read(Path(attempt.directory)) or "").split()[0])


async def test_a_command_runs_and_completes(broker: Broker) -> None:
    job = await broker.ended(await broker.shell("echo hello"))
    assert (job.state, job.reason, job.fence) == (JobState.COMPLETED, EndReason.COMPLETED, 1)
    [attempt] = await broker.ledger.attempts(job.id)
    assert (attempt.exit_code, attempt.log_offset) == (0, 6)


async def test_a_command_that_fails_says_what_it_said_last(broker: Broker) -> None:
    job = await broker.ended(await broker.shell("echo all is lost >&2; exit 3"))
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.EXIT_CODE)
    assert job.message == "exit code 3; it said last: all is lost; `wyolo resume 1` runs it again"


async def test_a_program_that_is_not_there_is_named(broker: Broker) -> None:
    job = await broker.ended(await broker.command("no-such-program"))
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.LAUNCH_FAILED)
    assert "there is no program no-such-program" in job.message


TRAINING = """
    started(); epoch(1); epoch(2); epoch(3)
    emit("finished", values={"mAP50": 0.9}, seconds=1)
    result()
"""


async def test_a_training_is_written_down_event_by_event(broker: Broker) -> None:
    job = await broker.ended(await broker.train(TRAINING))
    assert (job.state, job.epoch, job.epochs, job.best_fitness) == (JobState.COMPLETED, 3, 3, 0.3)
    assert (await broker.ledger.metrics(job.id)).columns["loss"] == [1, 0.5, pytest.approx(1 / 3)]
    assert [kept.epoch for kept in await broker.ledger.checkpoints(job.id)] == [3, 2, 1]


async def test_a_training_without_its_result_has_not_succeeded(broker: Broker) -> None:
    job = await broker.ended(await broker.train("started(); epoch(1); print('bye')"))
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.EXIT_CODE)
    assert "left no result; it said last: bye" in job.message
    assert "the checkpoint of epoch 1 is kept: `wyolo resume 1`" in job.message


async def test_the_result_of_another_attempt_counts_for_nothing(broker: Broker) -> None:
    job = await broker.ended(await broker.train("started(); result(fence=9)"))
    assert job.state is JobState.FAILED


async def test_the_trainers_own_reason_is_told(broker: Broker) -> None:
    job = await broker.ended(
        await broker.train("started(); result(ok=False, reason='oom_cuda', message='halve the batch', code=1)")
    )
    assert (job.state, job.reason) == (JobState.FAILED, EndReason.OOM_CUDA)
    assert job.message.startswith("halve the batch; ")


async def test_events_that_the_log_misses_come_from_the_file(broker: Broker) -> None:
    job = await broker.ended(
        await broker.train("""
            started()
            silent = True; epoch(1); epoch(2); silent = False
            emit("note", text="after the gap")
            silent = True; epoch(3)
            result()
        """)
    )
    assert (await broker.ledger.metrics(job.id)).epochs == [1, 2, 3]


LONG = """
    started()
    silent = {early}
    epoch(1)
    for k in range(3000):
        emit("progress", epoch=2, epochs=3, batch=k, batches=3000)
    silent = {late}
    epoch(2)
    {end}
"""
END = 65_536  # bytes


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of events.jsonl, each time that it is read."""
    sizes: list[int] = []

    def read(path: Path, last: int | None = None) -> bytes:
        text = read_plain(path, last)
        sizes.extend([len(text)] if path.name == "events.jsonl" else [])
        return text

    monkeypatch.setattr("broker.engines.attempt.read_plain", read)
    return sizes


@pytest.mark.parametrize(
    ("late", "end", "read"),
    [(False, "result()", []), (True, "result()", [END]), (False, "sys.exit(3)", [END]), (True, "sys.exit(3)", [END])],
)
async def test_at_the_end_of_a_long_training_only_what_was_missed_is_read(
    broker: Broker, looked_at: list[int], late: bool, end: str, read: list[int]
) -> None:
    """To read the events of a day again took a second in which nobody else had a turn."""
    job = await broker.ended(await broker.train(LONG.format(early=False, late=late, end=end)))
    assert (await broker.ledger.metrics(job.id)).epochs == [1, 2]
    assert looked_at == read


async def test_what_was_missed_long_ago_is_read_as_well(broker: Broker, looked_at: list[int]) -> None:
    job = await broker.ended(await broker.train(LONG.format(early=True, late=True, end="result()")))
    assert (await broker.ledger.metrics(job.id)).epochs == [1, 2]
    [end, whole] = looked_at
    assert END == end < whole


async def test_events_that_are_too_far_back_are_missing_and_said_to_be(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.supervisor.hearing.MAX_FETCH", END)
    job = await broker.ended(await broker.train(LONG.format(early=True, late=True, end="result()")))
    assert (await broker.ledger.metrics(job.id)).epochs == [2]
    notes = [entry.message for entry in await broker.ledger.audit(job.id) if entry.verb == "note"]
    assert notes[0] == "only the last 64 KiB of events.jsonl were read"
    assert re.fullmatch(r"0 events could not be read, 2\d{3} are missing", notes[1])


async def test_an_event_read_twice_changes_nothing(broker: Broker) -> None:
    job = await broker.ended(await broker.train("started(); epoch(1); n = 1; epoch(1); epoch(2); epoch(3); result()"))
    assert (await broker.ledger.metrics(job.id)).epochs == [1, 2, 3]


async def test_malformed_events_are_counted_and_harmless(broker: Broker, ask: Ask) -> None:
    job_id = await broker.train(
        r"""
        started()
        print('\x1e{"event": "epoch", "n": 2, "epoch": "many \u202e"}')
        print('\x1e not json \x1b]52;c;YQ==\x07')
        print('half a line \x1e{"event": "note", "n": 2, "at": "2026-01-01T00:00:00Z", "text": "heard"}', flush=True)
        n = 2
        result()
        """
    )
    job = await broker.ended(job_id)
    assert job.state is JobState.COMPLETED
    notes = [entry.message for entry in await broker.ledger.audit(job_id) if entry.verb == "note"]
    assert notes == ["heard", "2 events could not be read, 0 are missing"]
    await until_awaited(lambda: _tail(ask, job_id), what="the log's tail")
    shown = await _tail(ask, job_id)
    assert any("[event that cannot be read" in line for line in shown)
    assert "half a line" in shown
    assert not any("\x1b" in line or "\u202e" in line for line in shown)


async def _tail(ask: Ask, job_id: int) -> list[str]:
    return [fields[1] for _, fields in await ask("XRANGE", f"stream:{job_id}", "-", "+")]


async def test_progress_is_shown_to_followers_and_other_programs(broker: Broker, ask: Ask) -> None:
    followed = broker.bus.subscribe()
    job_id = await broker.train(
        """
        started()
        epoch(1)
        emit("progress", epoch=2, epochs=3, batch=5, batches=10)
        emit("gpu", gpus=[{"index": 0, "uuid": "GPU-a", "memory_used_mib": 5}])
        wait_for("go")
        """
    )

    async def fields() -> dict[str, str]:
        flat = await ask("HGETALL", f"progress:{job_id}")
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        return found if found.get("EPOCH_PROGRESS") == "0.4500" and "gpu_0_memory_used_mib" in found else {}

    found = await until_awaited(fields)
    assert (found["EPOCH"], found["TOTAL_EPOCHS"], found["metrics"]) == ("2", "3", '{"loss": 1.0}')
    live = broker.supervisor.live(job_id)
    assert live is not None
    assert (live.epoch, live.epoch_progress) == (2, 0.45)
    followed.close()
    assert isinstance(live, Progressed)


async def test_stop_saves_and_is_resumable(broker: Broker) -> None:
    job_id = await broker.train(
        "on_sigterm(lambda: result(ok=False, reason='user_stop', code=75)); started(); epoch(1); wait_for('never')"
    )
    await until_awaited(lambda: _epoch(broker, job_id, 1))
    await broker.want(job_id, Intent.STOP)
    job = await broker.ended(job_id)
    assert (job.state, job.reason) == (JobState.STOPPED, EndReason.USER_STOP)
    assert job.message == "stopped; the checkpoint of epoch 1 is kept: `wyolo resume 1` goes on from there"


async def _epoch(broker: Broker, job_id: int, epoch: int) -> bool:
    return (await broker.ledger.job(job_id)).epoch >= epoch


async def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(broker: Broker) -> None:
    job_id = await broker.shell("trap '' TERM; echo ready; while :; do sleep 1; done")
    await broker.says(job_id, "ready")
    await broker.want(job_id, Intent.STOP, grace_s=0.2)
    job = await broker.ended(job_id)
    assert (job.state, job.reason) == (JobState.STOPPED, EndReason.USER_STOP)


async def test_kill_does_not_wait(broker: Broker) -> None:
    job_id = await broker.shell("trap '' TERM; echo ready; while :; do sleep 1; done")
    await broker.says(job_id, "ready")
    await broker.want(job_id, Intent.STOP)
    await broker.want(job_id, Intent.KILL)
    job = await broker.ended(job_id)
    assert (job.state, job.reason) == (JobState.STOPPED, EndReason.KILLED)


async def test_a_preempted_job_waits_again_behind_the_others(start: Start) -> None:
    broker = await start(slots=1)
    first = await broker.shell("echo ready; [ -e $HOME/x ] || sleep 60")
    await broker.says(first, "ready")
    second, third = await broker.shell("true"), await broker.shell("true")
    await broker.want(first, Intent.PREEMPT)
    await broker.ended(second)
    await broker.ended(third)
    job = await broker.reached(first, JobState.RUNNING)
    assert job.fence == 2
    assert job.rank > third
    assert await reason_of_attempt(broker, first) is EndReason.PREEMPTED


async def test_an_interrupted_training_goes_on_from_its_checkpoint(broker: Broker) -> None:
    job_id = await broker.train(
        """
        started(first=config["resume"][0]["epoch"] + 1 if config["resume"] else 1)
        if config["fence"] == 1:
            epoch(1); os.kill(os.getpid(), signal.SIGKILL)
        print("batch", config["batch"], "epochs", config["epochs"])
        epoch(2); epoch(3); result()
        """,
        batch=-1,
    )
    job = await broker.ended(job_id)
    assert (job.state, job.fence, job.infra_deaths) == (JobState.COMPLETED, 2, 1)
    assert (await broker.ledger.metrics(job_id)).epochs == [1, 2, 3]
    assert "batch 16 epochs 3" in await broker.output(job_id)
    first = (await broker.ledger.attempts(job_id))[0]
    assert (first.reason, first.exit_code) == (EndReason.INTERRUPTED, 137)


async def test_an_automatic_batch_is_that_of_the_last_attempt_however_much_was_said_before(broker: Broker) -> None:
    job_id = await broker.train(
        """
        for k in range(600 if config["fence"] == 1 else 0):
            emit("note", text=f"note {k}")
        started(batch=16 // config["fence"])
        if config["fence"] < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        print("batch", config["batch"])
        epoch(1); epoch(2); epoch(3); result()
        """,
        batch=-1,
    )
    assert (await broker.ended(job_id)).fence == 3
    assert "batch 8" in await broker.output(job_id)


async def test_the_third_death_in_a_row_waits_for_a_person(broker: Broker) -> None:
    job = await broker.ended(await broker.shell("kill -9 $$"))
    assert (job.state, job.reason, job.fence) == (JobState.FAILED, EndReason.DEAD_LETTER, 3)
    assert "interrupted 3 times in a row" in job.message
    assert "`wyolo resume 1`" in job.message


async def test_a_shim_killed_alone_interrupts_the_job(broker: Broker) -> None:
    job_id = await broker.shell("echo ready; [ . -ef ../2 ] || sleep 60")
    await broker.says(job_id, "ready")
    [attempt] = await broker.ledger.attempts(job_id)
    await broker.reached(job_id, JobState.RUNNING)
    os.kill(shim_of(attempt), signal.SIGKILL)
    job = await broker.ended(job_id)
    assert (job.state, job.fence) == (JobState.COMPLETED, 2)
    assert (await broker.engine.inventory()).alive == ()
    assert attempt.fence == 1


async def test_a_restart_goes_on_with_running_jobs(start: Start) -> None:
    broker = await start()
    job_id = await broker.train("started(); epoch(1); wait_for('go'); epoch(2); epoch(3); result()")
    await until_awaited(lambda: _epoch(broker, job_id, 1))
    [before] = await broker.ledger.attempts(job_id)
    broker = await start()
    assert broker.adopted == 1
    (Path(before.directory) / "go").touch()
    job = await broker.ended(job_id)
    assert (job.state, job.fence, job.epoch) == (JobState.COMPLETED, 1, 3)
    assert (await broker.ledger.metrics(job_id)).epochs == [1, 2, 3]


async def test_a_job_that_ended_while_the_broker_was_away_gets_its_verdict(start: Start, tmp_path: Path) -> None:
    broker = await start()
    good = await broker.shell(f"echo ready; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo late")
    bad = await broker.shell(f"echo ready; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 7")
    for job_id in (good, bad):
        await broker.reached(job_id, JobState.RUNNING)
    directories = [Path((await broker.ledger.attempts(job_id))[0].directory) for job_id in (good, bad)]
    await broker.__aexit__(None, None, None)
    (tmp_path / "go").touch()
    await until(lambda: None not in [claim.exit_code(directory, None) for directory in directories])
    broker = await start()
    assert (await broker.ended(good)).state is JobState.COMPLETED
    assert "exit code 7" in (await broker.ended(bad)).message


async def test_a_stop_asked_before_a_restart_comes_true_after_it(start: Start) -> None:
    broker = await start()
    job_id = await broker.shell("trap '' TERM; echo ready; while :; do sleep 1; done")
    await broker.says(job_id, "ready")
    await broker.want(job_id, Intent.STOP, grace_s=0.3)
    broker = await start()
    job = await broker.ended(job_id)
    assert (job.state, job.reason, job.fence) == (JobState.STOPPED, EndReason.USER_STOP, 1)


async def test_a_job_that_was_never_launched_is_queued_again_and_nobody_died(start: Start) -> None:
    broker = await start(slots=1)
    blocker = await broker.shell("sleep 60")
    await broker.reached(blocker, JobState.RUNNING)
    job_id = await broker.shell("echo ran")
    await _starting_without_launch(broker, job_id)
    broker = await start(slots=2)
    job = await broker.ended(job_id)
    assert (job.state, job.fence, job.infra_deaths) == (JobState.COMPLETED, 2, 0)


async def _starting_without_launch(broker: Broker, job_id: int) -> None:
    """As a broker leaves it that dies right after the commit."""
    start = AttemptStart("local", (), jobs_directory(broker.settings))
    await broker.ledger.advance(Change(job_id, "place", to=JobState.STARTING, start=start))


async def test_what_runs_without_being_in_the_ledger_is_killed(broker: Broker) -> None:
    directory = broker.settings.data_dir / "jobs" / "1" / "9"
    directory.mkdir(parents=True)
    ref = AttemptRef(broker.ledger.broker_id, 1, 9)
    stray = await broker.engine.launch(Launch(ref, ["sleep", "60"], {}, None, directory))
    mine = await broker.shell("sleep 60")
    await broker.reached(mine, JobState.RUNNING)
    await until_awaited(lambda: _alive(broker, ref))
    assert await broker.supervisor.reconcile() == 1
    await stray.wait()
    assert [alive.fence for alive in (await broker.engine.inventory()).alive] == [1]
    assert (await broker.ledger.job(mine)).state is JobState.RUNNING


async def _alive(broker: Broker, ref: object) -> bool:
    return ref in (await broker.engine.inventory()).alive


@pytest.mark.parametrize("damage", ["echo $$ > 1.claim", "rm -rf *", "rm 1.claim; mkfifo 1.claim",
                                    "rm 1.log; mkfifo 1.log"])  # fmt: skip
async def test_a_job_that_hurts_the_files_of_its_attempt_runs_once(start: Start, tmp_path: Path, damage: str) -> None:
    broker = await start()
    ran = tmp_path / "ran"
    job_id = await broker.shell(
        f"cd ..; {damage}; echo x >> {ran}; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 4"
    )
    await broker.reached(job_id, JobState.RUNNING)
    await until(ran.exists)
    broker = await start()
    assert broker.adopted == 1
    assert (await broker.ledger.job(job_id)).state is JobState.RUNNING
    (tmp_path / "go").touch()
    job = await broker.ended(job_id)
    assert (job.state, job.reason, job.fence) == (JobState.FAILED, EndReason.EXIT_CODE, 1)
    assert ran.read_text() == "x\n"


async def test_a_job_that_hurt_its_files_and_ended_while_the_broker_was_away_ran_once(
    start: Start, tmp_path: Path
) -> None:
    broker = await start()
    code = f"cd ..; rm -rf *; echo x >> {tmp_path}/ran; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    job_id = await broker.shell(code)
    await broker.reached(job_id, JobState.RUNNING)
    await until((tmp_path / "ran").exists)
    [attempt] = await broker.ledger.attempts(job_id)
    await broker.__aexit__(None, None, None)
    (tmp_path / "go").touch()
    await until(lambda: claim.exit_code(Path(attempt.directory), None) is not None)
    broker = await start()
    job = await broker.ended(job_id)
    assert (job.state, job.fence) == (JobState.COMPLETED, 1)
    assert (tmp_path / "ran").read_text() == "x\n"


async def test_times_that_cannot_be_written_hold_nothing_up(broker: Broker) -> None:
    job_id = await broker.shell("cd ..; mkfifo 1.times; echo said")
    assert (await broker.ended(job_id)).state is JobState.COMPLETED
    assert await broker.output(job_id) == "said\n"


async def test_redis_may_die_without_disturbing_a_running_job(broker: Broker, redis: RedisServer) -> None:
    job_id = await broker.train("started(); epoch(1); wait_for('go'); epoch(2); epoch(3); result()")
    await until_awaited(lambda: _epoch(broker, job_id, 1))
    os.kill(redis.pid, signal.SIGKILL)
    (Path((await broker.ledger.attempts(job_id))[0].directory) / "go").touch()
    job = await broker.ended(job_id)
    assert (job.state, job.epoch) == (JobState.COMPLETED, 3)


async def running(start: Start) -> tuple[int, Path]:
    """A job that ends when the file is there, and that says so."""
    broker = await start()
    job_id = await broker.shell("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo done")
    await broker.reached(job_id, JobState.RUNNING)
    [attempt] = await broker.ledger.attempts(job_id)
    return job_id, Path(attempt.directory) / "go"


async def test_a_job_out_of_reach_is_unknown_until_it_is_found_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "RETRY_S", 0.1)
    job_id, go = await running(start)
    broker = await start(away=True)
    job = await broker.reached(job_id, JobState.UNKNOWN)
    assert "nothing is started in its place" in job.message
    broker.engine.away = False
    await broker.reached(job_id, JobState.RUNNING)
    go.touch()
    assert (await broker.ended(job_id)).fence == 1


async def test_a_person_may_say_that_a_job_out_of_reach_is_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RETRY_S", 0.1)
    job_id, _ = await running(start)
    broker = await start(away=True)
    await broker.reached(job_id, JobState.UNKNOWN)
    assert (await broker.supervisor.resolve(job_id, alive=True, by="ann")).state is JobState.UNKNOWN
    job = await broker.supervisor.resolve(job_id, alive=False, by="ann")
    assert (job.state, job.infra_deaths) == (JobState.QUEUED, 1)
    assert "ann says that it is gone" in job.message
    broker.engine.away = False
    old = AttemptRef(broker.ledger.broker_id, job_id, 1)
    await until_awaited(lambda: broker.supervisor.reconcile(), what="the old attempt found and killed")
    assert not await _alive(broker, old)


async def test_a_stop_right_after_the_start_is_heard(start: Start, tmp_path: Path) -> None:
    broker = await start()
    job_id = await broker.shell(f"sleep 60; touch {tmp_path}/ended")
    await broker.reached(job_id, JobState.STARTING, JobState.RUNNING)
    await broker.want(job_id, Intent.STOP)
    job = await broker.ended(job_id)
    assert (job.state, job.reason) == (JobState.STOPPED, EndReason.USER_STOP)
    assert not (tmp_path / "ended").exists()


async def test_a_stop_that_never_gets_through_ends_in_a_kill(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: LocalAttempt) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LocalAttempt, "stop", hang)
    job_id = await broker.shell("sleep 60")
    await broker.reached(job_id, JobState.RUNNING)
    await broker.want(job_id, Intent.STOP, grace_s=0.05)
    assert (await broker.ended(job_id)).state is JobState.STOPPED


async def test_who_stops_a_job_of_another_user_is_told_how_and_may_ask_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _signum: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    job_id = await broker.shell("sleep 60")
    await broker.reached(job_id, JobState.RUNNING)
    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        await broker.want(job_id, Intent.STOP)
        await until_awaited(lambda: _notes(broker, job_id), what="the reason")
        [note] = await _notes(broker, job_id)
        assert note.startswith("stop failed: process ")
        assert "`sudo kill " in note
    assert (await broker.ledger.job(job_id)).state is JobState.RUNNING
    await broker.want(job_id, Intent.STOP)
    assert (await broker.ended(job_id)).state is JobState.STOPPED


async def _notes(broker: Broker, job_id: int) -> list[str]:
    return [entry.message for entry in await broker.ledger.audit(job_id) if entry.verb == "note"]


async def test_a_wish_between_the_decision_to_start_and_the_start_is_heard(start: Start) -> None:
    broker = await start(slots=1)
    blocker = await broker.shell("sleep 60")
    await broker.reached(blocker, JobState.RUNNING)
    job_id = await broker.shell("echo ran; sleep 60")
    await _starting_without_launch(broker, job_id)
    await broker.want(job_id, Intent.STOP)
    [active] = [each for each in await broker.ledger.active() if each.job.id == job_id]
    stale = active.job.model_copy(update={"intent": None})
    broker.supervisor.start(stale, active.attempt)
    job = await broker.ended(job_id)
    assert (job.state, job.message) == (JobState.STOPPED, f"stopped; `wyolo resume {job_id}` runs it again")
    assert await broker.output(job_id) == ""
