"""The local engine with real processes: started once, found again, stopped, and nothing left behind."""

import asyncio
import errno
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

import broker.engines.memory_kills
from broker.beside import CLAIM, LOG, beside
from broker.engines import proc
from broker.engines.attempt import LocalAttempt
from broker.engines.base import MAX_LINE, AttemptRef, Exit, Launch, RawLine
from broker.engines.local import LocalEngine
from broker.errors import AlreadyLaunched, AttemptGone, EngineError
from broker.protocol.fleet import HostSample
from tests.faults.disk import full, small_disk
from tests.waiting import until, until_awaited

BROKER = f"b{os.getpid()}"  # what an attempt left behind is known by it, and killed: not by two test runs at once


class NoGauges:
    cpus = 2.0
    memory_mib = 1024
    gpu_uuids: Sequence[str] = ("GPU-a", "GPU-b")

    async def sample(self) -> HostSample:
        raise AssertionError("nobody asked")


def ref(fence: int = 1) -> AttemptRef:
    return AttemptRef(BROKER, 7, fence)


@pytest.fixture
async def engine() -> AsyncIterator[LocalEngine]:
    engine = restarted()
    yield engine
    await engine.close()


def restarted(memory_kills: Callable[[], int] = proc.out_of_memory_kills, grace_s: float = 0.1) -> LocalEngine:
    """That of a broker which has just started."""
    return LocalEngine("local", BROKER, NoGauges(), leftover_grace_s=grace_s, memory_kills=memory_kills)


@pytest.fixture
async def directory(engine: LocalEngine, tmp_path: Path) -> AsyncIterator[Path]:
    """An attempt's directory; what was started in it ends with the test."""
    where = tmp_path / "jobs" / "7" / "1"
    where.mkdir(parents=True)
    yield where
    if beside(where, CLAIM).exists():
        with suppress(AttemptGone):
            await (await engine.attach(ref(), where, "")).kill()


async def launch(
    engine: LocalEngine,
    directory: Path,
    *argv: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    gpus: Sequence[str] = (),
) -> LocalAttempt:
    return await engine.launch(Launch(ref(int(directory.name)), argv, env or {}, cwd, directory, gpus))


async def python(engine: LocalEngine, directory: Path, code: str) -> LocalAttempt:
    return await launch(engine, directory, sys.executable, "-c", textwrap.dedent(code))


async def read(attempt: LocalAttempt, offset: int = 0) -> list[RawLine]:
    return [line async for batch in attempt.lines(offset) for line in batch]


def said(directory: Path) -> str:
    return beside(directory, LOG).read_text()


def claimed(directory: Path) -> str:
    return beside(directory, CLAIM).read_text() if beside(directory, CLAIM).exists() else ""


def runs(pid: int) -> bool:
    found = proc.process(pid)
    return found is not None and not found.dead


def children() -> set[int]:
    """Of this process, zombies too."""
    return {child.pid for child in psutil.Process().children()}


async def test_exit_code_and_output_of_a_job_are_known(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "echo one; echo two >&2; printf three; exit 3")
    assert [line.data for line in await read(attempt)] == [b"one", b"two", b"three"]
    assert await attempt.wait() == Exit(3)


async def test_an_exit_code_that_cannot_be_written_is_told_all_the_same(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "rm ../1.claim; mkdir ../1.claim; exit 3")
    assert await attempt.wait() == Exit(3)


@pytest.mark.parametrize(
    "damage",
    [
        "rm 1.claim; mkfifo 1.claim",
        "rm 1.claim; mkdir 1.claim",
        "echo 0 > 1.claim",
        "yes | head -999 >> 1.claim",
        "rm -rf 1*",
        "rm -rf ../7",
    ],
)
async def test_an_exit_code_is_kept_whatever_a_job_has_put_in_its_place(
    engine: LocalEngine, directory: Path, damage: str
) -> None:
    attempt = await launch(engine, directory, "sh", "-c", f"cd ..; {damage}; exit 3")
    assert await attempt.wait() == Exit(3)
    assert await (await restarted().attach(ref(), directory, "")).wait() == Exit(3)


