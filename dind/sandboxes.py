"""Raises sandboxes on a host's engine, says how they are, and removes them. Whatever is done twice is done once.

A sandbox is up when its own daemon answers us by TLS. None is replaced or removed while jobs run in it, unless told.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from dind import build, certificates
from dind.engine import Engine, Progress, Step, connected
from dind.errors import (
    EngineAway,
    JobsRunning,
    MissingPath,
    NoSandbox,
    NotOurs,
    SandboxError,
    Unhealthy,
    told,
)
from dind.home import Home
from dind.ports import DOCKER_INSIDE
from dind.spec import HOME_LABEL, LABEL, NETWORK, SPEC_LABEL, STOP_S, Sandbox, container

DEFAULT_BASE = "docker:dind"
DOCKERFILE = "Dockerfile"
HEALTHY_S = 60.0
_LOOK_S = 0.1
_LAST_WORDS = 15  # lines of a sandbox's log that are told when it does not come up


class State(BaseModel):
    """How a sandbox is. Where its own daemon answers, `version` and what follows say what that says."""

    model_config = ConfigDict(frozen=True)

    name: str
    container: str
    state: Literal["healthy", "starting", "unhealthy", "stopped", "absent", "foreign"]
    message: str = ""
    port: int = 0
    image: str = ""  # id
    outdated: bool = False  # raised from another image, or otherwise than it is wanted now
    gpus: str = "none"
    registered: bool = False  # the broker is told of it
    version: str = ""
    cpus: int = 0
    memory_mib: int = 0
    images: int = 0
    jobs: tuple[str, ...] = ()


async def ensure_image(
    engine: Engine, image: str, progress: Progress, *, base: str | None = None, afresh: bool = False
) -> str:
    """The id of the sandbox image: as it is there, or built. Raises NoImage, BuildFailed, DiskFull.

    `base`: what it is built on; None: what it was built on, docker:dind for a new one.
    """
    found = await build.inspect(engine, image) or {}
    files = {"entrypoint.sh": build.HERE / "entrypoint.sh"}
    on = base or build.label(found, build.BASE_LABEL) or DEFAULT_BASE
    recipe = build.Recipe(image, DOCKERFILE, files, {"BASE": on})
    if found and not afresh:
        made_of = build.label(found, build.CONTEXT_LABEL)
        if made_of in {"", recipe.digest()}:  # somebody else's is taken as it is
            return str(found["Id"])
    return str((await build.build(engine, recipe, progress, afresh=afresh))["Id"])


async def up(
    engine: Engine,
    home: Home,
    sandboxes: Sequence[Sandbox],
    progress: Progress,
    *,
    base: str | None = None,
    rebuild: bool = False,
    force: bool = False,
    patience_s: float = HEALTHY_S,
) -> dict[str, State | SandboxError]:
    """Name -> how it is now, or why it is not up: one that fails does not keep the others down.

    Raises SandboxError for what concerns them all.
    """
    await engine.info()
    for sandbox in sandboxes:
        _check_folders(sandbox)
    sandboxes = [
        sandbox if sandbox.port else sandbox.model_copy(update={"port": _free_port()}) for sandbox in sandboxes
    ]
    home.prepare()
    images = {
        image: await ensure_image(engine, image, progress, base=base, afresh=rebuild)
        for image in dict.fromkeys(sandbox.image for sandbox in sandboxes)
    }
    await _ensure_network(engine)
    home.keep_engine(engine.where)

    async def attempt(sandbox: Sandbox) -> State | SandboxError:
        try:
            await _raise(engine, home, sandbox, images[sandbox.image], progress, force=force, patience_s=patience_s)
        except SandboxError as error:
            return error
        return await inspect(engine, home, sandbox)

    outcomes = await asyncio.gather(*(attempt(sandbox) for sandbox in sandboxes))
    return {sandbox.name: outcome for sandbox, outcome in zip(sandboxes, outcomes, strict=True)}


async def inspect(engine: Engine, home: Home, sandbox: Sandbox) -> State:
    """How it is. Raises SandboxError when the host's engine cannot say."""
    found = await _found(engine, sandbox)
    known: dict[str, Any] = {"name": sandbox.name, "container": sandbox.container}
    known["registered"] = sandbox.container in home.registered()
    if found is None:
        return State(state="absent", **known)
    try:
        _ours(found, home, sandbox)
    except NotOurs as error:
        return State(state="foreign", message=f"{error}; {error.remedy}", **known)
    image = await build.inspect(engine, sandbox.image)
    known |= {
        "port": _port(found),
        "image": str(found["Image"]),
        "outdated": image is None or found["Config"]["Labels"].get(SPEC_LABEL) != _spec(home, sandbox, image["Id"]),
        "gpus": sandbox.gpus if isinstance(sandbox.gpus, str) else ", ".join(sandbox.gpus),
    }
    running = found["State"]
    if not running["Running"]:
        return State(state="stopped", message=f"it ended with code {running['ExitCode']}", **known)
    try:
        async with inside(home, sandbox, _port(found)) as daemon:
            about = await daemon.info()
            jobs = await daemon.running_jobs()
    except EngineAway as error:
        starting = running.get("Health", {}).get("Status") == "starting"
        return State(state="starting" if starting else "unhealthy", message=str(error), **known)
    except SandboxError as error:
        return State(state="unhealthy", message=f"{error}; {error.remedy}", **known)
    return State(
        state="healthy",
        version=about["ServerVersion"],
        cpus=about["NCPU"],
        memory_mib=about["MemTotal"] // 2**20,
        images=about["Images"],
        jobs=tuple(jobs),
        **known,
    )


