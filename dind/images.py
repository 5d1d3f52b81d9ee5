"""The image that trainings run in: built once, on the host's daemon, and brought from there to every node.

An image is the same on two daemons when its layers and its configuration are: ids differ between storage drivers.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dind import build
from dind.engine import Engine, Progress, Step, connected
from dind.errors import EngineRefused, MissingPath, NoImage, SandboxError, told

TRAINER = "wyolo-trainer"
DOCKERFILE = "trainer.Dockerfile"
DEFAULT_BASE = "python:3.12-slim-bookworm"
SOURCES = ("trainer", "broker/__init__.py", "broker/protocol")  # what runs in the container of ours
NEEDS = ("ultralytics", "pydantic", "pyyaml", "nvidia-ml-py")  # and what that imports
OVERRIDES = 'opencv-python ; sys_platform == "none"\n'  # it wants libGL; its headless twin does not
HEADLESS = "opencv-python-headless"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_PIECE = 1024 * 1024  # bytes
_STALLED_S = 300.0


@dataclass(frozen=True, slots=True)
class Where:
    """A node, as the broker's settings name it."""

    name: str
    url: str
    tls: Path | None = None


class Copy(BaseModel):
    """An image on a node."""

    model_config = ConfigDict(frozen=True)

    node: str
    image: str
    state: Literal["same", "other", "missing", "away", "unknown"]  # compared with the host's; unknown: that has none
    digest: str = ""
    id: str = ""
    size_mib: int = 0
    created: str = ""
    message: str = ""


def recipe(
    tag: str = TRAINER,
    *,
    base: str = DEFAULT_BASE,
    install: bool = True,
    ca: Path | None = None,
    weights: Path | None = None,
    arguments: Mapping[str, str] | None = None,
) -> build.Recipe:
    """The training image of this wyolo. `install`: False where the base brings Ultralytics. `ca`: PEM file that is
    trusted while packages are fetched. `weights`: folder whose .pt files are baked in. Raises MissingPath."""
    for path in (ca, weights):
        if path is not None and not path.exists():
            raise MissingPath(f"{path} does not exist; nothing was built")
    root = Path(__file__).parents[1]
    files: dict[str, bytes | Path] = {
        "ca.pem": ca or b"",
        "requirements.txt": "".join(f"{each}\n" for each in requirements()).encode() if install else b"",
        "overrides.txt": OVERRIDES.encode(),
        "settings.json": b'{"weights_dir": "/opt/wyolo/weights"}\n',
        "weights/.keep": b"",
    }
    for source in SOURCES:
        path = root / source
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                files[f"src/{file.relative_to(root)}"] = file
    for file in sorted(weights.glob("*.pt")) if weights is not None else []:
        files[f"weights/{file.name}"] = file
    proxies = {name: os.environ[name] for name in (*PROXIES, *map(str.lower, PROXIES)) if name in os.environ}
    return build.Recipe(tag, DOCKERFILE, files, {"BASE": base, **(arguments or {})}, proxies)


def requirements() -> list[str]:
    """As this wyolo's own package data pins them."""
    wanted = dict[str, str]()
    for line in metadata.requires("wyolo") or []:
        requirement = line.partition(";")[0].strip()
        name = requirement.split("[")[0].rstrip("<>=!~.,0123456789 ").lower()
        if name in NEEDS:
            wanted[name] = requirement
    return [wanted.get(name, name) for name in NEEDS] + [HEADLESS]


async def make(engine: Engine, wanted: build.Recipe, progress: Progress, *, afresh: bool = False) -> tuple[Copy, bool]:
    """The image as it is on the host now, and whether it had to be built. Raises BuildFailed, NoImage, DiskFull."""
    found = await build.inspect(engine, wanted.tag)
    digest = await asyncio.to_thread(wanted.digest)
    if not afresh and found is not None and build.label(found, build.CONTEXT_LABEL) == digest:
        return _copy("host", wanted.tag, found, found), False
    built = await build.build(engine, wanted, progress, afresh=afresh)
    return _copy("host", wanted.tag, built, built), True


async def push(
    engine: Engine, nodes: Sequence[Where], image: str, progress: Progress, *, registry: str | None = None
) -> dict[str, tuple[Copy, bool] | SandboxError]:
    """Node -> the image there, and whether it had to be brought; or why it is not there. All nodes at a time.

    `registry`: host/name that it is pushed to and pulled from; None: streamed from daemon to daemon. Raises NoImage
    where the host has none such, EngineAway.
    """
    ours = await _ours(engine, image)
    if registry is not None:
        await _to_registry(engine, image, registry, progress)

    async def attempt(where: Where) -> tuple[Copy, bool] | SandboxError:
        try:
            async with connected(where.url, where.tls, where.name) as node:
                theirs = await build.inspect(node, image)
                if theirs is not None and digest(theirs) == digest(ours):
                    return _copy(where.name, image, theirs, ours), False
                if registry is None:
                    await _stream(engine, node, image, int(ours["Size"]), progress)
                else:
                    await _from_registry(node, image, registry, progress)
                theirs = await build.inspect(node, image)
                if theirs is None or digest(theirs) != digest(ours):
                    raise EngineRefused(f"{where.name} took {image} and has another one now", "push it again")
                progress(Step(where.name, f"has {image}", 1.0))
                return _copy(where.name, image, theirs, ours), True
        except SandboxError as error:
            return error

    outcomes = await asyncio.gather(*(attempt(where) for where in nodes))
    return {where.name: outcome for where, outcome in zip(nodes, outcomes, strict=True)}


