"""wyolo run, wait and logs: a command's output and end reach the person who asked for it."""

import os
from pathlib import Path

import pytest

from broker.protocol.api import LogChunk
from broker.protocol.job import CommandWork
from broker.protocol.states import JobState
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited


@pytest.fixture
def wyolo(shared_daemon: Daemon, tmp_path: Path) -> Wyolo:
    return Wyolo(shared_daemon.data_dir, tmp_path, {"SEED": "7"})


async def test_it_runs_here_with_this_path_and_what_was_given(wyolo: Wyolo, broker: Client, tmp_path: Path) -> None:
    done = await wyolo("run", "--env", "SEED", "-e", "A=b=c", "-f", "--", "sh", "-c", 'echo "$PWD|$SEED|$A|$PATH"')
    assert done.out.splitlines()[0] == f"{tmp_path}|7|b=c|{os.environ['PATH']}"
    queued = (await wyolo("run", "--name", "n", "--cpus", "2", "--hold", "--json", "--", "sleep", "--", "1")).job
    spec = (await broker.job(queued.id)).spec
    assert spec is not None and isinstance(spec.work, CommandWork)
    assert (spec.work.argv, spec.name, spec.resources.cpus) == (["sleep", "--", "1"], "n", 2)


async def test_follow_prints_every_line_then_how_it_ended(wyolo: Wyolo, broker: Client) -> None:
    del broker
    script = "for i in 1 2 3; do echo line $i; sleep 0.4; done; exit 3"
    done = await wyolo("run", "-n", "talk", "-f", "--", "sh", "-c", script, expect=1)
    *lines, end = done.out.splitlines()
    assert lines == ["line 1", "line 2", "line 3"]
    assert "talk: failed, exited with an error" in end
    assert " talk: " in done.err and "talk: failed" not in done.err


async def test_ctrl_c_while_following_leaves_the_job_running_and_says_so(wyolo: Wyolo, broker: Client) -> None:
    script = "echo begun; while :; do sleep 0.05; done"
    done = await wyolo.interrupted("run", "--follow", "--", "sh", "-c", script, once=b"begun")
    assert done.code == 130
    assert "goes on" in done.err and "wyolo logs -f" in done.err and "Traceback" not in done.err
    assert [job.state for job in await broker.jobs("state:active")] == [JobState.RUNNING]


async def test_wait_is_0_when_all_completed_and_1_when_one_did_not(wyolo: Wyolo, broker: Client) -> None:
    good, bad = await broker.shell("exit 0", name="good"), await broker.shell("exit 1", name="bad")
    assert (await wyolo("wait", str(good.id), "--json")).job.state is JobState.COMPLETED
    done = await wyolo("wait", f"{good.id}-{bad.id}", expect=1)
    assert "good: completed" in done.out and "bad: failed" in done.out


async def test_wait_is_1_for_a_job_that_was_stopped_meanwhile(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.lasting()
    async with wyolo.started("wait", str(job.id)) as waiting:
        assert waiting.stderr is not None
        await waiting.stderr.readline()
        await broker.verb(job.id, "stop")
        out, _ = await waiting.communicate()
    assert waiting.returncode == 1
    assert b": stopped" in out


async def test_wait_outlasts_a_broker_that_was_killed_and_came_back_elsewhere(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    async with daemon.client() as client:
        job = await client.lasting()
    async with Wyolo(daemon.data_dir, tmp_path).started("wait", str(job.id)) as waiting:
        assert waiting.stderr is not None
        await waiting.stderr.readline()
        daemon.kill()
        assert b"the jobs go on" in await waiting.stderr.readline()
        daemon.start()
        async with daemon.client() as client:
            await client.reaches(job.id, JobState.RUNNING)
            await client.verb(job.id, "kill")
        out, err = await waiting.communicate()
    assert b"the broker is back" in err
    assert waiting.returncode == 1 and b": stopped" in out


async def test_logs_can_be_cut_to_the_end_to_errors_and_to_an_attempt(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.shell("for i in $(seq 2500); do echo line $i; done; echo 'ValueError: no'", name="chatty")
    await broker.reaches(job.id)
    whole = (await wyolo("logs", "chatty")).out.splitlines()
    assert whole == [*(f"line {i}" for i in range(1, 2501)), "ValueError: no"]
    assert (await wyolo("logs", "chatty", "--tail", "2")).out.splitlines() == whole[-2:]
    assert (await wyolo("logs", "chatty", "--errors")).out.splitlines() == ["ValueError: no"]
    assert (await wyolo("logs", "chatty", "--since", "1h", "-t")).out.splitlines()[0].endswith(" line 1")
    assert (await wyolo("logs", "chatty", "--since", "2099-01-01")).out == ""
    chunks = [LogChunk.model_validate_json(line) for line in (await wyolo("logs", "chatty", "--json")).out.splitlines()]
    assert [line.text for chunk in chunks for line in chunk.lines] == whole
    assert "has 1 attempts" in (await wyolo("logs", "chatty", "--attempt", "2", expect=2)).err
    assert (await wyolo("logs", "-f", "chatty")).out.splitlines() == whole[-100:]


async def test_a_log_is_followed_into_the_next_attempt(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.shell("echo attempt; while :; do sleep 0.02; done")
    await broker.says(job.id, "attempt")
    await broker.verb(job.id, "stop")
    await broker.reaches(job.id, JobState.STOPPED)
    await broker.verb(job.id, "resume")

    async def again() -> bool:
        return (await broker.job(job.id)).fence == 2

    await until_awaited(again)
    await broker.says(job.id, "attempt")
    done = await wyolo.interrupted("logs", "-f", str(job.id), once=b"attempt")
    assert done.code == 130 and "goes on" in done.err


async def test_a_log_line_cannot_command_the_terminal(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.shell(r"printf 'a\033]52;c;cGF3bmVk\007b\033[2Jc\n'")
    await broker.reaches(job.id)
    said = (await wyolo("logs", str(job.id))).out
    assert said.strip().isprintable() and said.startswith("a")


async def test_a_task_id_that_another_job_has_is_warned_of(wyolo: Wyolo, broker: Client) -> None:
    first = await broker.submit("true", hold=True, task_id="worker-1")
    said = f"! task_id: `worker-1` is also that of job {first.id}:"
    assert said in (await wyolo("run", "--task-id", "worker-1", "--hold", "--", "true")).err
    validated = await broker.http.post("/jobs:validate", json={"config": "command: 'true'\ntask_id: worker-1\n"})
    assert [finding["where"] for finding in validated.json()["findings"]] == ["task_id"]
    failed = await broker.reaches((await broker.submit("false", task_id="worker-2")).id)
    await broker.submit("true", hold=True, task_id="worker-2")
    assert "! task_id: `worker-2` is also that of job" in (await wyolo("resume", str(failed.id))).err
