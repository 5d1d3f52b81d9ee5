"""What a sandbox is on the host's engine: its container, ports and mounts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGE = "wyolo-sandbox"
LABEL = "wyolo.sandbox"
NAMES = ("api", "environment", "media")
DOCKER_PORT = 2376
JOBS_INSIDE, DATA_INSIDE, WEIGHTS_INSIDE = "/wyolo/jobs", "/wyolo/data", "/wyolo/weights"

# What dockerd inside needs where --privileged is not to be had, or not wanted.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One sandbox. Limits of 0 are none."""

    name: str
    port: int = 0  # on the loopback; 0: any free one
    cpus: float = 0
    memory_mib: int = 0
    pids: int = 8192
    gpus: Sequence[str] | None = None  # UUIDs; None: no GPU
    privileged: bool = False
    jobs: Path | None = None  # writable
    data: dict[str, Path] = field(default_factory=dict[str, Path])  # name -> folder, read-only
    weights: Path | None = None  # read-only

    @property
    def container(self) -> str:
        return f"dind_{self.name}"

    @property
    def volume(self) -> str:
        return f"wyolo_dind_{self.name}"


def container(sandbox: Sandbox, certificates: Path, network: str) -> dict[str, Any]:
    """The body of the engine's `POST /containers/create`."""
    binds = [f"{sandbox.volume}:/var/lib/docker", f"{certificates}:/certs:ro"]
    if sandbox.jobs is not None:
        binds.append(f"{sandbox.jobs}:{JOBS_INSIDE}")
    binds += [f"{folder}:{DATA_INSIDE}/{name}:ro" for name, folder in sorted(sandbox.data.items())]
    if sandbox.weights is not None:
        binds.append(f"{sandbox.weights}:{WEIGHTS_INSIDE}:ro")
    host: dict[str, Any] = {
        "Binds": binds,
        "NetworkMode": network,
        "PortBindings": {f"{DOCKER_PORT}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(sandbox.port or "")}]},
        "RestartPolicy": {"Name": "unless-stopped"},
        "PidsLimit": sandbox.pids,
    }
    if sandbox.privileged:
        host["Privileged"] = True
    else:
        host["CapAdd"] = list(CAPABILITIES)
        host["SecurityOpt"] = ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"]
        host["DeviceCgroupRules"] = ["a *:* rwm"]
    if sandbox.cpus:
        host["NanoCpus"] = int(sandbox.cpus * 1e9)
    if sandbox.memory_mib:
        host["Memory"] = sandbox.memory_mib * 1024 * 1024
    if sandbox.gpus is not None:
        host["DeviceRequests"] = [{"Driver": "", "DeviceIDs": list(sandbox.gpus), "Capabilities": [["gpu"]]}]
    return {
        "Image": IMAGE,
        "Hostname": sandbox.container,
        "Labels": {LABEL: sandbox.name},
        "ExposedPorts": {f"{DOCKER_PORT}/tcp": {}},
        "HostConfig": host,
    }