async def status(engine: Engine, nodes: Sequence[Where], image: str) -> list[Copy]:
    """The image on the host, and on each node. Raises EngineAway for the host's daemon alone."""
    ours = await build.inspect(engine, image)

    async def look(where: Where) -> Copy:
        try:
            async with connected(where.url, where.tls, where.name) as node:
                return _copy(where.name, image, await build.inspect(node, image), ours)
        except SandboxError as error:
            return Copy(node=where.name, image=image, state="away", message=str(error))

    return [_copy("host", image, ours, ours), *await asyncio.gather(*(look(where) for where in nodes))]


def digest(found: Mapping[str, Any]) -> str:
    """Of what an image is, whatever daemon has it: sha256 over its layers and what it runs."""
    config: dict[str, Any] = found.get("Config") or {}
    runs = {key: config.get(key) for key in ("Entrypoint", "Cmd", "Env", "User", "WorkingDir", "Labels")}
    layers: dict[str, Any] = found.get("RootFS") or {}
    return "sha256:" + hashlib.sha256(json.dumps([layers.get("Layers"), runs], sort_keys=True).encode()).hexdigest()


def _copy(node: str, image: str, found: Mapping[str, Any] | None, ours: Mapping[str, Any] | None) -> Copy:
    if found is None:
        return Copy(node=node, image=image, state="missing")
    state = "unknown" if ours is None else "same" if digest(found) == digest(ours) else "other"
    return Copy(
        node=node,
        image=image,
        state=state,
        digest=digest(found),
        id=str(found["Id"]),
        size_mib=int(found["Size"]) // 2**20,
        created=str(found["Created"]),
    )


async def _ours(engine: Engine, image: str) -> dict[str, Any]:
    found = await build.inspect(engine, image)
    if found is None:
        raise NoImage(f"there is no image {image} on {engine.where}", "build it: wyolo images build")
    return found


async def _stream(engine: Engine, node: Engine, image: str, size: int, progress: Progress) -> None:
    """Half of an image is none: a daemon keeps what arrived whole."""
    loop = asyncio.get_running_loop()
    with told(f"bring {image} to {node.where}", node.where):
        async with asyncio.timeout(_STALLED_S) as patience:

            async def pieces() -> AsyncIterator[bytes]:
                sent = 0
                async with engine.docker.images.export_image(image) as content:
                    async for piece in content.iter_chunked(_PIECE):
                        sent += len(piece)
                        patience.reschedule(loop.time() + _STALLED_S)
                        progress(Step(node.where, f"receiving {image}", min(sent / max(size, 1), 0.99)))
                        yield piece

            async for line in node.docker.images.import_image(pieces(), stream=True):
                patience.reschedule(loop.time() + _STALLED_S)
                if said := str(line.get("status") or "").strip():
                    progress(Step(node.where, f"{said} {image}"))


async def _to_registry(engine: Engine, image: str, registry: str, progress: Progress) -> None:
    repo, tag = _reference(registry)
    await engine.ask(f"name {image} {registry}", engine.docker.images.tag(image, repo, tag=tag))
    with told(f"push {image} to {registry}", engine.where):
        async for line in engine.docker.images.push(repo, tag=tag, auth=_credentials(registry), stream=True):
            progress(Step(registry, str(line.get("status") or "pushing"), _share(line)))


async def _from_registry(node: Engine, image: str, registry: str, progress: Progress) -> None:
    repo, tag = _reference(registry)
    with told(f"pull {registry}", node.where):
        async for line in node.docker.images.pull(repo, tag=tag, auth=_credentials(registry), stream=True):
            progress(Step(node.where, str(line.get("status") or "pulling"), _share(line)))
    name, named = _reference(image)
    await node.ask(f"name it {image}", node.docker.images.tag(f"{repo}:{tag}", name, tag=named))


def _reference(image: str) -> tuple[str, str]:
    """ "host:5000/name:tag" -> ("host:5000/name", "tag")."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _share(line: Mapping[str, Any]) -> float | None:
    detail: dict[str, Any] = line.get("progressDetail") or {}
    return detail["current"] / detail["total"] if detail.get("total") and "current" in detail else None


def _credentials(registry: str) -> dict[str, str] | None:
    """As `docker login` keeps them."""
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        found = json.loads(path.read_text())["auths"][registry.partition("/")[0]]["auth"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {"auth": str(found)}
