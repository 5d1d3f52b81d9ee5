"""The installed `wyolo` in a real terminal, on a real broker: what a person does in their first minutes."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.daemon import Client, Daemon
from tests.flows.terminal import Terminal
from tests.running import broker_environment
from tests.waiting import until_sync

pytestmark = pytest.mark.skipif(
    shutil.which("tmux") is None and not os.environ.get("WYOLO_CI"), reason="tmux is not installed"
)
WYOLO = str(Path(sys.executable).parent / "wyolo")


def opened(daemon: Daemon, folder: Path, columns: int, rows: int) -> Iterator[Terminal]:
    env = broker_environment(WYOLO_DATA_DIR=str(daemon.data_dir), XDG_CONFIG_HOME=str(folder), HOME=str(folder))
    with Terminal([WYOLO], columns, rows, folder, env) as terminal:
        yield terminal


@pytest.fixture
def wide(shared_daemon: Daemon, tmp_path: Path) -> Iterator[Terminal]:
    yield from opened(shared_daemon, tmp_path, 160, 45)


@pytest.fixture
def small(shared_daemon: Daemon, tmp_path: Path) -> Iterator[Terminal]:
    yield from opened(shared_daemon, tmp_path, 80, 24)


async def test_a_job_is_watched_stopped_and_resumed_from_the_keyboard(broker: Client, wide: Terminal) -> None:
    wide.shows("Jobs", "? help")
    job = await broker.shell("echo sowing; while :; do sleep 0.05; done", name="orchard")
    wide.shows("orchard", "running", "sowing")
    wide.type("s")
    wide.shows("stopped")
    assert (await broker.reaches(job.id)).state == "stopped"
    wide.type("r")
    wide.shows("running")
    assert (await broker.job(job.id)).fence == 2
    wide.type("q")
    until_sync(lambda: wide.ended, what="the cockpit to end")
    assert (await broker.job(job.id)).state == "running", "leaving the cockpit must leave the job"


async def test_killing_asks_first_and_enter_is_not_yes(broker: Client, wide: Terminal) -> None:
    job = await broker.lasting(name="harvest")
    wide.shows("harvest", "running")
    wide.type("K")
    wide.shows("harvest", "esc cancel")
    wide.type("Enter")
    assert (await broker.job(job.id)).intent is None
    wide.type("K")
    wide.shows("esc cancel")
    wide.type("y")
    assert (await broker.reaches(job.id)).reason == "killed"


async def test_a_small_terminal_shows_the_table_and_its_keys(broker: Client, small: Terminal) -> None:
    await broker.shell("exit 3", name="windfall")
    screen = small.shows("windfall", "failed", "? help")
    assert max(map(len, screen.splitlines())) <= 80
    small.type("/state:completed", "Enter")  # in one go: none of it may be taken for a key
    until_sync(lambda: "windfall" not in small.screen, what="the filter to hide it")


async def test_a_shell_opens_beside_a_local_job_and_the_cockpit_is_back_after_it(
    broker: Client, wide: Terminal
) -> None:
    job = await broker.lasting(name="barn")
    wide.shows("barn", "running")
    wide.type("E")
    wide.shows(f"job {job.id} barn: a shell of this machine, in ", "`exit` or ctrl+d leaves it")
    wide.type("pwd; echo gpu[$CUDA_VISIBLE_DEVICES]; exit", "Enter")
    wide.shows("barn", "? help")
    assert (await broker.job(job.id)).state == "running"
