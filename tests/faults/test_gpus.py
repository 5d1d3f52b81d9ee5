"""GPUs are one job's each, or shared where it says so; one that falls off the bus is set aside, and comes back."""

from pathlib import Path

import pytest

from broker.protocol.states import JobState
from tests.faults.conftest import Raise
from tests.faults.scene import LONG_S, Scene, ended, train
from tests.flows.daemon import Client
from tests.nvml import library
from tests.waiting import until_awaited

pytestmark = pytest.mark.faults

FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{n:012d}" for n in range(2))


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library.built(tmp_path_factory.mktemp("nvml"))


class Machine:
    """Two GPUs, to which happens what `does` says (tests/nvml/nvml.c)."""

    def __init__(self, scene: Scene, nvml: Path) -> None:
        self.scene = scene
        self.gate = scene.folder / "gate"
        self._state = scene.folder / "gpus"
        self.env = {
            "WYOLO_NODES": '[{"slots": 8, "cpus": 64, "memory_mib": 65536}]',
            "LD_LIBRARY_PATH": str(nvml),
            "WYOLO_NVML_GPUS": "2",
            "WYOLO_NVML_STATE": str(self._state),
        }
        self.does("")

    def does(self, words: str) -> None:
        self._state.write_text(words)

    async def wants_one(self, client: Client, **gpu: object) -> int:
        """A command that says which GPUs it sees, and stays until the gate is open."""
        script = f"echo sees $CUDA_VISIBLE_DEVICES; while [ ! -e {self.gate} ]; do sleep 0.05; done"
        work = {"kind": "command", "argv": ["/bin/sh", "-c", script]}
        answer = await client.http.post(
            "/jobs", json={"spec": {"work": work, "resources": {"gpu": {"count": 1, **gpu}}}}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


@pytest.fixture
def machine(raised: Raise, nvml: Path) -> Machine:
    return Machine(raised(), nvml)


async def seen(client: Client, job_id: int) -> str:
    lines = await until_awaited(lambda: client.lines(job_id), LONG_S, f"the first line of job {job_id}")
    return lines[0].removeprefix("sees ")


async def waiting(client: Client, job_id: int, why: str) -> None:
    async def there() -> bool:
        job = await client.job(job_id)
        assert job.state is JobState.QUEUED, job
        return why in job.waits_for

    await until_awaited(there, LONG_S, f"job {job_id} waits: {why}")


async def node_is(client: Client, state: str) -> None:
    async def there() -> bool:
        return (await client.http.get("/nodes/local")).json()["state"] == state

    await until_awaited(there, LONG_S, f"a node that is {state}")


async def test_each_job_has_a_gpu_of_its_own_and_the_third_says_why_it_waits(machine: Machine) -> None:
    machine.scene.daemon.start(env=machine.env)
    async with machine.scene.daemon.client() as client:
        jobs = [await machine.wants_one(client) for _ in range(3)]
        assert {await seen(client, job_id) for job_id in jobs[:2]} == {FIRST, SECOND}
        await waiting(client, jobs[2], f"waits for a GPU: local has 2, both busy (jobs {jobs[0]}, {jobs[1]})")
        machine.gate.touch()
        for job_id in jobs:
            assert (await ended(client, job_id)).state is JobState.COMPLETED


async def test_jobs_share_a_gpus_memory_where_they_say_so(machine: Machine) -> None:
    machine.scene.daemon.start(env=machine.env)
    async with machine.scene.daemon.client() as client:
        halves = [await machine.wants_one(client, memory_fraction=0.5) for _ in range(2)]
        whole = await machine.wants_one(client)
        more = await machine.wants_one(client, memory_fraction=0.5)
        [shared] = {await seen(client, job_id) for job_id in halves}
        assert {shared, await seen(client, whole)} == {FIRST, SECOND}
        await waiting(client, more, "waits for a GPU")


async def test_a_gpu_on_which_others_compute_is_given_to_nobody(machine: Machine) -> None:
    """The library says that a process of this machine, which is no job, holds 512 MiB of the first GPU, and that 256
    MiB of the second are taken though it names no process."""
    strict = '[{"slots": 8, "cpus": 64, "memory_mib": 65536, "foreign_mib": 100}]'
    machine.scene.daemon.start(env=machine.env | {"WYOLO_NODES": strict})
    async with machine.scene.daemon.client() as client:
        alone = await machine.wants_one(client)
        shared = await machine.wants_one(client, memory_fraction=0.5)
        assert await seen(client, shared) in {FIRST, SECOND}
        await waiting(client, alone, "2 with 768 MiB of processes that are not ours")
    machine.scene.daemon.kill()
    machine.scene.daemon.start(env=machine.env)
    async with machine.scene.daemon.client() as client:
        assert await seen(client, alone) in {FIRST, SECOND}


async def test_a_configuration_shares_a_gpu_by_its_limit(machine: Machine) -> None:
    trainer = machine.scene.trainer(gates=[1])
    machine.scene.daemon.start(env=machine.env | trainer)
    config = "model: yolov8n.yaml\ntrain:\n  data: coco8.yaml\n  epochs: 1\nextras:\n  gpu:\n    limit: 0.5\n"
    async with machine.scene.daemon.client() as client:
        ids: list[int] = []
        for _ in range(2):
            answer = await client.http.post("/jobs", json={"config": config})
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        placed = [await ended(client, job_id, JobState.RUNNING) for job_id in ids]
        assert placed[0].gpus == placed[1].gpus != []
        other = await train(client, epochs=1)
        assert (await ended(client, other.id, JobState.RUNNING)).gpus not in (placed[0].gpus, [])
        for job_id in (*ids, other.id):
            machine.scene.go(job_id, "go", 1)
            await ended(client, job_id, JobState.COMPLETED)


async def test_a_gpu_off_the_bus_is_set_aside_until_it_is_back(machine: Machine) -> None:
    machine.scene.daemon.start(env=machine.env)
    async with machine.scene.daemon.client() as client:
        await node_is(client, "up")
        machine.does("lost1")
        await node_is(client, "degraded")
        jobs = [await machine.wants_one(client) for _ in range(2)]
        assert await seen(client, jobs[0]) == FIRST
        await waiting(client, jobs[1], "1 set aside")
        machine.does("")
        assert await seen(client, jobs[1]) == SECOND


@pytest.mark.parametrize("trouble", ["lost0", "hang"])
async def test_a_gpu_that_was_in_trouble_at_the_start_is_used_when_it_is_well(machine: Machine, trouble: str) -> None:
    machine.does(trouble)
    machine.scene.daemon.start(env=machine.env)
    async with machine.scene.daemon.client() as client:
        await node_is(client, "degraded" if trouble == "lost0" else "unreachable")
        jobs = [await machine.wants_one(client, required=True) for _ in range(2)]
        await waiting(client, jobs[1], "set aside" if trouble == "lost0" else "cannot be reached")
        machine.does("")
        assert {await seen(client, job_id) for job_id in jobs} == {FIRST, SECOND}
