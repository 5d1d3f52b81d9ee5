"""The broker's own life: its start, its end, what it leaves, and what the next one finds."""

import asyncio
import json
import os
import signal
import socket
import stat
from pathlib import Path

from broker.protocol.states import JobState
from tests.flows.daemon import Daemon
from tests.running import run_broker
from tests.waiting import until, until_awaited


async def test_running_jobs_outlive_the_broker_and_are_found_again(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    go = tmp_path / "go"
    async with daemon.client() as broker:
        job = await broker.shell(f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after")
        await broker.says(job.id, "before")
        await broker.reaches(job.id, JobState.RUNNING)
    assert daemon.stop() == 0
    assert not (daemon.data_dir / "broker.json").exists()
    daemon.start()
    async with daemon.client() as broker:
        assert (await broker.job(job.id)).state is JobState.RUNNING
        go.touch()
        done = await broker.reaches(job.id)
        assert (done.state, done.fence) == (JobState.COMPLETED, 1)
        assert await broker.lines(job.id) == ["before", "after"]


async def test_a_job_that_ended_while_the_broker_was_dead_is_not_run_again(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    go, ran = tmp_path / "go", tmp_path / "ran"
    async with daemon.client() as broker:
        job = await broker.shell(
            f"echo x >> {ran}; while [ ! -e {go} ]; do sleep 0.02; done; echo end; echo y >> {ran}"
        )
        await broker.reaches(job.id, JobState.RUNNING)
        waiting = [await broker.submit("true", hold=True) for _ in range(3)]
    daemon.kill()
    go.touch()
    await until(lambda: ran.read_text() == "x\ny\n")
    daemon.start()
    async with daemon.client() as broker:
        done = await broker.reaches(job.id)
        assert (done.state, done.fence, ran.read_text()) == (JobState.COMPLETED, 1, "x\ny\n")
        assert await broker.lines(job.id) == ["end"]
        assert {(await broker.job(held.id)).state for held in waiting} == {JobState.HELD}


async def test_what_was_asked_before_a_crash_is_done_after_it(daemon: Daemon) -> None:
    daemon.start()
    async with daemon.client() as broker:
        job = await broker.shell("trap '' TERM; echo ready; while :; do sleep 0.02; done")
        await broker.says(job.id, "ready")
        await broker.verb(job.id, "stop", grace_s=0.5)
    daemon.kill()
    daemon.start()
    async with daemon.client() as broker:
        assert (await broker.reaches(job.id)).state is JobState.STOPPED


async def test_two_interrupts_end_it_at_once(daemon: Daemon) -> None:
    daemon.start()
    daemon.signal(signal.SIGINT)
    daemon.signal(signal.SIGINT)
    assert daemon.ended(5) in {0, 1}


async def test_an_interrupt_ends_it_in_order(daemon: Daemon) -> None:
    daemon.start()
    daemon.signal(signal.SIGINT)
    assert daemon.ended(5) == 0
    assert "running jobs go on" in daemon.said()


async def test_a_second_broker_on_the_same_directory_refuses_and_names_the_first(daemon: Daemon) -> None:
    daemon.start()
    shown = run_broker("--data-dir", str(daemon.data_dir), "--port", "0")
    assert shown.returncode == 2
    assert str(daemon.pid) in shown.stderr and daemon.url in shown.stderr
    assert daemon.alive
    async with daemon.client() as broker:
        assert (await broker.http.get("/health")).json()["status"] in {"ok", "degraded"}


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = run_broker("--data-dir", str(tmp_path / "data"), "--port", str(port))
    assert shown.returncode == 2
    assert shown.stderr.count("\n") == 1
    assert f"127.0.0.1:{port} is taken" in shown.stderr and "--port" in shown.stderr


async def test_its_address_and_key_are_private(daemon: Daemon) -> None:
    daemon.start()
    for name in ("broker.json", "key", "broker.log", "ledger.db"):
        assert stat.S_IMODE((daemon.data_dir / name).stat().st_mode) == 0o600, name
    about = json.loads((daemon.data_dir / "broker.json").read_text())
    assert (about["pid"], about["url"]) == (daemon.pid, daemon.url)
    key = daemon.key
    daemon.stop()
    daemon.start()
    assert daemon.key == key


async def test_without_redis_it_takes_jobs_and_starts_none(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start({"WYOLO_REDIS_URL": f"unix://{tmp_path}/nowhere.sock"})
    async with daemon.client() as broker:

        async def degraded() -> bool:
            health = (await broker.http.get("/health")).json()
            return health["status"] == "degraded" and health["redis"] == "down"

        await until_awaited(degraded)
        job = await broker.submit("true")
        assert job.state is JobState.QUEUED
    assert daemon.stop() == 0
    daemon.start()
    async with daemon.client() as broker:
        assert (await broker.reaches(job.id)).state is JobState.COMPLETED


async def test_a_redis_that_never_answers_keeps_nobody_from_hearing_how_jobs_ended(
    daemon: Daemon, tmp_path: Path
) -> None:
    daemon.start()
    go = tmp_path / "go"
    async with daemon.client() as broker:
        job = await broker.shell(f"while [ ! -e {go} ]; do sleep 0.02; done")
        await broker.reaches(job.id, JobState.RUNNING)
    daemon.kill()
    daemon.kill_redis()
    mute = tmp_path / "bin" / "redis-server"
    mute.parent.mkdir()
    mute.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.0.0" || exec sleep 60\n')
    mute.chmod(0o755)
    daemon.start({"PATH": f"{mute.parent}:{os.environ['PATH']}"})
    go.touch()
    async with daemon.client() as broker:
        assert (await broker.reaches(job.id)).state is JobState.COMPLETED
        assert (await broker.http.get("/health")).json()["redis"] != "ok"
    assert daemon.stop() == 0  # the mute one too


async def test_a_look_through_a_data_set_that_hangs_does_not_keep_it_from_ending(
    daemon: Daemon, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        f"""
import time
from pathlib import Path
from broker import preflight

def hang(*_):
    Path({str(tmp_path / "looking")!r}).touch()
    time.sleep(600)

preflight.check = hang
"""
    )
    path = os.pathsep.join((str(slow), *filter(None, (daemon.environment.get("PYTHONPATH"), str(Path.cwd())))))
    daemon.start({"PYTHONPATH": path})
    async with daemon.client() as broker:
        config = f"model: yolov8n.yaml\ntrain:\n  data: {slow}\n"
        asked = asyncio.create_task(broker.http.post("/jobs", json={"config": config}))
        await until((tmp_path / "looking").exists)
        daemon.signal(signal.SIGTERM)
        assert daemon.ended(5) == 0
        assert (await asked).json()["code"] == "shutting_down"


async def test_what_is_wrong_with_a_request_is_said_as_a_problem(daemon: Daemon) -> None:
    daemon.start()
    async with daemon.client() as broker:
        for answer, status, code in (
            (await broker.http.get("/nothing"), 404, "not_found"),
            (await broker.http.put("/jobs"), 405, "bad_request"),
            (await broker.http.get("/jobs", params={"limit": 0}), 400, "bad_request"),
            (await broker.http.get("/jobs", params={"filter": "state:nope"}), 400, "bad_request"),
            (await broker.http.post("/jobs", content=b"{"), 400, "bad_request"),
        ):
            assert answer.headers["content-type"] == "application/problem+json", answer.text
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
            assert answer.json()["title"] and answer.json()["detail"]
