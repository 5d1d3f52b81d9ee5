"""`wyolo exec`: a shell in a job's container, its exit code, and a terminal that is left as it was found."""

import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from broker.protocol.states import JobState
from tests.containers.dockerd import Dockerd
from tests.flows.daemon import Daemon
from tests.flows.terminal import Terminal
from tests.running import broker_environment

WYOLO = (sys.executable, "-m", "wyolo_tui")


@pytest.fixture
async def running(shared_dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[tuple[Daemon, int]]:
    """A broker, and a job that runs in a container."""
    node = {"name": "box", "engine": "docker", "url": shared_dockerd.url, "image": "busybox", "gpus": "none"}
    nodes = [{**node, "cpus": 64, "memory_mib": 65536, "shm_mib": 16}]
    daemon = Daemon(tmp_path / "data", {"WYOLO_NODES": json.dumps(nodes)})
    try:
        async with daemon.start().client() as client:
            job = await client.lasting()
            yield daemon, job.id
            await client.end_all()
    finally:
        daemon.clear()


async def opened(daemon: Daemon, *arguments: str, stdin: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*WYOLO, "exec", *arguments),
        env=broker_environment(WYOLO_DATA_DIR=str(daemon.data_dir)),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def executed(daemon: Daemon, *arguments: str) -> tuple[int | None, str, str]:
    process = await opened(daemon, *arguments, stdin=asyncio.subprocess.DEVNULL)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_command_runs_as_the_job_and_its_exit_code_is_passed_on(running: tuple[Daemon, int]) -> None:
    daemon, job_id = running
    script = "id -u; busybox pwd; echo oops >&2; head -c 300000 /dev/zero | tr '\\0' x | busybox wc -c; exit 7"
    code, out, err = await executed(daemon, str(job_id), "--", "/bin/sh", "-c", script)
    assert (code, err) == (7, "oops\n")
    assert out.split() == ["65534", str(daemon.data_dir / "jobs" / str(job_id) / "1"), "300000"]
    async with daemon.client() as client:
        [opened] = [entry for entry in await client.events(job_id) if entry.verb == "exec"]
        assert opened.data["argv"][:2] == ["/bin/sh", "-c"]
        assert (await client.job(job_id)).state is JobState.RUNNING
    code, _, err = await executed(daemon, str(job_id), "--", "/no/such/thing")
    assert code in {126, 127} or "no such" in err
    code, _, err = await executed(daemon, "77", "--", "true")
    assert (code, "there is no job 77" in err) == (2, True)


async def test_what_is_piped_goes_in_and_comes_out_byte_by_byte(running: tuple[Daemon, int]) -> None:
    daemon, job_id = running
    given = random.Random(7).randbytes(3_000_001)
    cat = await opened(daemon, str(job_id), "--", "sh", "-c", "busybox cat; echo done >&2; exit 9")
    out, err = await cat.communicate(given)
    assert (cat.returncode, err) == (9, b"done\n")
    assert out == given
    nothing = await opened(daemon, str(job_id), "--", "busybox", "wc", "-c")
    out, _ = await nothing.communicate(b"")
    assert (nothing.returncode, out.split()) == (0, [b"0"])


async def test_a_program_that_reads_nothing_holds_nobody_up(running: tuple[Daemon, int]) -> None:
    daemon, job_id = running
    deaf = await opened(daemon, str(job_id), "--", "sh", "-c", "busybox head -c 4; exit 3")
    out, _ = await deaf.communicate(b"abcdef" * 1_000_000)
    assert (deaf.returncode, out) == (3, b"abcd")
    patient = await opened(daemon, str(job_id), "--", "sh", "-c", "exit 4")  # its input is open, and stays so
    assert await asyncio.wait_for(patient.wait(), 30) == 4


async def test_nobody_gets_in_without_the_key(running: tuple[Daemon, int]) -> None:
    daemon, job_id = running
    async with daemon.client() as client:
        url = str(client.http.base_url).replace("http", "ws", 1).rstrip("/")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(InvalidStatus, match="403"):
            async with connect(f"{url}/jobs/{job_id}/exec", additional_headers=headers, proxy=None):
                pass


@pytest.mark.skipif(shutil.which("tmux") is None and not os.environ.get("WYOLO_CI"), reason="tmux is not installed")
@pytest.mark.parametrize("end", ["exit", "kill"])
async def test_a_shell_has_a_terminal_which_is_given_back_whatever_happens(
    running: tuple[Daemon, int], tmp_path: Path, end: str
) -> None:
    daemon, job_id = running
    shell = f"{' '.join(WYOLO)} exec {job_id}; code=$?; echo; echo ended $code"
    told = f"{shell}; stty -a | grep -o -e '-*icanon' -e '-*echo '; sleep 99"
    env = broker_environment(WYOLO_DATA_DIR=str(daemon.data_dir), HOME=str(tmp_path))
    with Terminal(["sh", "-c", told], 93, 31, tmp_path, env) as terminal:
        terminal.shows("$")
        terminal.type("busybox stty size; echo $TERM $((40+2))", "Enter")
        terminal.shows("31 93", "color 42")
        terminal.type("busybox sh -c 'echo asleep $((40+3)); sleep 77'", "Enter")
        terminal.shows("asleep 43")
        terminal.type("C-c")  # for the shell there, not for wyolo here
        if end == "exit":
            terminal.type("exit 5", "Enter")
            screen = terminal.shows("ended 5", "icanon")
        else:
            async with daemon.client() as client:
                await client.verb(job_id, "kill")
                await client.reaches(job_id)
            screen = terminal.shows("ended 137", "icanon")
        assert "-icanon" not in screen
        assert "-echo" not in screen
