"""Three sandboxes, thirty trainings, and at random: the broker killed, Redis killed and emptied, a sandbox's daemon
killed, a sandbox removed, or cut off. Each job ends once, by one attempt at a time, with every line."""

import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.protocol.job import Attempt
from broker.protocol.states import FINAL, JobState
from dind.engine import Engine
from tests.docker.daemon import HostDaemon
from tests.docker.fleet import SYSTEM, Fleet, installed
from tests.docker.tree import pack_installed
from tests.docker.trouble import Trouble
from tests.faults import program
from tests.faults.oracle import Entry, diary, everyone, told_right
from tests.faults.scene import Scene
from tests.faults.storm import Storm
from tests.flows.conftest import QUIET
from tests.waiting import until_awaited

pytestmark = pytest.mark.faults

NAMES = ("api", "environment", "media")
PLACES = 4  # in each sandbox
EPOCHS, EPOCH_S = 20, 0.4
LAST_WORDS = 3  # lines that a killed dockerd may not have read yet
QUIET_AGAIN_S = 120.0
FENCED = ("dind_api", "dind_media")  # a training there leaves by itself, and is gone on with elsewhere
LEASE_S = 6  # shorter than a long cut, longer than a short one
TURMOIL = {"WYOLO_MAX_INFRA_DEATHS": "1000", "WYOLO_BACKOFF_S": "0.1"}


@pytest.fixture
async def fleet(host: HostDaemon, sandbox_base: str, engine: Engine, tmp_path: Path) -> AsyncIterator[Fleet]:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "program.py").write_bytes(Path(program.__file__).read_bytes())
    (programs / "plan.json").write_text(f'{{"pause_s": {EPOCH_S}}}')
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    wrapper = programs / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {python} -ES {programs}/program.py train {programs}/plan.json "$3"\n')
    wrapper.chmod(0o755)
    fleet = Fleet(host, engine, tmp_path, NAMES)
    try:
        await fleet.raise_(reads=[programs, *installed()])
        fleet.load(pack_installed(tmp_path / "image.tar", SYSTEM), "busybox")
        yield fleet
    finally:
        await fleet.remove()


@pytest.fixture
def scene(fleet: Fleet, tmp_path: Path) -> Iterator[Scene]:
    nodes = fleet.nodes(
        image="busybox", python=str(tmp_path / "programs" / "python"), slots=PLACES, cpus=64, memory_mib=65536
    )
    for node in nodes:
        node["self_fencing_s"] = LEASE_S if node["name"] in FENCED else 0
    scene = Scene(tmp_path, fleet.broker(nodes, **TURMOIL))
    with scene.nothing_left():
        yield scene
    assert QUIET not in scene.daemon.said(), scene.daemon.said()[-4000:]


def entries(fleet: Fleet, job_id: int) -> list[Entry]:
    """Of all attempts, each of which kept its own diary, in the order of their fences."""
    attempts = sorted((int(path.parent.name), path) for path in fleet.home.jobs.glob(f"{job_id}/*/{job_id}.diary"))
    return [entry for _, path in attempts for entry in diary(path)]


def lost_words(attempt: Attempt) -> int:
    """What was said in a sandbox that was cut off until its lease was over, nobody heard."""
    return EPOCHS if attempt.node in FENCED else LAST_WORDS


async def outlived(fleet: Fleet, scene: Scene, seed: int, jobs: int, faults: int) -> None:
    trouble = Trouble(fleet, scene, seed)
    verbs = Counter[str]()
    storm: Storm = Storm(
        scene.daemon,
        lambda _: {
            "work": {"kind": "train", "model": "yolov8n.yaml", "args": {"epochs": EPOCHS, "data": "coco8.yaml"}}
        },
        lambda name: any(entry.what == "end" for entry in entries(fleet, storm.jobs[name])),
    )
    try:
        await storm.blow([lambda: trouble.of_sandboxes(faults), lambda: trouble.of_the_broker(faults)], jobs)
        await trouble.heal()
        async with scene.daemon.client() as client:

            async def over() -> bool:
                return all(job.state in FINAL for job in await everyone(client))

            await until_awaited(over, QUIET_AGAIN_S, "every job to end")
            found = {job.id: job for job in await everyone(client)}
            assert sorted(found) == sorted(storm.jobs.values())
            assert len(found) == jobs
            for job in found.values():
                assert job.state is JobState.COMPLETED, (job, await client.verbs(job.id))
                await told_right(client, job, entries(fleet, job.id), lost_words)
                verbs.update(await client.verbs(job.id))
        for name in fleet.names:
            assert not fleet.docker(name, "ps", "-q", "--filter", "label=wyolo.job")
    except BaseException:
        print(f"seed {seed}: {', '.join(trouble.done)}\n{scene.daemon.said()[-6000:]}")
        raise
    print(f"seed {seed}: {', '.join(trouble.done)}: {dict(verbs)}")


@pytest.mark.timeout(300)
async def test_thirty_trainings_outlive_whatever_befalls_three_sandboxes(fleet: Fleet, scene: Scene) -> None:
    await outlived(fleet, scene, seed=1, jobs=30, faults=5)


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_three_hundred_trainings_outlive_a_hundred_faults(fleet: Fleet, scene: Scene) -> None:
    """WYOLO_FAULTS says how many, of sandboxes and as many of the broker; WYOLO_SEED repeats a run."""
    faults = int(os.environ.get("WYOLO_FAULTS", "100"))
    seed = int(os.environ.get("WYOLO_SEED", "0")) or random.randrange(1, 1 << 32)
    print(f"seed {seed}: WYOLO_SEED={seed} repeats it")
    await outlived(fleet, scene, seed, jobs=3 * faults, faults=faults)
