import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import psutil
import pytest

from broker import cgroup
from broker.engines.local import Gauging
from broker.gauges import Gauges
from tests.nvml import library

MIB = 1 << 20


# the machine


async def test_a_sample_tells_the_machine_as_it_is(tmp_path: Path) -> None:
    gauges = Gauges("here", tmp_path)
    engine_needs: Gauging = gauges
    assert 0 < engine_needs.cpus <= (os.cpu_count() or 1)
    sample = await gauges.sample()
    assert sample.node == "here"
    assert 0 <= sample.cpu_percent <= 100
    assert 0 < sample.memory_used_mib < sample.memory_total_mib <= psutil.virtual_memory().total // MIB
    disk = psutil.disk_usage(str(tmp_path))
    assert sample.disk_total_mib == disk.total // MIB
    assert sample.shm_total_mib == psutil.disk_usage("/dev/shm").total // MIB


def test_a_busy_machine_shows_as_busy(tmp_path: Path) -> None:
    gauges = Gauges("here", tmp_path, "none")
    gauges.read()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert gauges.read().cpu_percent > 80 / (os.cpu_count() or 1)


def test_jobs_may_plan_for_less_than_the_machine_has_but_not_for_more(tmp_path: Path) -> None:
    less = Gauges("here", tmp_path, "none", cpus=0.5, memory_mib=100)
    assert (less.cpus, less.memory_mib) == (0.5, 100)
    more = Gauges("here", tmp_path, "none", cpus=1e6, memory_mib=1 << 40)
    everything = Gauges("here", tmp_path, "none")
    assert (more.cpus, more.memory_mib) == (everything.cpus, everything.memory_mib)


# containers


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc"


def test_the_limits_of_a_v2_container_count(tmp_path: Path) -> None:
    proc = _tree(
        tmp_path,
        {
            "proc/cgroup": "0::/\n",
            "proc/mountinfo": f"30 23 0:26 / {tmp_path}/fs ro,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate\n",
            "fs/cpu.max": "150000 100000\n",
            "fs/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            "fs/memory.max": f"{512 * MIB}\n",
            "fs/memory.current": f"{300 * MIB}\n",
            "fs/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
        },
    )
    cpus, memory = cgroup.cpu_limit(proc), cgroup.memory_limit(1 << 40, proc)
    assert cpus is not None
    assert memory is not None
    assert (cpus.amount, cpus.used_cpu_s()) == (1.5, 2.5)
    assert (memory.amount, memory.used_bytes()) == (512 * MIB, 200 * MIB)


def test_the_limits_of_a_v1_container_count(tmp_path: Path) -> None:
    """As Docker shows it without a namespace: the membership names the host's path, the mount only its end."""
    proc = _tree(
        tmp_path,
        {
            "proc/cgroup": "5:cpu:/docker/abc\n4:cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n",
            "proc/mountinfo": (
                f"31 23 0:28 / {tmp_path}/fs rw - tmpfs tmpfs rw\n"
                f"32 31 0:29 /docker/abc {tmp_path}/fs/cpu ro - cgroup cgroup rw,cpu\n"
                f"33 31 0:30 /docker/abc {tmp_path}/fs/acct ro - cgroup cgroup rw,cpuacct\n"
                f"34 31 0:31 /docker/abc {tmp_path}/fs/memory ro - cgroup cgroup rw,memory\n"
            ),
            "fs/cpu/cpu.cfs_quota_us": "200000\n",
            "fs/cpu/cpu.cfs_period_us": "100000\n",
            "fs/acct/cpuacct.usage": "3000000000\n",
            "fs/memory/memory.limit_in_bytes": f"{256 * MIB}\n",
            "fs/memory/memory.usage_in_bytes": f"{128 * MIB}\n",
            "fs/memory/memory.stat": f"cache 1\ntotal_inactive_file {28 * MIB}\n",
        },
    )
    cpus, memory = cgroup.cpu_limit(proc), cgroup.memory_limit(1 << 40, proc)
    assert cpus is not None
    assert memory is not None
    assert (cpus.amount, cpus.used_cpu_s()) == (2.0, 3.0)
    assert (memory.amount, memory.used_bytes()) == (256 * MIB, 100 * MIB)


def test_a_tighter_limit_further_up_is_the_one_that_counts(tmp_path: Path) -> None:
    proc = _tree(
        tmp_path,
        {
            "proc/cgroup": "0::/slice/service\n",
            "proc/mountinfo": f"30 23 0:26 / {tmp_path}/fs rw - cgroup2 cgroup rw\n",
            "fs/slice/service/cpu.max": "max 100000\n",
            "fs/slice/cpu.max": "50000 100000\n",
            "fs/slice/service/memory.max": f"{512 * MIB}\n",
            "fs/slice/memory.max": f"{64 * MIB}\n",
        },
    )
    cpus, memory = cgroup.cpu_limit(proc), cgroup.memory_limit(1 << 40, proc)
    assert cpus is not None
    assert memory is not None
    assert (cpus.amount, memory.amount) == (0.5, 64 * MIB)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/cgroup": "0::/\n", "proc/mountinfo": ""},
        {
            "proc/cgroup": "3:memory:/\n2:cpu:/\n0::/\n",
            "proc/mountinfo": "32 31 0:29 / ROOT/fs rw - cgroup cgroup rw,cpu,memory\n",
            "fs/cpu.cfs_quota_us": "-1\n",
            "fs/cpu.cfs_period_us": "100000\n",
            "fs/memory.limit_in_bytes": "9223372036854771712\n",
        },
    ],
)
def test_without_limits_there_are_none(tmp_path: Path, files: dict[str, str]) -> None:
    proc = _tree(tmp_path, {name: text.replace("ROOT", str(tmp_path)) for name, text in files.items()})
    assert cgroup.cpu_limit(proc) is None
    assert cgroup.memory_limit(1 << 40, proc) is None


