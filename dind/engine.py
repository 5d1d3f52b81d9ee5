"""A Docker daemon and the way to it: a socket on this machine, or TCP with certificates on both sides."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError

from dind import certificates
from dind.errors import EngineAway, SandboxError, WrongCertificate, told

ANSWER_S = 30.0  # for questions that take a daemon no work
DEFAULT = "unix:///var/run/docker.sock"


class Engine:
    """An open connection. `where` is how messages name it."""

    def __init__(self, docker: aiodocker.Docker, where: str) -> None:
        self.docker: Any = docker  # its annotations are too partial to be checked against
        self.where = where

    async def ask(self, doing: str, question: Awaitable[Any], patience_s: float = ANSWER_S) -> Any:
        """Its answer. Raises SandboxError."""
        with told(doing, self.where):
            async with asyncio.timeout(patience_s):
                return await question

    async def find(self, doing: str, question: Awaitable[Any]) -> Any | None:
        """None where it says that there is no such thing."""
        try:
            return await self.ask(doing, question)
        except SandboxError as error:
            if isinstance(error.__cause__, DockerError) and error.__cause__.status == 404:
                return None
            raise

    async def info(self) -> dict[str, Any]:
        return cast(dict[str, Any], await self.ask("ask how it is", self.docker.system.info()))

    async def running_jobs(self) -> list[str]:
        """Names of the job containers that run on it."""
        filters = {"label": ["wyolo.job"], "status": ["running", "paused", "restarting"]}
        found = await self.ask("list its jobs", self.docker.containers.list(filters=filters))
        return sorted(str(container["Names"][0]).removeprefix("/") for container in found)


@asynccontextmanager
async def connected(url: str, tls: Path | None = None, where: str = "") -> AsyncGenerator[Engine]:
    """To unix://, or tcp:// with the client's certificates in `tls`. Raises EngineAway, WrongCertificate."""
    connector, address = _way(url, tls)
    session = aiohttp.ClientSession(connector=connector)
    docker = aiodocker.Docker(url=address, connector=connector, session=session)
    try:
        yield Engine(docker, where or url)
    finally:
        await docker.close()
        await session.close()


def _way(url: str, tls: Path | None) -> tuple[aiohttp.BaseConnector, str]:
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        if not Path(rest).exists():
            raise EngineAway(f"there is no Docker daemon at {url}: no such socket")
        return aiohttp.UnixConnector(rest, limit=0), "unix://localhost"
    if scheme != "tcp" or not rest:
        raise EngineAway(f"{url!r} is no address of a Docker daemon", "unix:///path/docker.sock or tcp://host:2376")
    if tls is None:
        raise WrongCertificate(f"{url} is not spoken to without certificates", "name the folder that has them")
    return aiohttp.TCPConnector(ssl=_context(tls), limit=0), f"https://{rest}"


def _context(tls: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls / certificates.CA))
        context.load_cert_chain(tls / certificates.CLIENT, tls / certificates.CLIENT_KEY)
    except OSError as error:  # SSLError is one
        raise WrongCertificate(f"the certificates in {tls} cannot be used: {error}") from error
    return context


Progress = Callable[["Step"], None]


class Step:
    """How far something is. `share`: 0..1, or None where nobody can say."""

    def __init__(self, subject: str, doing: str, share: float | None = None) -> None:
        self.subject = subject
        self.doing = doing
        self.share = share


def silent(step: Step) -> None:
    """For those who do not want to know."""
