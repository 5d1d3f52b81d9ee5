"""What an operator can set: flags > environment (WYOLO_...) > wyolo.toml > defaults.

docs/settings.md is what `python -m broker.settings` prints, and a test compares them: every field has a description.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from broker.setting_sources import Unreadable, default_config, read_toml, variable

SHORTEST_LEASE_S = 3.0  # of self-fencing: the last third of it is for saving
SECRET = frozenset({"redis_url"})  # what was given for these is not repeated
SANDBOXES_NAME = "sandboxes.toml"  # in the data directory; written by `wyolo sandbox`


def default_data_dir() -> Path:
    """$XDG_STATE_HOME/wyolo, else ~/.local/state/wyolo."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "wyolo"


Policy = Literal["spread", "pack", "least-loaded"]


class NodeSettings(BaseModel):
    """One place where jobs run."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")] = Field(
        default="local", description="the node's name"
    )
    engine: Literal["local", "docker"] = Field(
        default="local",
        description="how jobs run there: local = a process on this machine, docker = a container of a Docker daemon",
    )
    slots: int = Field(default=0, ge=0, description="jobs at a time; 0 = one per GPU, or one on a machine without GPUs")
    cpus: float = Field(default=0, ge=0, description="cores that jobs may plan for; 0 = all")
    memory_mib: int = Field(default=0, ge=0, description="memory in MiB that jobs may plan for; 0 = all")
    gpus: Literal["all", "none"] | list[str] = Field(
        "all", description="GPUs: all, none, or a list of UUIDs or indexes"
    )
    max_gpu: float = Field(
        default=1.0, gt=0, le=1, description="share of a GPU's memory that jobs may plan for (MAX_GPU)"
    )
    foreign_mib: int = Field(
        default=1024,
        ge=0,
        description="MiB of a GPU that processes which are not wyolo's may hold before they count: then no job gets it "
        "for itself, and what they hold goes to none that shares it",
    )
    labels: dict[str, str] = Field(
        default_factory=dict[str, str], description='labels that jobs may ask for (`resources.labels`): {zone = "lab"}'
    )
    url: str = Field(
        default="unix:///var/run/docker.sock",
        pattern=r"^(unix://(/[^/]+)+|tcp://[^/@]+:[0-9]+|ssh://[^/]+)$",
        description="docker: the daemon, by unix://, tcp:// (with `tls`) or ssh://",
    )
    tls: Path | None = Field(default=None, description="docker, tcp://: folder with ca.pem, cert.pem and key.pem")
    ssh_config: Path | None = Field(
        default=None, description="docker, ssh://: configuration file for ssh; none = this user's own"
    )
    image: str = Field(default="wyolo-trainer", min_length=1, description="docker: image of the jobs' containers")
    images: list[str] = Field(
        default_factory=list[str],
        description="docker: images that jobs may name instead (`extras.image`), as patterns: ghcr.io/us/*",
    )
    pull: bool = Field(
        default=True, description="docker: images that are missing and whose names say from where are pulled"
    )
    python: str = Field(default="python3", min_length=1, description="docker: the image's Python that has Ultralytics")
    user: str = Field(
        default="",
        pattern=r"^([1-9][0-9]*:[1-9][0-9]*)?$",
        description="docker: uid:gid of the jobs; empty = the broker's, or 65534:65534 where that is root",
    )
    network: str = Field(default="none", description="docker: network of the jobs' containers; none = no network")
    networks: list[str] = Field(
        default_factory=list[str], description="docker: networks that jobs may ask for (`extras.network`): bridge"
    )
    shm_mib: int = Field(default=1024, ge=1, description="docker: /dev/shm in MiB, which workers share images through")
    tmp_mib: int = Field(default=1024, ge=1, description="docker: /tmp in MiB, kept in memory")
    pids: int = Field(default=4096, ge=16, description="docker: most processes and threads of one job")
    daemon_log_mib: int = Field(
        default=1024, ge=16, description="docker: MiB after which the daemon turns a job's log over"
    )
    host: str = Field(
        default="",
        pattern=r"^(unix://(/[^/]+)+)?$",
        description="docker, a sandbox: the daemon that its own container runs on, and that knows if it has ended with "
        "all that ran in it; `wyolo sandbox up` writes it",
    )
    container: str = Field(default="", description="docker, a sandbox: that container's name")
    self_fencing_s: float = Field(
        default=0,
        ge=0,
        description="docker: seconds without contact to the broker after which a training there has left by itself, "
        "and is gone on with elsewhere; 0 = never: it is unknown until its daemon answers or a person resolves it",
    )
    reads: list[Path] = Field(
        default_factory=list[Path],
        description="docker: folders that jobs may read, at their own paths; empty = `allowed_roots`",
    )
    path_map: dict[str, str] = Field(
        default_factory=dict[str, str], description="docker: prefixes of the broker's paths and where the node has them"
    )
    shared: bool | None = Field(
        default=None,
        description="docker: whether the node has the jobs' directory; none = where its daemon is on this machine, or "
        "`path_map` says where it lies there. Else files are copied to and fro",
    )
    fetch_minutes: float = Field(
        default=5.0, gt=0, description="docker, not shared: minutes between two copies of a job's checkpoints"
    )

    @property
    def here(self) -> bool:
        """Its daemon, or itself, runs on this machine."""
        address = self.url.partition("://")[2].rpartition("@")[2]
        return self.engine == "local" or self.url.startswith("unix://") or _host(address) in _LOOPBACK

    def shares(self, jobs_dir: Path) -> bool:
        """What an attempt writes lies in the broker's own jobs' directory."""
        if self.engine == "local" or self.shared is not None:
            return self.shared is not False
        return self.here or any(jobs_dir.is_relative_to(prefix) for prefix in self.path_map)

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.engine == "docker" and self.url.startswith("tcp://") and self.tls is None:
            raise ValueError(f"node {self.name}: tcp:// needs `tls`, a folder with ca.pem, cert.pem and key.pem")
        return self

    @model_validator(mode="after")
    def _time_to_save(self) -> Self:
        if 0 < self.self_fencing_s < SHORTEST_LEASE_S:
            raise ValueError(f"node {self.name}: self_fencing_s must be 0 or at least {SHORTEST_LEASE_S:g}")
        return self


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


def _host(address: str) -> str:
    """Of host, host:port and host/path."""
    plain = address.partition("/")[0]
    return plain if plain.endswith("]") else plain.rpartition(":")[0] or plain


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="WYOLO_", env_nested_delimiter="__", extra="forbid")
    from_file: ClassVar[Mapping[str, Any]] = {}

    data_dir: Path = Field(
        default_factory=default_data_dir, description="ledger, jobs, key, embedded Redis; private (0700)"
    )
    host: str = Field(default="127.0.0.1", description="address the API listens on")
    port: int = Field(default=23450, ge=0, le=65535, description="port the API listens on; 0 = any free one")
    redis_url: SecretStr | None = Field(default=None, description="an existing Redis; none = the broker starts its own")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="how much broker.log says"
    )
    nodes: list[NodeSettings] = Field(
        default_factory=lambda: [NodeSettings.model_validate({})], description="where jobs run"
    )
    placement: Policy = Field(
        default="spread",
        description="which of the nodes that fit a job gets: spread = the one with most slots free, so that one which "
        "fails takes few jobs with it; pack = the fullest, so that whole nodes stay free for large jobs; "
        "least-loaded = the one whose cores, memory and GPUs are least taken, by what jobs plan for and by measurement",
    )
    path_map: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="prefixes in configurations and where they are here: /datasets = /mnt/data",
    )
    allowed_roots: list[Path] = Field(
        default_factory=list[Path],
        description="folders that data sets and models must lie in; empty = anywhere this user can read",
    )
    weights_dir: Path | None = Field(
        default=None, description="folder with model weights, looked in before any download"
    )
    offline: bool = Field(default=False, description="trainings never try to download anything")
    trainer_python: str | None = Field(default=None, description="Python that has Ultralytics; none = the broker's own")
    grace_s: float = Field(default=60.0, ge=0, description="seconds between SIGTERM and SIGKILL when a job is stopped")
    max_infra_deaths: int = Field(default=3, ge=1, description="interrupted attempts before a job waits for a person")
    backoff_s: float = Field(
        15.0, ge=0, description="first wait before an interrupted job is tried again; doubles, at most 600"
    )
    preflight: bool = Field(default=True, description="check data sets when a job is submitted")
    preflight_images: int = Field(
        2000, ge=0, description="images of a data set that are opened by the preflight; 0 = none"
    )
    log_keep_mib: int = Field(default=512, ge=1, description="most MiB that one attempt may write to its log")
    keep_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        description="days that the files of a job (log, checkpoints, results) are kept after its end; what was written "
        "down of it, curves too, stays for ever. Not removed while a job that has not ended names one of them. 0 = for "
        "ever",
    )
    idempotency_days: float = Field(default=7.0, gt=0, description="days an Idempotency-Key is remembered")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, InitSettingsSource(settings_cls, dict(cls.from_file))

    @field_validator("nodes")
    @classmethod
    def _named_apart(cls, nodes: list[NodeSettings]) -> list[NodeSettings]:
        for name, count in Counter(node.name for node in nodes).items():
            if count > 1:
                raise ValueError(f"{count} nodes are called `{name}`: give each a name of its own")
        return nodes


def load(config: Path | None, **flags: Any) -> Settings:
    """Settings from flags that are not None, the environment, the file and the defaults, in that order.

    Raises pydantic.ValidationError; Unreadable for what is no TOML or JSON at all.
    """
    config = config or default_config()

    class _WithFile(Settings):
        from_file = {} if config is None else read_toml(config)

    try:
        found = _WithFile(**{name: value for name, value in flags.items() if value is not None})
    except SettingsError as error:
        name = re.search(r'field "(\w+)"', str(error))
        raise Unreadable(
            f"{variable(name[1]) if name else 'the environment'}: is not JSON: {error.__cause__}"
        ) from error
    found.data_dir = found.data_dir.expanduser().absolute()
    named = {node.name for node in found.nodes}
    found.nodes = [*found.nodes, *(node for node in sandboxes(found.data_dir) if node.name not in named)]
    return found


def sandboxes(data_dir: Path) -> list[NodeSettings]:
    """Nodes that `wyolo sandbox up` has raised. Raises Unreadable."""
    path = data_dir / SANDBOXES_NAME
    if not path.is_file():
        return []
    try:
        return _Registered.model_validate(read_toml(path)).nodes
    except ValidationError as error:
        raise Unreadable(f"{path}: {error}: wyolo sandbox up writes it anew") from error


class _Registered(BaseModel):
    nodes: list[NodeSettings] = Field(default_factory=list[NodeSettings])


class Described(NamedTuple):
    name: str
    env: str  # "" where only the file can say it
    default: str
    description: str


def described(model: type[BaseModel] = Settings, prefix: str = "WYOLO_") -> Iterator[Described]:
    """Each setting as documentation shows it."""
    for name, field in model.model_fields.items():
        default: Any = _DEFAULTS.get(name, field.get_default(call_default_factory=True, validated_data={}))
        shown = default if isinstance(default, str) and name in _DEFAULTS else json.dumps(default, default=str)
        env = f"{prefix}{name}".upper() if prefix else ""
        yield Described(name, env, "none" if shown == "null" else shown, field.description or "")


_DEFAULTS = {
    "data_dir": "$XDG_STATE_HOME/wyolo or ~/.local/state/wyolo",
    "nodes": "one local node",
}  # as they are said where they depend on the machine


def reference() -> str:
    """docs/settings.md."""
    rows = [f"| `{s.name}` | `{s.env}` | {_cell(s.default)} | {s.description} |" for s in described()]
    node_rows = [f"| `{s.name}` | {_cell(s.default)} | {s.description} |" for s in described(NodeSettings, "")]
    return "\n".join([_HEAD, *rows, _NODES, *node_rows, ""])


def _cell(default: str) -> str:
    return default if default in {*_DEFAULTS.values(), "none"} else f"`{default}`"


_HEAD = """\
# Settings of the broker

A flag (`wyolo broker --port 0`) goes before the environment (`WYOLO_PORT=0`), the environment before the file
(`port = 0`), the file before the default. The file is `--config`, else `$WYOLO_CONFIG`, else
`~/.config/wyolo/wyolo.toml`. Flags: `--config`, `--data-dir`, `--host`, `--port`, `--redis-url`, `--log-level`. In the
environment, lists and tables are JSON: `WYOLO_PATH_MAP='{"/datasets": "/mnt/data"}'`. What is wrong ends the start with
exit code 2 and a line that says which flag, variable or file it is; a variable that only looks like one of these is
warned of.

This page is what `python -m broker.settings` prints.

| setting | environment | default | what it says |
|---|---|---|---|"""

_NODES = """
## Nodes

Each `[[nodes]]` table of the file is one place where jobs run:

```toml
[[nodes]]
name = "local"
slots = 2
gpus = ["0", "1"]
```

Sandboxes that `wyolo sandbox up` raises are nodes too, from `sandboxes.toml` in the data directory; a table here of the
same name goes before one there. `nodes = []` leaves only those.

| setting | default | what it says |
|---|---|---|"""

if __name__ == "__main__":
    print(reference(), end="")
