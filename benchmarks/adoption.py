"""(g) kill -9 of a broker with 50 running jobs: how long until the next broker has adopted them all."""

import os
import signal
import time

from benchmarks import live
from benchmarks.report import Row

JOBS = 50


def run() -> list[Row]:
    directory = live.folder()
    config = directory / "wyolo.toml"
    config.write_text(f'[[nodes]]\nname = "local"\nslots = {JOBS}\ncpus = 64\n')
    child, broker = live.start(directory, None, "--config", str(config))
    body = {"jobs": [{"spec": {"work": {"kind": "command", "argv": ["sleep", "600"]}}}] * JOBS}
    with broker.client() as client:
        client.post("/api/v1/jobs:batch", json=body).raise_for_status()
        live.until(lambda: client.get("/api/v1/health").json()["counts"].get("running", 0) == JOBS, 60)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child, broker = live.start(directory, None, "--config", str(config))
    began = time.monotonic() - broker.started_in_s
    with broker.client() as client:
        live.until(lambda: _adopted(client.get("/api/v1/nodes").json()) == JOBS, 60)
        took = time.monotonic() - began
        for job in client.get("/api/v1/jobs", params={"filter": "state:running", "limit": JOBS}).json()["jobs"]:
            client.post(f"/api/v1/jobs/{job['id']}/kill").raise_for_status()
        live.until(lambda: client.get("/api/v1/health").json()["counts"].get("stopped", 0) == JOBS, 60)
    live.stop(child)
    return [
        Row(
            f"{JOBS} running jobs adopted after kill -9",
            f"{took:.2f} s from exec",
            f"start to healthy {broker.started_in_s:.2f} s",
            "under 2 s",
            took < 2,
        )
    ]


def _adopted(nodes: list[dict[str, list[int]]]) -> int:
    return sum(len(node["jobs"]) for node in nodes)