async def down(
    engine: Engine,
    home: Home,
    sandboxes: Sequence[Sandbox],
    progress: Progress,
    *,
    force: bool = False,
    volumes: bool = False,
) -> dict[str, bool | SandboxError]:
    """Ends and removes them. Name -> whether there was one, or why it was left: JobsRunning (also where nobody can say
    whether jobs run), NotOurs. What is in them, images and ended containers, is kept unless `volumes`."""

    async def attempt(sandbox: Sandbox) -> bool | SandboxError:
        try:
            return await _lower(engine, home, sandbox, progress, force=force, volumes=volumes)
        except SandboxError as error:
            return error

    outcomes = await asyncio.gather(*(attempt(sandbox) for sandbox in sandboxes))
    using = engine.docker.containers.list(all=True, filters={"network": [NETWORK]})
    if not await engine.ask("list the sandboxes", using):
        network = await engine.find("find the network", engine.docker.networks.get(NETWORK))
        if network is not None:
            await engine.ask("remove the network", network.delete())
    return {sandbox.name: outcome for sandbox, outcome in zip(sandboxes, outcomes, strict=True)}


async def logs(
    engine: Engine, home: Home, sandbox: Sandbox, *, tail: int = 200, follow: bool = False
) -> AsyncIterator[str]:
    """Lines that its daemon has written. Raises NoSandbox, NotOurs, EngineAway."""
    found = await _found(engine, sandbox)
    if found is None:
        raise NoSandbox(f"there is no sandbox {sandbox.name} on {engine.where}")
    _ours(found, home, sandbox)
    async for line in _lines(engine, sandbox, tail, follow=follow):
        yield line


def inside(home: Home, sandbox: Sandbox, port: int) -> AbstractAsyncContextManager[Engine]:
    """Its own daemon, as the broker reaches it."""
    return connected(f"tcp://127.0.0.1:{port}", home.authority, sandbox.container)


