"""The kernel kills local jobs for lack of memory: each is told so, and none is tried again blindly."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from broker.engines import claim
from broker.protocol.states import JobState
from tests.faults.scene import LONG_S, PYTHON, Scene, ended
from tests.waiting import until

pytestmark = pytest.mark.faults

MIB = 1 << 20


@pytest.fixture
def small_memory() -> Generator[Path]:
    """`cgroup.procs` of a group with 32 MiB, for those who write their pid there."""
    top = Path("/sys/fs/cgroup")
    limit = "memory.max" if (top / "cgroup.controllers").exists() else "memory.limit_in_bytes"
    group = (top if limit == "memory.max" else top / "memory") / f"wyolo-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(32 * MIB))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"a memory limit needs a cgroup of its own, and that is refused here: {error}")
    yield group / "cgroup.procs"
    group.rmdir()


async def test_jobs_that_are_killed_at_once_for_lack_of_memory_are_all_told_so(
    scene: Scene, small_memory: Path
) -> None:
    """One of them while no broker runs."""
    gates = [scene.folder / "together", scene.folder / "away"]
    eat = f"import time; all = bytearray({256 * MIB}); time.sleep(60)"

    def hungry(gate: Path) -> str:
        return (
            f"echo $$ > {small_memory}; echo ready; until [ -e {gate} ]; do sleep 0.05; done; "
            f"exec {' '.join(PYTHON)} -c '{eat}'"
        )

    scene.daemon.start(env={"WYOLO_NODES": '[{"slots": 3, "cpus": 64, "gpus": "none"}]'})
    async with scene.daemon.client() as client:
        jobs = [await client.shell(hungry(gate)) for gate in [gates[0], gates[0], gates[1]]]
        for job in jobs:
            await client.says(job.id, "ready")
            await ended(client, job.id, JobState.RUNNING)
        gates[0].touch()
        for job in jobs[:2]:
            done = await ended(client, job.id)
            assert (done.state, done.reason, done.fence) == (JobState.FAILED, "oom_host", 1), done.message
    scene.daemon.kill()
    gates[1].touch()
    attempt = scene.daemon.data_dir / "jobs" / str(jobs[2].id) / "1"
    await until(lambda: claim.exit_code(attempt, None) is not None, LONG_S, "the last to be killed")
    scene.daemon.start()
    async with scene.daemon.client() as client:
        done = await ended(client, jobs[2].id)
        assert (done.state, done.reason, done.fence) == (JobState.FAILED, "oom_host", 1), done.message
