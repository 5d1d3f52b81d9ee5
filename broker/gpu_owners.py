"""Which of our jobs a process on a GPU belongs to: by the mark in its environment, or by the container it runs in."""

import re
from collections.abc import Mapping
from pathlib import Path

from broker.engines import proc
from broker.protocol.fleet import GpuProcess, HostSample

_CONTAINER = re.compile(r"[0-9a-f]{64}")


def owned(sample: HostSample, broker_id: str, containers: Mapping[str, int]) -> HostSample:
    """With the jobs of its GPU processes. `containers`: of active attempts, container id -> job. Blocks for a moment:
    reads /proc. Only processes of this machine are found."""
    gpus = [
        gpu.model_copy(update={"processes": [_owned(process, broker_id, containers) for process in gpu.processes]})
        for gpu in sample.gpus
    ]
    return sample.model_copy(update={"gpus": gpus})


def _owned(process: GpuProcess, broker_id: str, containers: Mapping[str, int]) -> GpuProcess:
    if process.job_id is not None or not process.name:
        return process
    owner, _, rest = (proc.mark(process.pid) or "").partition("/")
    job_id = rest.partition("/")[0]
    if owner == broker_id and job_id.isdecimal():
        return process.model_copy(update={"job_id": int(job_id)})
    for found in reversed(_CONTAINER.findall(_cgroup(process.pid))):  # the innermost: a sandbox is a container too
        if found in containers:
            return process.model_copy(update={"job_id": containers[found]})
    return process


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
