"""(h) Containers on three sandboxes, raised for this: latency, adoption, a sandbox's death, logs, short jobs."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks import live
from benchmarks.report import Row, percentile
from broker.engines import container
from broker.engines.base import AttemptRef, Launch
from broker.engines.docker_folder import prepare
from broker.engines.docker_link import Link
from broker.engines.docker_node import template
from broker.settings import NodeSettings, Settings
from dind.engine import connected
from dind.spec import NETWORK
from tests.docker.daemon import SANDBOX_BASE, HostDaemon, why_not
from tests.docker.fleet import Fleet
from tests.docker.tree import Tree, pack_sandbox

NAMES = ("api", "environment", "media")
CLOCK = ["date", "+%s%N"]  # prints the wall clock in ns as soon as it runs
ROUNDS, TURNS = 12, 3  # in a row, ours and bare ones in turn
RUNNING = 30
DEATHS = 3
LINES = 1_000_000
SHORT = 100
SLOTS = 12
CPUS = 1.0  # of each container, ours or bare
BACKOFF_S = 0.1
LEASE_S = 6.0
CUTS = 3
TRAINER = Path(__file__).parent.parent / "tests" / "containers" / "trainer.sh"  # speaks the wire, and writes a diary
TICKING = "while :; do echo .; sleep 0.1; done"


def run() -> list[Row]:
    if reason := why_not():
        return [Row("containers on three sandboxes", f"not measured: {reason}", "", "", None)]
    return asyncio.run(_measured())


async def _measured() -> list[Row]:
    async with _raised() as fleet:
        measures = (_latency, _adoption, _death, _cut, _log, _short)
        return [row for measure in measures for row in await asyncio.to_thread(measure, fleet)]


@asynccontextmanager
async def _raised() -> AsyncGenerator[Fleet]:
    folder = Path(tempfile.mkdtemp(prefix="wyolo-bench-"))
    host = HostDaemon(folder / "host")
    try:
        host.start()
        host.import_tree(pack_sandbox(folder / "base.tar"), SANDBOX_BASE)
        async with connected(host.url) as engine:
            fleet = Fleet(host, engine, folder, NAMES)
            try:
                await fleet.raise_([TRAINER.parent])
                fleet.load(_packed(folder / "image.tar"), "busybox")
                yield fleet
            finally:
                await fleet.remove()
    finally:
        host.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _packed(path: Path) -> Path:
    """BusyBox, and a clock of nanoseconds."""
    with Tree(path) as tree:
        tree.programs(CLOCK[:1])
        tree.busybox()
    return path


class _Broker:
    """On the fleet, until `kill` or the end of the `with`; jobs of it are ended then."""

    def __init__(self, fleet: Fleet, slots: int = SLOTS, **more: Any) -> None:
        nodes = fleet.nodes(image="busybox", slots=slots, cpus=64, memory_mib=65536, **more)
        self._fleet = fleet
        settings = {"WYOLO_BACKOFF_S": str(BACKOFF_S), "WYOLO_GRACE_S": "5", "WYOLO_PREFLIGHT": "false"}
        self._env = fleet.broker(nodes, **settings).environment
        self._child, self.live = live.start(fleet.home.data_dir, self._env)
        self.client = self.live.client()

    def __enter__(self) -> "_Broker":
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.jobs("state:waiting,active"):
            self.client.post(f"/api/v1/jobs/{job['id']}/kill").raise_for_status()
        live.until(lambda: not self.jobs("state:waiting,active"), 60, 0.1)
        self.client.close()
        live.stop(self._child)

    def restart(self) -> None:
        """kill -9, and another."""
        self.client.close()
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._child, self.live = live.start(self._fleet.home.data_dir, self._env)
        self.client = self.live.client()

    def submit(self, *argv: str, times: int = 1, node: str | None = None) -> list[int]:
        return self._submit({"kind": "command", "argv": argv}, node, times)

    def train(self, **args: Any) -> int:
        return self._submit({"kind": "train", "model": "yolov8n.yaml", "args": {"data": "coco8.yaml", **args}})[0]

    def _submit(self, work: dict[str, Any], node: str | None = None, times: int = 1) -> list[int]:
        spec = {"work": work, "resources": {"node": node, "cpus": CPUS}}
        answer = self.client.post("/api/v1/jobs:batch", json={"jobs": [{"spec": spec}] * times}).raise_for_status()
        return answer.json()["ids"]

    def job(self, job_id: int) -> dict[str, Any]:
        return self.client.get(f"/api/v1/jobs/{job_id}").raise_for_status().json()

    def jobs(self, filter: str) -> list[dict[str, Any]]:
        answer: httpx.Response = self.client.get("/api/v1/jobs", params={"filter": filter, "limit": 1000})
        return answer.raise_for_status().json()["jobs"]

    def completed(self, ids: Sequence[int], timeout: float) -> None:
        def done() -> bool:
            found = {job["id"]: job["state"] for job in self.jobs("state:completed")}
            return all(job_id in found for job_id in ids)

        live.until(done, timeout, 0.1)

    def file(self, job_id: int, name: str) -> Path:
        return self._fleet.home.jobs / str(job_id) / name

    def log(self, job_id: int, fence: int = 1) -> Path:
        return self.file(job_id, f"{fence}.log")

    def size(self, job_id: int, fence: int = 1) -> int:
        path = self.log(job_id, fence)
        return path.stat().st_size if path.exists() else 0


# --- from submitting to the first instruction ---


def _latency(fleet: Fleet) -> list[Row]:
    ours: list[float] = []
    bare: list[float] = []
    node = NodeSettings.model_validate(fleet.nodes(image="busybox")[0])
    with _Broker(fleet) as broker:
        _clocks(fleet, broker, node.name, 3)
        for _ in range(TURNS):
            bare += asyncio.run(_bare_clocks(fleet, node))
            ours += _clocks(fleet, broker, node.name, ROUNDS)
    p50, bare50 = percentile(ours, 0.5), percentile(bare, 0.5)
    return [
        Row(
            "container: submit to first instruction, p50",
            f"{p50:.0f} ms (p90 {percentile(ours, 0.9):.0f} ms)",
            f"bare create and start of the same {bare50:.0f} ms (p90 {percentile(bare, 0.9):.0f} ms)",
            "at most 1.10 times plus 20 ms",
            p50 <= 1.10 * bare50 + 20,
        )
    ]


def _clocks(fleet: Fleet, broker: _Broker, node: str, rounds: int) -> list[float]:
    """As with the bare ones, nobody asks while it starts, and the last one is removed before the next is made."""
    latencies: list[float] = []
    for _ in range(rounds):
        began = time.time_ns()
        [job_id] = broker.submit(*CLOCK, node=node)
        live.until(lambda job_id=job_id: broker.size(job_id) > 0, 30, 0.01)
        latencies.append((int(broker.log(job_id).read_text()) - began) / 1e6)
        broker.completed([job_id], 30)
        live.until(lambda: not fleet.docker(fleet.names[0], "ps", "--all", "--quiet"), 30, 0.05)
    return latencies


async def _bare_clocks(fleet: Fleet, node: NodeSettings) -> list[float]:
    latencies: list[float] = []
    link = Link(node.name, node.url, node.tls)
    form = template(node, Settings.model_validate({"data_dir": fleet.home.data_dir}), fleet.home.jobs)
    try:
        await link.root()
        for round in range(ROUNDS):
            directory = fleet.home.jobs / f"bare-{time.time_ns()}" / "1"
            launch = Launch(AttemptRef("bare", round, 1), CLOCK, {}, directory, directory, cpus=CPUS)
            prepare(directory, form.user)
            began = time.time_ns()
            made = await link.create(f"bare-{began}", container.body(launch, form))
            await link.start(made)
            await link.post(f"containers/{made}/wait")
            said = await asyncio.to_thread(fleet.docker, fleet.names[0], "logs", made)
            latencies.append((int(said) - began) / 1e6)
            await link.remove(made)
    finally:
        await link.close()
    return latencies


# --- a new broker, and a dead sandbox ---


def _adoption(fleet: Fleet) -> list[Row]:
    with _Broker(fleet) as broker:
        ids = broker.submit("sh", "-c", TICKING, times=RUNNING)
        live.until(lambda: all(broker.size(job_id) for job_id in ids), 120, 0.05)
        used = len({job["node"] for job in broker.jobs("state:running")})
        broker.restart()
        began = time.monotonic() - broker.live.started_in_s
        sizes = {job_id: broker.size(job_id) for job_id in ids}
        live.until(lambda: all(broker.size(job_id) > sizes[job_id] for job_id in ids), 60, 0.01)
        took = time.monotonic() - began
    return [
        Row(
            f"{RUNNING} running containers on {used} sandboxes adopted after kill -9, their logs read on",
            f"{took:.2f} s from exec",
            f"start to healthy {broker.live.started_in_s:.2f} s",
            "within 2 s",
            took <= 2,
        )
    ]


def _death(fleet: Fleet) -> list[Row]:
    took: list[float] = []
    back: list[float] = []
    with _Broker(fleet) as broker:
        for _ in range(DEATHS):
            [job_id] = broker.submit("sh", "-c", TICKING)
            live.until(lambda job_id=job_id: broker.size(job_id) > 0, 30)
            name = broker.job(job_id)["node"].removeprefix("dind_")
            began = time.monotonic()
            os.kill(fleet.host.inspect(f"dind_{name}")["State"]["Pid"], signal.SIGKILL)
            live.until(lambda name=name: _answers(fleet, name), 60, 0.05)
            back.append(time.monotonic() - began)
            live.until(lambda job_id=job_id: broker.size(job_id, 2) > 0, 120, 0.01)
            took.append(time.monotonic() - began)
            broker.client.post(f"/api/v1/jobs/{job_id}/kill").raise_for_status()
    return [
        Row(
            "a sandbox killed, its job running again",
            f"{max(took):.1f} s, the worst of {DEATHS}",
            f"the sandbox itself back in {max(back):.1f} s",
            f"at most 5 s and the backoff of {BACKOFF_S} s",
            max(took) <= 5 + 1.5 * BACKOFF_S,
        )
    ]


def _answers(fleet: Fleet, name: str) -> bool:
    try:
        return bool(fleet.docker(name, "version"))
    except AssertionError:
        return False


def _cut(fleet: Fleet) -> list[Row]:
    took: list[float] = []
    with _Broker(fleet, python=str(TRAINER), shm_mib=16, self_fencing_s=LEASE_S) as broker:
        for _ in range(CUTS):
            job_id = broker.train(epochs=10_000)
            live.until(lambda job_id=job_id: broker.job(job_id)["epoch"] >= 2, 30, 0.1)
            node = broker.job(job_id)["node"]
            began = time.clock_gettime(time.CLOCK_BOOTTIME)  # as the diary has it
            fleet.host.docker("network", "disconnect", "-f", NETWORK, node)
            again = broker.file(job_id, "2/diary")
            live.until(lambda again=again: again.exists() and again.stat().st_size > 0, 60, 0.01)
            took.append(int(again.read_text().split()[0]) / 100 - began)
            fleet.host.docker("network", "connect", NETWORK, node)
            broker.client.post(f"/api/v1/jobs/{job_id}/kill").raise_for_status()
            live.until(lambda: not broker.jobs("state:active"), 60, 0.1)
    return [
        Row(
            f"a sandbox cut off, a lease of {LEASE_S:g} s: its training running in another",
            f"{max(took):.1f} s, the worst of {CUTS}",
            "",
            "at most the lease and 5 s",
            max(took) <= LEASE_S + 5,
        )
    ]


# --- a long log, and many short jobs ---


def _log(fleet: Fleet) -> list[Row]:
    ours: list[float] = []
    docker: list[float] = []
    kept = 0
    with _Broker(fleet) as broker:
        for _ in range(2):
            docker.append(_followed(fleet))
            began = time.monotonic()
            [job_id] = broker.submit("seq", str(LINES), node=f"dind_{fleet.names[0]}")
            broker.completed([job_id], 300)
            ours.append(time.monotonic() - began)
            with broker.log(job_id).open() as log:
                kept = sum(int(line) == number for number, line in enumerate(log, 1))
    return [
        Row(
            f"a log of {LINES:,} lines, submit to all of them kept",
            f"{min(ours):.1f} s, {LINES - kept} lost",
            f"docker run -d and docker logs -f {min(docker):.1f} s",
            "at most 1.3 times, none lost",
            min(ours) <= 1.3 * min(docker) and kept == LINES,
        )
    ]


def _followed(fleet: Fleet) -> float:
    name = fleet.names[0]
    began = time.monotonic()
    made = fleet.docker(name, "run", "-d", "--network", "none", "busybox", "seq", str(LINES)).strip()
    fleet.docker(name, "logs", "-f", made)
    took = time.monotonic() - began
    fleet.docker(name, "rm", made)
    return took


def _short(fleet: Fleet) -> list[Row]:
    before = _loops(fleet)
    with _Broker(fleet, slots=2) as broker:
        began = time.monotonic()
        broker.completed(broker.submit("true", times=SHORT), 300)
        took = time.monotonic() - began
    loops = (before + _loops(fleet)) / 2
    return [
        Row(
            f"{SHORT} short jobs over three sandboxes",
            f"{took:.1f} s",
            f"docker run in three shell loops {loops:.1f} s",
            "at most 1.15 times",
            took <= 1.15 * loops,
        )
    ]


def _loops(fleet: Fleet) -> float:
    """As many, in as many shells as there are sandboxes."""
    began = time.monotonic()
    shells: list[subprocess.Popen[bytes]] = []
    for number, name in enumerate(fleet.names):
        times = len(range(number, SHORT, len(fleet.names)))
        command = " ".join(
            fleet.command(name, "run", "--rm", "--cpus", str(CPUS), "--network", "none", "busybox", "true")
        )
        shells.append(subprocess.Popen(["sh", "-ec", f"i=0; while [ $i -lt {times} ]; do {command}; i=$((i+1)); done"]))
    if any([shell.wait() for shell in shells]):
        raise RuntimeError("docker run failed")
    return time.monotonic() - began
