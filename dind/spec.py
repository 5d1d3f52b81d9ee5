"""What a sandbox is on the host's engine: its container, ports and mounts. Pure."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dind.ports import DOCKER_INSIDE, engine_port

IMAGE = "wyolo-sandbox"
NETWORK = "wyolo_sandboxes"
LABEL, HOME_LABEL, SPEC_LABEL = "wyolo.sandbox", "wyolo.home", "wyolo.spec"
NAMES = ("api", "environment", "media")
JOBS_INSIDE, DATA_INSIDE, WEIGHTS_INSIDE = "/wyolo/jobs", "/wyolo/data", "/wyolo/weights"
STOP_S = 120  # dockerd ends its containers first, and a training saves when it is told to end

# What dockerd inside needs where --privileged is not to be had, or not wanted.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")
SECURITY = ("seccomp=unconfined", "apparmor=unconfined")
DEVICES = ("a *:* rwm",)


class Sandbox(BaseModel):
    """One sandbox as a person wants it. Limits of 0 are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    image: str = IMAGE
    port: Annotated[int, Field(ge=0, le=65535)] = 0  # of its engine, on the loopback; 0: any free one
    cpus: Annotated[float, Field(ge=0)] = 0
    memory_mib: Annotated[int, Field(ge=0)] = 0
    pids: Annotated[int, Field(ge=0)] = 8192
    gpus: Literal["all", "none"] | tuple[str, ...] = "none"  # or UUIDs
    privileged: bool = False
    data: tuple[Path, ...] = ()  # read-only inside, below DATA_INSIDE
    weights: Path | None = None  # read-only
    dockerd: str = ""  # more arguments for the daemon inside

    @property
    def container(self) -> str:
        return f"dind_{self.name}"

    @property
    def volume(self) -> str:
        return f"wyolo_dind_{self.name}"


def wanted(name: str) -> Sandbox:
    """As it is where nobody has said otherwise."""
    return Sandbox(name=name, port=engine_port(name))


def path_map(sandbox: Sandbox, jobs: Path) -> dict[str, str]:
    """Where the host's folders are inside: prefix -> prefix."""
    inside = {str(jobs): JOBS_INSIDE} | {str(folder): f"{DATA_INSIDE}{folder}" for folder in sandbox.data}
    if sandbox.weights is not None:
        inside[str(sandbox.weights)] = WEIGHTS_INSIDE
    return inside


def container(sandbox: Sandbox, certificates: Path, jobs: Path, home: str, made_of: Sequence[str]) -> dict[str, Any]:
    """The body of the engine's `POST /containers/create`.

    `certificates`: the sandbox's own. `home`: the data directory that it belongs to. `made_of`: whatever else makes it
    another container when it changes, such as the image's id.
    """
    mounts: list[dict[str, Any]] = [
        {"Type": "volume", "Source": sandbox.volume, "Target": "/var/lib/docker"},
        _bind(certificates, "/certs", read_only=True),
        *(
            _bind(Path(host), inside, read_only=inside != JOBS_INSIDE)
            for host, inside in path_map(sandbox, jobs).items()
        ),
    ]
    host: dict[str, Any] = {
        "Mounts": mounts,
        "NetworkMode": NETWORK,
        "PortBindings": {f"{DOCKER_INSIDE}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(sandbox.port or "")}]},
        "RestartPolicy": {"Name": "unless-stopped"},
    }
    if sandbox.privileged:
        host["Privileged"] = True
    else:
        host["CapAdd"] = list(CAPABILITIES)
        host["SecurityOpt"] = list(SECURITY)
        host["DeviceCgroupRules"] = list(DEVICES)
    if sandbox.pids:
        host["PidsLimit"] = sandbox.pids
    if sandbox.cpus:
        host["NanoCpus"] = int(sandbox.cpus * 1e9)
    if sandbox.memory_mib:
        host["Memory"] = sandbox.memory_mib * 1024 * 1024
    if sandbox.gpus != "none":
        which = {"Count": -1} if sandbox.gpus == "all" else {"DeviceIDs": list(sandbox.gpus)}
        host["DeviceRequests"] = [{"Driver": "", "Capabilities": [["gpu"]], **which}]
    body: dict[str, Any] = {
        "Image": sandbox.image,
        "Hostname": sandbox.container,
        "Env": [f"WYOLO_DOCKERD_ARGS={sandbox.dockerd}"] if sandbox.dockerd else [],
        "ExposedPorts": {f"{DOCKER_INSIDE}/tcp": {}},
        "StopTimeout": STOP_S,
        "HostConfig": host,
    }
    whole = json.dumps([body, *made_of], sort_keys=True).encode()
    labels = {LABEL: sandbox.name, HOME_LABEL: home, SPEC_LABEL: hashlib.sha256(whole).hexdigest()[:16]}
    return body | {"Labels": labels}


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}