async def _raise(
    engine: Engine,
    home: Home,
    sandbox: Sandbox,
    image_id: str,
    progress: Progress,
    *,
    force: bool,
    patience_s: float,
) -> None:
    body = _body(home, sandbox, image_id)
    found = await _found(engine, sandbox)
    if found is not None:
        _ours(found, home, sandbox)
        if found["Config"]["Labels"].get(SPEC_LABEL) != body["Labels"][SPEC_LABEL]:
            if found["State"]["Running"] and not force:
                await _refuse_with_jobs(home, sandbox, found, "was left as it is, though it is to be otherwise now")
            progress(Step(sandbox.name, "replacing"))
            await _remove(engine, sandbox)
            found = None
    if found is None:
        progress(Step(sandbox.name, "creating"))
        volume = {"Name": sandbox.volume, "Labels": {LABEL: sandbox.name, HOME_LABEL: str(home.data_dir)}}
        await engine.ask(f"make the volume {sandbox.volume}", engine.docker.volumes.create(volume))
        await engine.ask(f"create {sandbox.container}", engine.docker.containers.create(body, name=sandbox.container))
    if found is None or not found["State"]["Running"]:
        progress(Step(sandbox.name, "starting"))
        await _start(engine, sandbox)
    home.keep(sandbox)
    port = await _healthy(engine, home, sandbox, patience_s)
    home.register(sandbox, port)
    progress(Step(sandbox.name, "up", 1.0))


async def _lower(
    engine: Engine, home: Home, sandbox: Sandbox, progress: Progress, *, force: bool, volumes: bool
) -> bool:
    found = await _found(engine, sandbox)
    if found is not None:
        _ours(found, home, sandbox)
        if not force:
            await _refuse_with_jobs(home, sandbox, found, "was not removed")
        progress(Step(sandbox.name, "stopping"))
        await _remove(engine, sandbox)
    home.withdraw(sandbox)
    if volumes:
        removed = await engine.find(f"find {sandbox.volume}", engine.docker.volumes.get(sandbox.volume))
        if removed is not None:
            await engine.ask(f"remove {sandbox.volume}", removed.delete())
        home.forget(sandbox.name)
    return found is not None


def _body(home: Home, sandbox: Sandbox, image_id: str) -> dict[str, Any]:
    folder = home.certify(sandbox)
    made_of = (image_id, certificates.fingerprint(folder / certificates.SERVER))
    return container(sandbox, folder, home.jobs, str(home.data_dir), made_of)


def _spec(home: Home, sandbox: Sandbox, image_id: str) -> str:
    return str(_body(home, sandbox, image_id)["Labels"][SPEC_LABEL])


async def _start(engine: Engine, sandbox: Sandbox) -> None:
    made = engine.docker.containers.container(sandbox.container)
    try:
        await engine.ask(f"start {sandbox.container}", made.start())
    except SandboxError:
        await engine.ask(f"remove {sandbox.container} again", made.delete(force=True))
        raise


async def _healthy(engine: Engine, home: Home, sandbox: Sandbox, patience_s: float) -> int:
    """The port that its daemon answers on, once it does. Raises Unhealthy, WrongCertificate."""
    deadline = asyncio.get_running_loop().time() + patience_s
    last, restarts = "it has not answered yet", None
    while asyncio.get_running_loop().time() < deadline:
        found = await _found(engine, sandbox)
        if found is None:
            raise Unhealthy(f"{sandbox.container} was removed while it started")
        state = found["State"]
        restarts = found["RestartCount"] if restarts is None else restarts
        if not state["Running"] or state["Restarting"] or found["RestartCount"] > restarts:
            last = f"it ended with code {state['ExitCode']}"
            break
        try:
            async with inside(home, sandbox, _port(found)) as daemon:
                await daemon.info()
            return _port(found)
        except EngineAway as error:
            last = str(error)
        await asyncio.sleep(_LOOK_S)
    words = [line async for line in _lines(engine, sandbox, _LAST_WORDS, follow=False)]
    raise Unhealthy(
        f"{sandbox.container} does not come up: {last}\n" + "\n".join(f"  {line}" for line in words),
        f"all it says: wyolo sandbox logs {sandbox.name}; where this host forbids what it needs: --privileged",
    )