# GPUs


class Machine:
    """A program on a machine with GPUs that do what they are told."""

    def __init__(self, driver: Path, directory: Path, gpus: int, choice: str) -> None:
        self._state = directory / "state"
        self._state.write_text("")
        environment = library.environment(driver, gpus, self._state)
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.nvml.probe", directory, choice],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def sample(self, happened: str = "") -> dict[str, Any]:
        self._state.write_text(happened)
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write("sample\n")
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())

    def end(self) -> int:
        """How the program ends by itself once nobody asks any more."""
        self._program.communicate(timeout=10)
        return self._program.returncode


Start = Callable[..., Machine]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the library: built once for all machines."""
    return library.built(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(driver: Path, tmp_path: Path) -> Generator[Start]:
    machines: list[Machine] = []

    def start(gpus: int, choice: str = "all") -> Machine:
        machines.append(Machine(driver, tmp_path, gpus, choice))
        return machines[-1]

    yield start
    for each in machines:
        assert each.end() == 0


def _uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def test_every_gpu_shows_its_memory_load_and_processes(machine: Start) -> None:
    answer = machine(2).sample()
    first, second = answer["sample"]["gpus"]
    (process,) = first.pop("processes")
    assert first == {
        "index": 0,
        "uuid": _uuid(0),
        "name": "Test GPU 0",
        "memory_total_mib": 16_384,
        "memory_used_mib": 128,
        "utilisation": 10.0,
        "temperature_c": 41.0,
        "power_w": 120.5,
        "power_limit_w": 350.0,
        "lost": False,
    }
    assert (process["memory_mib"], process["job_id"]) == (512, None)
    assert process["name"].startswith("python")
    assert second["processes"] == []
    assert answer["uuids"] == [_uuid(0), _uuid(1)]
    assert answer["why"] == ""


def test_a_gpu_that_falls_off_the_bus_is_lost_and_the_others_are_not(machine: Start) -> None:
    here = machine(3)
    here.sample()
    answer = here.sample("lost1")
    assert [(gpu["uuid"], gpu["lost"]) for gpu in answer["sample"]["gpus"]] == [
        (_uuid(0), False),
        (_uuid(1), True),
        (_uuid(2), False),
    ]
    assert answer["sample"]["gpus"][1]["name"] == "Test GPU 1"
    assert answer["uuids"] == [_uuid(0), _uuid(2)]
    back = here.sample()
    assert not any(gpu["lost"] for gpu in back["sample"]["gpus"])
    assert len(back["uuids"]) == 3


def test_a_gpu_that_was_lost_before_the_broker_came_is_shown(machine: Start) -> None:
    answer = machine(2).sample("lost0")
    assert [(gpu["uuid"], gpu["lost"]) for gpu in answer["sample"]["gpus"]] == [("lost-0", True), (_uuid(1), False)]


def test_a_driver_that_is_unloaded_and_loaded_again_is_followed(machine: Start) -> None:
    here = machine(2)
    here.sample()
    answer = here.sample("gone")
    assert [gpu["lost"] for gpu in answer["sample"]["gpus"]] == [True, True]
    assert "stopped answering" in answer["why"]
    assert [gpu["lost"] for gpu in here.sample()["sample"]["gpus"]] == [False, False]


def test_a_driver_that_hangs_leaves_the_last_sample_and_does_not_keep_the_program_from_ending(machine: Start) -> None:
    here = machine(1)
    before = here.sample()
    assert here.sample("hang")["sample"]["at"] == before["sample"]["at"]
    assert here.end() == 0


def test_a_gpu_that_tells_little_is_shown_with_what_it_tells(machine: Start) -> None:
    _, bare = machine(2).sample("bare1")["sample"]["gpus"]
    assert (bare["lost"], bare["memory_total_mib"], bare["power_w"], bare["processes"]) == (False, 16_384, None, [])


def test_a_gpu_that_is_not_for_this_user_is_left_out(machine: Start) -> None:
    assert machine(2).sample("forbidden0")["uuids"] == [_uuid(1)]


@pytest.mark.parametrize(("choice", "expected"), [("none", []), ("1", [1]), (_uuid(2), [2]), (f"0,{_uuid(2)}", [0, 2])])
def test_only_the_chosen_gpus_are_seen(machine: Start, choice: str, expected: list[int]) -> None:
    assert machine(3, choice).sample()["uuids"] == [_uuid(index) for index in expected]


async def test_without_a_driver_there_are_no_gpus_and_the_reason_is_told(tmp_path: Path) -> None:
    gauges = Gauges("here", tmp_path)
    sample = await gauges.sample()
    if sample.gpus:
        pytest.skip("this machine has GPUs")
    assert "NVIDIA" in gauges.no_gpus


@pytest.mark.gpu
async def test_a_real_gpu_is_read(tmp_path: Path) -> None:
    gauges = Gauges("here", tmp_path)
    sample = await gauges.sample()
    if not sample.gpus:
        pytest.skip(gauges.no_gpus)
    first = sample.gpus[0]
    assert first.uuid.startswith("GPU-")
    assert 0 <= first.memory_used_mib <= first.memory_total_mib
    assert first.memory_total_mib > 0
    assert first.temperature_c is not None
    assert not first.lost