async def test_a_second_start_of_the_same_attempt_is_refused(engine: LocalEngine, directory: Path) -> None:
    first = await launch(engine, directory, "sh", "-c", "echo started")
    with pytest.raises(AlreadyLaunched):
        await launch(engine, directory, "sh", "-c", "echo started")
    await first.wait()
    assert said(directory) == "started\n"


async def test_of_two_shims_only_one_runs_the_job(engine: LocalEngine, directory: Path) -> None:
    first = await launch(engine, directory, "sh", "-c", "echo started; sleep 60")
    await until(lambda: "started" in said(directory))
    beside(directory, LOG).rename(directory / "first.log")
    with pytest.raises(AlreadyLaunched):
        await launch(engine, directory, "sh", "-c", "echo started; sleep 60")
    assert "started" not in said(directory)
    await first.kill()


async def test_of_a_rush_of_jobs_no_zombies_are_left(engine: LocalEngine, tmp_path: Path) -> None:
    before = children()
    gate = tmp_path / "gate"
    argv = ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.01; done"]
    attempts: list[LocalAttempt] = []
    for number in range(4):
        directory = tmp_path / str(number)
        directory.mkdir()
        attempts.append(await engine.launch(Launch(AttemptRef(BROKER, number, 1), argv, {}, None, directory, ())))
    gate.touch()
    for attempt in attempts:
        assert await attempt.wait() == Exit(0)
    shims = children() - before
    assert len(shims) == 4
    await engine.inventory()  # of the idle shims one is kept
    await until(lambda: len(shims & children()) == 1)


