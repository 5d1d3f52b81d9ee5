"""Where the sandboxes of a data directory keep what is theirs, and the file that tells the broker of them.

sandboxes.toml            the nodes, as the broker reads them
sandboxes/engine          address of the host's engine that they were raised on
sandboxes/authority/      certificate authority, and the broker's client certificate
sandboxes/<name>/         sandbox.json: as it was asked for; server/: its certificate, mounted into it
"""

import fcntl
import json
import os
import tomllib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from dind import certificates
from dind.engine import DEFAULT
from dind.errors import SandboxError
from dind.spec import NAMES, Sandbox, path_map, wanted

REGISTRY = "sandboxes.toml"
_HEAD = "# Written by `wyolo sandbox up` and `down`. A node of the same name in wyolo.toml goes before one here.\n"


class Home:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "sandboxes"
        self.authority = self.folder / "authority"
        self.jobs = data_dir / "jobs"
        self.registry = data_dir / REGISTRY

    def prepare(self) -> None:
        """Raises SandboxError where it cannot be written."""
        try:
            for folder in (self.data_dir, self.folder, self.jobs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            certificates.ensure_authority(self.authority)
        except OSError as error:
            raise SandboxError(
                f"{self.data_dir} cannot be written ({error.strerror}); nothing was started",
                "name another with --data-dir, or make room there",
            ) from error

    def engine(self, given: str | None = None) -> str:
        """Address of the host's engine: what was given, where they were raised, DOCKER_HOST, Docker's own."""
        raised = self.folder / "engine"
        kept = raised.read_text().strip() if raised.is_file() else ""
        return given or kept or os.environ.get("DOCKER_HOST") or DEFAULT

    def keep_engine(self, url: str) -> None:
        write(self.folder / "engine", url + "\n")

    def names(self) -> list[str]:
        """Of the sandboxes that were raised here, the three of the port map first."""
        found = {path.parent.name for path in self.folder.glob("*/sandbox.json")}
        return [name for name in NAMES if name in found] + sorted(found - set(NAMES))

    def sandbox(self, name: str) -> Sandbox:
        """As it was asked for, or as it is where nobody has. Raises SandboxError."""
        path = self._record(name)
        try:
            return Sandbox.model_validate_json(path.read_bytes()) if path.is_file() else wanted(name)
        except ValidationError as error:
            raise SandboxError(f"{path} cannot be read: {error.errors()[0]['msg']}", "remove it") from error

    def keep(self, sandbox: Sandbox) -> None:
        write(self._record(sandbox.name), sandbox.model_dump_json(indent=2) + "\n")

    def forget(self, name: str) -> None:
        """Its certificate and what was asked for. Idempotent."""
        folder = self.folder / name
        for path in (*folder.glob("server/*"), self._record(name)):
            path.unlink(missing_ok=True)
        for empty in (folder / "server", folder):
            if empty.is_dir():
                empty.rmdir()

    def certify(self, sandbox: Sandbox) -> Path:
        """The folder with the sandbox's own certificate."""
        folder = self.folder / sandbox.name / "server"
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        hosts = ("localhost", "127.0.0.1", sandbox.container)
        certificates.ensure_server(self.authority, folder, sandbox.container, hosts)
        return folder

    def registered(self) -> dict[str, dict[str, Any]]:
        """Node name -> its table. Raises SandboxError where a person has made it unreadable."""
        if not self.registry.is_file():
            return {}
        try:
            tables = cast(list[dict[str, Any]], tomllib.loads(self.registry.read_text()).get("nodes", []))
            return {str(table["name"]): table for table in tables}
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise SandboxError(f"{self.registry} cannot be read: {error}", "remove it, and raise them again") from error

    def register(self, sandbox: Sandbox, port: int) -> None:
        self._register(sandbox.container, self.node(sandbox, port))

    def withdraw(self, sandbox: Sandbox) -> None:
        self._register(sandbox.container, None)

    def node(self, sandbox: Sandbox, port: int) -> dict[str, Any]:
        """What the broker needs to know of it."""
        return {
            "name": sandbox.container,
            "engine": "docker",
            "url": f"tcp://127.0.0.1:{port}",
            "tls": str(self.authority),
            "cpus": sandbox.cpus,
            "memory_mib": sandbox.memory_mib,
            "gpus": sandbox.gpus if isinstance(sandbox.gpus, str) else list(sandbox.gpus),
            "reads": [str(folder) for folder in sandbox.data],
            "labels": {"sandbox": sandbox.name},
            "host": self.engine(),
            "container": sandbox.container,
            "path_map": path_map(sandbox, self.jobs),
        }

    def _record(self, name: str) -> Path:
        return self.folder / name / "sandbox.json"

    def _register(self, name: str, table: Mapping[str, Any] | None) -> None:
        with self._locked():
            tables = self.registered()
            before = dict(tables)
            if table is None:
                tables.pop(name, None)
            else:
                tables[name] = dict(table)
            if tables != before:
                write(self.registry, _HEAD + "".join(f"\n{toml(tables[key], 'nodes')}" for key in sorted(tables)))

    @contextmanager
    def _locked(self) -> Generator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def toml(table: Mapping[str, Any], within: str = "") -> str:
    """A document, or one table of the array `within`; tables in it are of strings."""
    rows = [f"[[{within}]]"] if within else []
    rows += [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            inner = cast(dict[str, Any], value)
            name = f"{within}.{key}" if within else key
            rows += ["", f"[{name}]", *(f"{_value(each)} = {_value(text)}" for each, text in inner.items())]
    return "\n".join(rows) + "\n"


def _value(value: object) -> str:
    """Strings, numbers, booleans and lists of strings are written alike in JSON and TOML."""
    return json.dumps(value, ensure_ascii=False)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(mode)
    part.replace(path)