async def _refuse_with_jobs(home: Home, sandbox: Sandbox, found: Mapping[str, Any], kept: str) -> None:
    if not found["State"]["Running"]:
        return
    try:
        async with inside(home, sandbox, _port(found)) as daemon:
            jobs = await daemon.running_jobs()
    except SandboxError as error:
        raise JobsRunning(
            f"{sandbox.container} {kept}: nobody can say whether jobs run in it ({error})", "say --force if none does"
        ) from error
    if jobs:
        few = ", ".join(jobs[:3]) + (f" and {len(jobs) - 3} more" if len(jobs) > 3 else "")
        raise JobsRunning(f"{sandbox.container} {kept}: {few} running in it")


async def _remove(engine: Engine, sandbox: Sandbox) -> None:
    """Gently: its containers are asked to end, and have the time that a training needs to save."""
    old = engine.docker.containers.container(sandbox.container)
    await engine.ask(f"stop {sandbox.container}", old.stop(t=STOP_S), patience_s=STOP_S + 30)
    await engine.ask(f"remove {sandbox.container}", old.delete(force=True))


async def _found(engine: Engine, sandbox: Sandbox) -> dict[str, Any] | None:
    question = engine.docker.containers.container(sandbox.container).show()
    return cast(dict[str, Any] | None, await engine.find(f"look for {sandbox.container}", question))


def _ours(found: Mapping[str, Any], home: Home, sandbox: Sandbox) -> None:
    labels: dict[str, str] = found["Config"].get("Labels") or {}
    if labels.get(LABEL) != sandbox.name:
        raise NotOurs(
            f"there is a container {sandbox.container} that wyolo did not make; it was left alone",
            f"rename it (docker rename {sandbox.container} ...), or choose another name for the sandbox",
        )
    if labels.get(HOME_LABEL) != str(home.data_dir):
        raise NotOurs(
            f"{sandbox.container} belongs to the data directory {labels.get(HOME_LABEL)}; it was left alone",
            f"say --data-dir {labels.get(HOME_LABEL)}, or choose another name for the sandbox",
        )


def _port(found: Mapping[str, Any]) -> int:
    """Where its daemon is published; 0 while it is not."""
    ports: dict[str, list[dict[str, str]] | None] = found["NetworkSettings"].get("Ports") or {}
    bound = ports.get(f"{DOCKER_INSIDE}/tcp")
    return int(bound[0]["HostPort"]) if bound else 0


async def _ensure_network(engine: Engine) -> None:
    if await engine.find("find the network", engine.docker.networks.get(NETWORK)) is None:
        wanted = {"Name": NETWORK, "Driver": "bridge", "CheckDuplicate": True, "Labels": {LABEL: ""}}
        await engine.ask("make the network", engine.docker.networks.create(wanted))


async def _lines(engine: Engine, sandbox: Sandbox, tail: int, *, follow: bool) -> AsyncIterator[str]:
    source = engine.docker.containers.container(sandbox.container)
    with told(f"read the log of {sandbox.container}", engine.where):
        if not follow:
            said = "".join(await source.log(stdout=True, stderr=True, tail=tail))
            for line in said.splitlines():
                yield line
            return
        rest = ""
        async for piece in source.log(stdout=True, stderr=True, follow=True, tail=tail):
            *lines, rest = (rest + piece).split("\n")
            for line in lines:
                yield line


def _free_port() -> int:
    """Chosen here and kept: one that the engine chose would be another after each restart."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _check_folders(sandbox: Sandbox) -> None:
    for folder in (*sandbox.data, *([sandbox.weights] if sandbox.weights else [])):
        if not folder.is_absolute() or not folder.is_dir():
            raise MissingPath(f"the folder {folder} for sandbox {sandbox.name} does not exist; nothing was started")