async def test_a_job_sees_a_clean_environment_and_only_its_gpus(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WYOLO_REDIS_URL", "redis://:secret@host")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    engine = LocalEngine("local", BROKER, NoGauges())
    attempt = await launch(engine, directory, "env", env={"MINE": "yes"}, gpus=["GPU-b"])
    await attempt.wait()
    lines = said(directory).splitlines()
    assert {"MINE=yes", "CUDA_VISIBLE_DEVICES=GPU-b", "LC_ALL=C.UTF-8", f"WYOLO_ATTEMPT={BROKER}/7/1"} <= set(lines)
    assert "secret" not in said(directory)
    await engine.close()


@pytest.mark.parametrize("name", ["no-such-program", "./no-such-file"])
async def test_a_missing_program_is_named(engine: LocalEngine, directory: Path, name: str) -> None:
    with pytest.raises(EngineError, match=r"no program \S*no-such"):
        await launch(engine, directory, name)


async def test_a_missing_working_directory_is_named(engine: LocalEngine, directory: Path) -> None:
    with pytest.raises(EngineError, match="/nowhere does not exist"):
        await launch(engine, directory, "true", cwd=Path("/nowhere"))


@pytest.mark.parametrize(("mode", "why"), [(0o600, "Permission denied"), (0o700, "")])
async def test_a_script_needs_to_be_executable_and_no_more(
    engine: LocalEngine, directory: Path, mode: int, why: str
) -> None:
    script = directory.parent / "script"
    script.write_text("echo $1; exit 3\n")
    script.chmod(mode)
    if why:
        with pytest.raises(EngineError, match=why):
            await launch(engine, directory, str(script), "hello")
    else:
        attempt = await launch(engine, directory, str(script), "hello")
        assert await attempt.wait() == Exit(3)
        assert said(directory) == "hello\n"


async def test_one_shim_runs_many_jobs(engine: LocalEngine, directory: Path) -> None:
    """Each is heard by its own, and starts in its own directory with its own environment."""
    wheres = [directory.with_name(str(number)) for number in range(5)]
    for number, where in enumerate(wheres):
        attempt = await launch(engine, where, "sh", "-c", f"echo $N; pwd; exit {number}", env={"N": f"job {number}"})
        assert await attempt.wait() == Exit(number)
        assert said(where).splitlines() == [f"job {number}", str(where)]
    assert len({shim_of(where) for where in wheres}) == 1


async def test_shell_words_are_programs_never_builtins(engine: LocalEngine, directory: Path) -> None:
    with pytest.raises(EngineError):
        await launch(engine, directory, "exit", "3")


async def test_stop_lets_a_job_save_and_leave(engine: LocalEngine, directory: Path) -> None:
    attempt = await python(
        engine,
        directory,
        """
        import signal, sys, time
        def leave(signum, frame): print("saved"); sys.exit(75)
        signal.signal(signal.SIGTERM, leave)
        print("ready")
        time.sleep(60)
        """,
    )
    await until(lambda: "ready" in said(directory))
    await attempt.stop()
    await attempt.stop()
    assert await attempt.wait() == Exit(75)
    assert said(directory) == "ready\nsaved\n"


async def test_stop_right_after_the_start_reaches_the_job(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sleep", "60")
    await attempt.stop()
    assert await attempt.wait() == Exit(128 + signal.SIGTERM)


async def test_stop_is_for_the_job_itself_and_not_its_workers(engine: LocalEngine, directory: Path) -> None:
    attempt = await python(
        engine,
        directory,
        """
        import signal, subprocess, sys
        worker = subprocess.Popen(["sleep", "60"])
        def leave(signum, frame): print("worker", worker.poll()); worker.kill(); sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("ready")
        signal.pause()
        """,
    )
    await until(lambda: "ready" in said(directory))
    await attempt.stop()
    await attempt.wait()
    assert "worker None" in said(directory)


async def test_kill_ends_a_job_that_ignores_sigterm(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    await until(lambda: "ready" in said(directory))
    await attempt.stop()
    assert attempt.watching
    await attempt.kill()
    await attempt.kill()
    assert await attempt.wait() == Exit(128 + signal.SIGKILL)


GRANDCHILD = """
import os, signal, subprocess, time
child = subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; echo $$ > grandchild; while :; do sleep 1; done"],
                         stdout=subprocess.DEVNULL, start_new_session=True)
while not (os.path.exists("grandchild") and open("grandchild").read().strip()): time.sleep(0.01)
print("ready")
"""


async def grandchild(directory: Path) -> int:
    told = directory / "grandchild"
    await until(lambda: told.exists() and told.read_text().strip())
    return int(told.read_text())


async def test_kill_reaches_a_grandchild_in_a_session_of_its_own(engine: LocalEngine, directory: Path) -> None:
    attempt = await python(engine, directory, GRANDCHILD + "time.sleep(60)")
    pid = await grandchild(directory)
    await attempt.kill()
    assert not runs(pid)
    await attempt.wait()


async def test_what_a_job_left_behind_ends_before_its_end_is_told(engine: LocalEngine, directory: Path) -> None:
    attempt = await python(engine, directory, GRANDCHILD)
    pid = await grandchild(directory)
    assert await attempt.wait() == Exit(0)
    assert not runs(pid)


@asynccontextmanager
async def daemon(directory: Path, rest: str, code: str = "sleep 60") -> AsyncGenerator[tuple[str, Callable[[], int]]]:
    """What a job runs that leaves a process with another session and no environment behind, and the pid of that."""
    told = directory.parent / "daemon"

    def pid() -> int:
        return int(told.read_text()) if told.exists() and told.read_text().endswith("\n") else 0

    try:
        yield f"env -i setsid sh -c 'echo $$ > {told}; {code}' & until [ -s {told} ]; do sleep 0.01; done; {rest}", pid
    finally:
        if (left := pid()) and runs(left):
            os.kill(left, signal.SIGKILL)


async def test_a_daemon_that_hides_ends_with_its_job(engine: LocalEngine, directory: Path) -> None:
    async with daemon(directory, "exit 3") as (code, pid):
        attempt = await launch(engine, directory, "sh", "-c", code)
        assert await attempt.wait() == Exit(3)
        assert not runs(pid())


async def test_a_daemon_that_hides_and_does_not_listen_is_killed_with_its_job(
    engine: LocalEngine, directory: Path
) -> None:
    async with daemon(directory, "sleep 60", 'trap "" TERM; while :; do sleep 1; done') as (code, pid):
        attempt = await launch(engine, directory, "sh", "-c", code)
        await until(pid)
        await attempt.kill()
        assert not runs(pid())
        assert await attempt.wait() == Exit(128 + signal.SIGKILL)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_daemon_that_hides_ends_with_an_adopted_job(engine: LocalEngine, directory: Path, killed: bool) -> None:
    async with daemon(directory, "until [ -e go ]; do sleep 0.01; done; exit 3") as (code, pid):
        await launch(engine, directory, "sh", "-c", code)
        await until(pid)
        await engine.close()
        adopted = await restarted().attach(ref(), directory, "")
        if killed:
            await adopted.kill()
            assert not runs(pid())
        (directory / "go").touch()
        assert await adopted.wait() == Exit(128 + signal.SIGKILL if killed else 3)
        assert not runs(pid())


async def test_what_a_job_left_behind_is_never_taken_for_another_jobs(engine: LocalEngine, directory: Path) -> None:
    async with daemon(directory, "exit 0", 'trap "" TERM; while :; do sleep 1; done') as (code, pid):
        first = await launch(engine, directory, "sh", "-c", code)
        await until(pid)  # its job ends now, and it has its grace
        other = directory.with_name("2")
        second = await launch(engine, other, "env", "-i", "sleep", "60")
        assert await first.wait() == Exit(0)
        await first.kill()
        assert not runs(pid())
        assert second.watching
        await second.kill()


def shim_of(directory: Path) -> int:
    return int(claimed(directory).split()[0])


async def test_a_shim_killed_alone_leaves_nothing_running(engine: LocalEngine, directory: Path) -> None:
    attempt = await python(engine, directory, GRANDCHILD + "time.sleep(60)")
    pid = await grandchild(directory)
    os.kill(shim_of(directory), signal.SIGKILL)
    assert await attempt.wait() == Exit(None)
    assert not runs(pid)
    assert (await engine.inventory()).alive == ()


async def test_a_shim_that_dies_before_it_was_asked_starts_nothing(engine: LocalEngine, directory: Path) -> None:
    earlier = directory.with_name("0")
    await (await launch(engine, earlier, "true")).wait()
    os.kill(shim_of(earlier), signal.SIGKILL)
    with pytest.raises(AttemptGone):
        await launch(engine, directory, "sh", "-c", "echo started")
    again = directory.with_name("2")
    assert await (await launch(engine, again, "true")).wait() == Exit(0)


async def test_a_job_that_signals_its_group_spares_the_shim(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "kill -TERM 0; sleep 60")
    assert await attempt.wait() == Exit(128 + signal.SIGTERM)
    assert runs(shim_of(directory))


async def test_without_a_broker_a_shim_ends_with_its_job(engine: LocalEngine, directory: Path) -> None:
    await launch(engine, directory, "sh", "-c", "while [ ! -e go ]; do sleep 0.01; done")
    await engine.close()
    assert runs(shim_of(directory))
    (directory / "go").touch()
    await until(lambda: not runs(shim_of(directory)))


async def test_a_new_broker_finds_a_running_job_and_hears_its_end(engine: LocalEngine, directory: Path) -> None:
    first = await launch(
        engine, directory, "sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.01; done; echo two; exit 4"
    )
    await until(lambda: said(directory) == "one\n")
    await engine.close()

    second = restarted()
    adopted = await second.attach(ref(), directory, first.engine_ref)
    assert adopted.engine_ref == first.engine_ref
    assert (await second.inventory()).alive == (ref(),)
    (directory / "go").touch()
    assert [line.data for line in await read(adopted, offset=4)] == [b"two"]
    assert await adopted.wait() == Exit(4)
    await second.close()


# What a job does to the files of its own attempt, where it meets them.
DAMAGES = ["echo $$ > 1.claim", "echo 0 >> 1.claim", "rm 1.claim; mkfifo 1.claim", "rm 1.log; mkfifo 1.log",
           "rm -rf 1", "rm -rf *"]  # fmt: skip


async def damaged(engine: LocalEngine, directory: Path, damage: str, rest: str) -> LocalAttempt:
    """One that has hurt its attempt's directory, and goes on when `go` is there, which lies beside it."""
    go, hurt = directory.parent / "go", directory.parent / "hurt"
    code = f"cd ..; {damage}; touch {hurt}; until [ -e {go} ]; do sleep 0.01; done; {rest}"
    attempt = await launch(engine, directory, "sh", "-c", code)
    await until(hurt.exists)
    return attempt


async def test_a_job_that_empties_its_folder_touches_nothing_of_the_brokers(
    engine: LocalEngine, directory: Path
) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "echo $$ > 1.claim; rm -rf * .[a-z]*; echo done; exit 3")
    assert await attempt.wait() == Exit(3)
    assert said(directory) == "done\n"
    assert await (await restarted().attach(ref(), directory, "")).wait() == Exit(3)


@pytest.mark.parametrize("known", [True, False], ids=["known-to-the-ledger", "just-started"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_running_job_is_found_whatever_it_did_to_its_files(
    engine: LocalEngine, directory: Path, damage: str, known: bool
) -> None:
    first = await damaged(engine, directory, damage, "exit 4")
    await engine.close()
    second = restarted()
    adopted = await second.attach(ref(), directory, first.engine_ref if known else "")
    assert adopted.watching
    assert adopted.engine_ref == first.engine_ref
    (directory.parent / "go").touch()
    await read(adopted)
    assert await adopted.wait() == Exit(4)
    await second.close()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_how_a_job_ended_is_known_whatever_it_did_to_its_files(
    engine: LocalEngine, directory: Path, damage: str
) -> None:
    others = children()
    await damaged(engine, directory, damage, "exit 4")
    shims = children() - others
    await engine.close()
    (directory.parent / "go").touch()
    await until(lambda: not any(map(runs, shims)))
    adopted = await restarted().attach(ref(), directory, "")
    await read(adopted)
    assert await adopted.wait() == Exit(4)


@pytest.mark.parametrize("known", [True, False], ids=["known-to-the-ledger", "just-started"])
async def test_what_a_job_left_behind_is_not_taken_for_the_job(directory: Path, known: bool) -> None:
    """It has ended, and its shim waits for the rest."""
    engine = restarted(grace_s=1.0)
    rest = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 0.1; exit 4"
    first = await damaged(engine, directory, "rm 1.claim", rest)
    await engine.close()
    (directory.parent / "go").touch()
    await until(lambda: claimed(directory).endswith("\n4\n"))
    adopted = await restarted().attach(ref(), directory, first.engine_ref if known else "")
    assert await adopted.wait() == Exit(4)


async def test_an_attempt_that_was_seen_to_run_is_never_said_not_to_have_started(
    engine: LocalEngine, directory: Path
) -> None:
    first = await damaged(engine, directory, "true", "true")
    os.kill(shim_of(directory), signal.SIGKILL)
    await first.wait()
    shutil.rmtree(directory)
    assert await (await restarted().attach(ref(), directory, first.engine_ref)).wait() == Exit(None)


async def test_a_job_that_ended_while_no_broker_watched_tells_its_exit_code(
    engine: LocalEngine, directory: Path
) -> None:
    await launch(engine, directory, "sh", "-c", "echo bye; exit 5")
    await engine.close()
    await until(lambda: claimed(directory).endswith("\n5\n"))
    adopted = await engine.attach(ref(), directory, "")
    assert [line.data for line in await read(adopted)] == [b"bye"]
    assert await adopted.wait() == Exit(5)


async def test_an_attempt_that_never_started_can_never_start(engine: LocalEngine, directory: Path) -> None:
    with pytest.raises(AttemptGone):
        await engine.attach(ref(), directory, "")
    with pytest.raises(AlreadyLaunched):
        await launch(engine, directory, "sh", "-c", "echo started")
    assert said(directory) == ""
    with pytest.raises(AttemptGone):
        await engine.attach(ref(), directory, "")


async def test_a_recycled_pid_is_never_taken_for_ours(engine: LocalEngine, directory: Path) -> None:
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        born = proc.process(stranger.pid)
        assert born is not None
        told = f"{stranger.pid} {born.start}"
        beside(directory, CLAIM).write_text(f"{told} {proc.boot_id()} 0\n{told}\n")  # all right but their environment
        attempt = await engine.attach(ref(), directory, "")
        assert await attempt.wait() == Exit(None)
        await attempt.kill()
        beside(directory, CLAIM).write_text(f"{stranger.pid} {born.start - 1} {proc.boot_id()} 0\n")
        attempt = await restarted().attach(ref(), directory, "")
        await attempt.kill()
        assert await attempt.wait() == Exit(128 + signal.SIGKILL)
        assert stranger.returncode is None
        assert runs(stranger.pid)
    finally:
        stranger.kill()
        await stranger.wait()


async def test_after_a_reboot_an_attempt_is_gone_for_certain(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sleep", "60")
    said = claimed(directory)
    await attempt.kill()
    await attempt.wait()
    beside(directory, CLAIM).write_text(said.replace(proc.boot_id(), "00000000-another-boot"))
    adopted = await restarted().attach(ref(), directory, "")
    assert await adopted.wait() == Exit(None)


async def test_an_attempt_that_nobody_made_ready_cannot_start_later(engine: LocalEngine, tmp_path: Path) -> None:
    """A shim that was asked by a broker which died may be slow."""
    nowhere = tmp_path / "8" / "1"
    with pytest.raises(AttemptGone):
        await engine.attach(ref(), nowhere, "")
    with pytest.raises(AlreadyLaunched):
        await launch(engine, nowhere, "true")


async def test_another_brokers_jobs_are_not_ours(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sleep", "60")
    other = LocalEngine("local", "b1", NoGauges())
    await until_awaited(lambda: _alive(engine))
    assert (await other.inventory()).alive == ()
    await attempt.kill()
    assert (await engine.inventory()).alive == ()
    await other.close()


async def _alive(engine: LocalEngine) -> tuple[AttemptRef, ...]:
    return tuple((await engine.inventory()).alive)


async def test_a_ten_megabyte_line_is_cut_and_counted(engine: LocalEngine, directory: Path) -> None:
    size = 10_000_000
    attempt = await python(
        engine,
        directory,
        f"""
        import time
        for _ in range(1000): print("x" * ({size} // 1000), end=""); time.sleep(0.0002)
        print(); print("after")
        """,
    )
    long, after = await read(attempt)
    assert (len(long.data), long.cut, long.end) == (MAX_LINE, size - MAX_LINE, size + 1)
    assert (after.data, after.offset, after.end) == (b"after", size + 1, size + 7)


async def test_a_flood_of_lines_is_followed_to_its_newest(engine: LocalEngine, directory: Path) -> None:
    count = 4_000_000
    attempt = await launch(engine, directory, "sh", "-c", f"yes | head -n {count}; echo the end")
    await attempt.wait()
    lines = await read(attempt)
    assert lines[-1].data == b"the end"
    assert len(lines) < count / 2  # it was moved on, and offsets tell
    assert all(line.end - line.offset == 2 for line in lines[:-1])
    assert lines[-1].end == 2 * count + 8


async def test_past_its_limit_only_events_of_a_log_are_read(directory: Path) -> None:
    engine = LocalEngine("local", BROKER, NoGauges(), log_keep_mib=1)
    attempt = await python(
        engine,
        directory,
        r"""
        for _ in range(15_000): print("x" * 99)
        print('\x1e{"n": 1}')
        """,
    )
    await attempt.wait()
    lines = await read(attempt)
    assert lines[-1].data == b'\x1e{"n": 1}'
    assert lines[-2].offset <= 1024 * 1024  # the one that passed it
    await engine.close()


async def test_only_plain_files_of_a_job_are_fetched(engine: LocalEngine, directory: Path) -> None:
    attempt = await launch(engine, directory, "sh", "-c", "echo data > plain; mkfifo pipe; ln -s /etc/passwd link")
    await attempt.wait()
    assert await attempt.fetch("plain") == b"data\n"
    assert [await attempt.fetch("plain", last) for last in (2, 5, 6)] == [b"a\n", b"data\n", b"data\n"]
    for name in ("pipe", "link", "missing"):
        with pytest.raises(FileNotFoundError):
            await attempt.fetch(name)


GO = "until [ -e {go} ]; do sleep 0.01; done; exit 4"


async def test_an_exit_code_has_its_room_on_the_disk_from_the_start(engine: LocalEngine, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        directory = disk / "1"
        await launch(engine, directory, "sh", "-c", GO.format(go=tmp_path / "go"))
        await engine.close()
        shim = shim_of(directory)
        with full(disk):
            (tmp_path / "go").touch()
            await until(lambda: not runs(shim))
        adopted = await engine.attach(ref(), directory, "")
        assert await adopted.wait() == Exit(4)


async def test_an_exit_code_waits_for_room_on_the_disk_even_without_a_broker(
    engine: LocalEngine, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        directory = disk / "1"
        await launch(engine, directory, "sh", "-c", GO.format(go=tmp_path / "go"))
        await engine.close()
        shim = shim_of(directory)
        beside(directory, CLAIM).unlink()
        with full(disk):
            (tmp_path / "go").touch()
            await until(beside(directory, CLAIM).exists)
            assert claimed(directory) == ""
            assert runs(shim)
        await until(lambda: not runs(shim))
        adopted = await engine.attach(ref(), directory, "")
        assert await adopted.wait() == Exit(4)


class Kernel:
    """Counts its kills for lack of memory."""

    def __init__(self) -> None:
        self.kills = 3  # since boot: nobody's here

    def lack_memory(self, *jobs: Path) -> None:
        """At once."""
        for directory in jobs:
            self.kills += 1
            os.kill(int(claimed(directory).split()[4]), signal.SIGKILL)


OOM = Exit(128 + signal.SIGKILL, oom_killed=True)


async def test_of_two_jobs_that_are_killed_at_once_for_lack_of_memory_each_is_told_so(directory: Path) -> None:
    kernel = Kernel()
    engine = restarted(lambda: kernel.kills)
    wheres = [directory, directory.with_name("2")]
    attempts = [await launch(engine, where, "sleep", "60") for where in wheres]
    kernel.lack_memory(*wheres)
    await engine.inventory()
    assert [await attempt.wait() for attempt in attempts] == [OOM, OOM]
    other = directory.with_name("3")
    third = await launch(engine, other, "sh", "-c", "kill -9 $$")
    assert await third.wait() == Exit(128 + signal.SIGKILL)
    await engine.close()


async def test_a_job_that_was_killed_for_lack_of_memory_while_no_broker_watched_is_told_so(directory: Path) -> None:
    kernel = Kernel()
    engine = restarted(lambda: kernel.kills)
    await launch(engine, directory, "sleep", "60")
    shim = shim_of(directory)
    await engine.close()
    kernel.lack_memory(directory)
    await until(lambda: not runs(shim))
    adopted = await restarted(lambda: kernel.kills).attach(ref(), directory, "")
    assert await adopted.wait() == OOM


async def test_lack_of_memory_long_ago_is_not_why_a_job_was_killed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel()
    engine = restarted(lambda: kernel.kills)
    attempt = await launch(engine, directory, "sleep", "60")
    kernel.kills += 1
    monkeypatch.setattr(broker.engines.memory_kills, "LATE_S", 0.0)
    await engine.inventory()
    os.kill(int(claimed(directory).split()[4]), signal.SIGKILL)
    assert await attempt.wait() == Exit(128 + signal.SIGKILL)
    await engine.close()


async def test_a_job_of_another_user_says_who_can_end_it(
    engine: LocalEngine, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = await launch(engine, directory, "sleep", "60")

    def refuse(_handle: int, _signum: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        for ask in (attempt.stop, attempt.kill):
            with pytest.raises(EngineError, match=r"runs as another user.*`sudo kill"):
                await ask()
    await attempt.stop()  # it was not told before
    assert await attempt.wait() == Exit(128 + signal.SIGTERM)
