"""A job's container, from what the broker wants started and what the operator allows on the node. Pure.

A person's wishes fill fields of our template and are never passed through: who shapes a container freely owns its host.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from broker.engines.base import AttemptRef, Launch

BROKER_LABEL, JOB_LABEL, FENCE_LABEL, SPEC_LABEL = "wyolo.broker", "wyolo.job", "wyolo.fence", "wyolo.spec"
STOP_TIMEOUT_S = 120  # for a daemon that ends and takes its containers with it
_MIB = 1024 * 1024
_LOG_FILES = 2


@dataclass(frozen=True, slots=True)
class Template:
    """What all jobs' containers of a node have in common."""

    image: str
    user: str  # "uid:gid", not root
    python: str = "python3"  # of the image, for trainings
    pull: bool = False  # images that are missing
    network: str = "none"
    shm_mib: int = 1024
    tmp_mib: int = 1024  # /tmp, in memory
    pids: int = 4096
    log_mib: int = 1024  # the daemon keeps twice this of a container's log
    reads: Sequence[Path] = ()  # folders that jobs may read, at their own paths
    path_map: Mapping[str, str] = field(default_factory=dict[str, str])  # prefixes here -> on the node
    shared: bool = True  # the node has the jobs' directory; else each attempt has a volume there
    fetch_s: float = 300.0  # between two looks for new checkpoints in it


def body(launch: Launch, template: Template) -> dict[str, Any]:
    """What `POST /containers/create` is given."""
    made: dict[str, Any] = {
        "Image": launch.image or template.image,
        "Entrypoint": argv(launch, template),
        "Cmd": [],
        "Env": [f"{name}={value}" for name, value in environment(launch).items()],
        "WorkingDir": str(launch.cwd or launch.directory),
        "User": template.user,
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_TIMEOUT_S,
        "HostConfig": _host(launch, template),
    }
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    return {**made, "Labels": labels(launch.ref, digest)}


def argv(launch: Launch, template: Template) -> list[str]:
    """A training is started by the image's Python, whatever the broker's own is."""
    if launch.config is not None:
        return [template.python, "-m", "trainer", str(launch.config)]
    return list(launch.argv)


def environment(launch: Launch) -> dict[str, str]:
    """Without GPUs an image that asks for all of them (most CUDA images do) gets none."""
    gpus = ",".join(launch.gpus)
    ours = {"CUDA_VISIBLE_DEVICES": gpus, **({} if gpus else {"NVIDIA_VISIBLE_DEVICES": "void"})}
    return {"HOME": "/tmp", "PYTHONUNBUFFERED": "1", **launch.env, **ours}


def labels(ref: AttemptRef, digest: str) -> dict[str, str]:
    return {
        BROKER_LABEL: ref.broker_id,
        JOB_LABEL: str(ref.job_id),
        FENCE_LABEL: str(ref.fence),
        SPEC_LABEL: digest,
    }


def ref_of(found: Mapping[str, str] | None) -> AttemptRef | None:
    """The attempt that a container's labels name."""
    found = found or {}
    job, fence = found.get(JOB_LABEL, ""), found.get(FENCE_LABEL, "")
    if not (job.isdecimal() and fence.isdecimal() and BROKER_LABEL in found):
        return None
    return AttemptRef(found[BROKER_LABEL], int(job), int(fence))


def on_node(path: Path, path_map: Mapping[str, str]) -> str:
    """Where the node has what is `path` here: by the longest prefix that is mapped, else the same."""
    pure = PurePosixPath(path)
    for prefix in sorted(path_map, key=lambda each: len(PurePosixPath(each).parts), reverse=True):
        if pure.is_relative_to(prefix):
            return str(PurePosixPath(path_map[prefix]) / pure.relative_to(prefix))
    return str(pure)


def _host(launch: Launch, template: Template) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Init": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,size={template.tmp_mib}m,mode=1777"},
        "NetworkMode": launch.network or template.network,
        "IpcMode": "private",
        "ShmSize": template.shm_mib * _MIB,
        "PidsLimit": template.pids,
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": f"{template.log_mib}m", "max-file": str(_LOG_FILES)},
        },
        "Mounts": _mounts(launch, template),
    }
    if launch.cpus:
        host["NanoCpus"] = int(launch.cpus * 1e9)
    if launch.memory_mib:
        host["Memory"] = host["MemorySwap"] = launch.memory_mib * _MIB
    if launch.gpus:
        host["DeviceRequests"] = [{"Driver": "", "DeviceIDs": list(launch.gpus), "Capabilities": [["gpu"]]}]
    return host


def _mounts(launch: Launch, template: Template) -> list[dict[str, Any]]:
    """Everything lies where the broker has it. The daemon mounts the shortest paths first: a job may write in its
    attempt's directory, and read what lies beside it."""
    directory = launch.directory
    if not template.shared:
        options = {"NoCopy": True, "Labels": labels(launch.ref, "")}
        own = {"Type": "volume", "Source": launch.ref.name, "Target": str(directory.parent), "VolumeOptions": options}
        return [own, *read_only(template)]
    return [_bind(directory.parent, template), _bind(directory, template, writable=True), *read_only(template)]


def read_only(template: Template) -> list[dict[str, Any]]:
    """What everything of ours on the node may read."""
    return [_bind(folder, template) for folder in template.reads]


def _bind(path: Path, template: Template, *, writable: bool = False) -> dict[str, Any]:
    source = on_node(path, template.path_map)
    return {"Type": "bind", "Source": source, "Target": str(path), "ReadOnly": not writable}
