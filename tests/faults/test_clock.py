"""The machine's clock is set, forwards and back: nothing waits longer, ends sooner or is lost for it."""

import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from broker.protocol.states import JobState
from tests.faults.oracle import ended_well, sound
from tests.faults.scene import LONG_S, Scene, ended, healthy, train
from tests.flows.daemon import Client
from tests.waiting import until_awaited

pytestmark = pytest.mark.faults

DAY_S = 24 * 3600
Turn = Callable[[Client, int], Awaitable[None]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        why = "no C compiler (cc) to build the library with that sets a broker's clock"
        pytest.fail(why) if os.environ.get("WYOLO_CI") == "1" else pytest.skip(why)
    built = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", built, source], check=True)
    return built


@pytest.fixture
def clock(library: Path, tmp_path: Path) -> tuple[dict[str, str], Turn]:
    """The environment of a broker whose wall clock can be set, and how: by days from the real one."""
    offset = tmp_path / "clock"
    offset.write_bytes(struct.pack("=q", 0))

    async def turn(client: Client, days: int) -> None:
        with offset.open("r+b") as file:
            file.write(struct.pack("=q", days * DAY_S))
        at = datetime.fromisoformat((await client.http.get("/queue")).json()["at"])
        assert abs((at.timestamp() - time.time()) / DAY_S - days) < 0.1, "the clock was not set"

    return {"LD_PRELOAD": str(library), "WYOLO_TEST_CLOCK": str(offset)}, turn


async def test_jobs_run_on_while_the_clock_jumps(scene: Scene, clock: tuple[dict[str, str], Turn]) -> None:
    env, turn = clock
    gate = scene.folder / "gate"
    scene.daemon.start(env=env)
    async with scene.daemon.client() as client:
        jobs = [await client.submit(*scene.lines("before", 5, 0.0, gate), name="before")]
        await scene.noted("before", "said", 5)
        for number, days in enumerate((1, -2, 400)):
            await turn(client, days)
            jobs.append(await client.submit(*scene.lines(f"job-{number}", 5), name=f"job-{number}"))
            await ended(client, jobs[-1].id)
        await until_awaited(lambda: healthy(client), LONG_S, "health")
        gate.touch()
        await ended(client, jobs[0].id)
        await ended_well(client, scene.diaries, [job.id for job in jobs])


async def test_a_grace_is_as_long_as_it_was_said(scene: Scene, clock: tuple[dict[str, str], Turn]) -> None:
    env, turn = clock
    scene.daemon.start(env=env | scene.trainer(gates=[2], deaf=True))
    async with scene.daemon.client() as client:
        job = await train(client, epochs=3)
        await scene.noted(job.id, "epoch", 1)
        began = time.monotonic()
        await client.verb(job.id, "stop", grace_s=1)
        await turn(client, 1)
        await turn(client, -1)
        assert (await ended(client, job.id)).state is JobState.STOPPED
        assert time.monotonic() - began >= 1
        await sound(client, scene.diaries, job.id)


async def test_a_clock_that_is_set_back_holds_no_interrupted_job(
    scene: Scene, clock: tuple[dict[str, str], Turn]
) -> None:
    env, turn = clock
    scene.daemon.start(env=env | scene.trainer(gates=[2]) | {"WYOLO_BACKOFF_S": "300"})
    async with scene.daemon.client() as client:
        job = await train(client, epochs=3)
        os.kill((await scene.noted(job.id, "epoch", 1)).pid, signal.SIGKILL)
        waiting = await ended(client, job.id, JobState.QUEUED)
        assert waiting.not_before is not None
        await turn(client, -1)
        scene.go(job.id, "go", 2)
        await ended(client, job.id, JobState.COMPLETED)
        await ended_well(client, scene.diaries, [job.id], needed="whatever")
