"""The way to one Docker daemon: each call with a limit of its own, each failure as what it is.

`EngineUnreachable` when nobody can be believed, `Refused` when the daemon itself says no.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from broker.engines.docker_errors import Refused, unreachable
from broker.engines.docker_hijack import Hijacked, Way
from broker.engines.docker_ssh import Tunnel
from broker.errors import EngineError, EngineUnreachable

QUICK_S = 10.0  # for questions
FRESH_S = 0.5  # an answer as old as this still says that it answers
SLOW_S = 60.0  # for making and starting a container on a busy machine
OLDEST_API = (1, 41)
READ_BYTES = 1 << 20  # buffered of a stream
_TLS_PORT = 2376
_ROOT_NETWORK = "none"  # made with a daemon's data, never removed: its id tells them from others
_FROM_ABOVE = frozenset({502, 503, 504})  # a proxy's words, not the daemon's


class Link:
    """Opened by the first call, in a running loop. `url`: unix://, tcp:// with `tls`, a folder with ca.pem, cert.pem
    and key.pem, or ssh:// with `ssh_config`, where it is not the user's own."""

    def __init__(self, node: str, url: str, tls: Path | None = None, ssh_config: Path | None = None) -> None:
        self.node = node
        self._url = url
        self._tls = tls
        self._tunnel = Tunnel(node, url, ssh_config) if url.startswith("ssh://") else None
        self._docker: Docker | None = None
        self._streams: aiohttp.ClientSession | None = None
        self._root = ""
        self._asking = asyncio.Lock()
        self._heard_at = float("-inf")  # when the newest question that was answered was asked

    async def close(self) -> None:
        if self._streams is not None:
            await self._streams.close()
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()
            await docker.connector.close()
        if self._tunnel is not None:
            await self._tunnel.close()

    # --- who answers ---

    async def root(self, *, afresh: bool = False) -> str:
        """Whose data the daemon has: `<id of the daemon>/<id of its data>`. Asked again after each loss of contact.

        The id of `/info` alone is the machine's on older daemons: it stays when the data are lost."""
        if afresh or not self._root:
            info = await self.info()
            network = await self._told(f"networks/{_ROOT_NETWORK}")
            self._root = f"{info['ID']}/{network['Id'][:32]}"
        return self._root

    def doubt(self) -> None:
        """A connection ended: whoever answers the next one is asked who it is."""
        self._root = ""

    async def info(self) -> Mapping[str, Any]:
        info = await self._told("info")
        assert self._docker is not None
        spoken = tuple(int(part) for part in self._docker.api_version.lstrip("v").split("."))
        if spoken < OLDEST_API:
            oldest = ".".join(map(str, OLDEST_API))
            raise EngineError(
                f"{self.node} speaks Docker's API {self._docker.api_version}, {oldest} is needed: update it"
            )
        return info

    async def ping(self) -> None:
        """The cheapest question: for `version` and `info` a daemon starts programs."""
        try:
            await self._ask("HEAD", "_ping", None, None, QUICK_S)
        except Refused as refused:
            raise unreachable(self.node, refused) from refused

    async def contact(self) -> None:
        """It has answered a moment ago, or does so now. One question for all who want to know."""
        async with self._asking:
            if self._now() - self._heard_at > FRESH_S:
                await self.ping()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # --- containers ---

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        """Its id. Raises Refused: 409 when the name is taken."""
        made = await self.post("containers/create", body, {"name": name}, SLOW_S)
        return made["Id"]

    async def start(self, container: str) -> None:
        await self.post(f"containers/{container}/start", limit_s=SLOW_S)

    async def signal(self, container: str, name: str) -> None:
        """True of one that has ended or is gone."""
        try:
            await self.post(f"containers/{container}/kill", params={"signal": name})
        except Refused as refused:
            if refused.status not in {404, 409}:
                raise

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        """None when there is none."""
        try:
            return await self.get(f"containers/{container}/json")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise unreachable(self.node, refused) from refused

    async def listed(self, label: str) -> list[Mapping[str, Any]]:
        """Running or not."""
        return await self._told("containers/json", {"all": "1", "filters": json.dumps({"label": [label]})})

    async def remove(self, container: str, *, force: bool = False) -> None:
        """With its anonymous volumes. True of one that is gone or going. Raises Refused (409: it runs)."""
        try:
            await self._ask(
                "DELETE", f"containers/{container}", {"v": "1", "force": "1" if force else "0"}, None, SLOW_S
            )
        except Refused as refused:
            if refused.status != 404 and "already in progress" not in refused.message:
                raise

    async def attach_exec(self, id: str, tty: bool) -> Hijacked:
        """What a program in a container reads and says; it is thereby started. Raises Refused."""
        async with self._asked(SLOW_S) as docker:
            path = f"/{docker.api_version}/exec/{id}/start"
            return await Hijacked.open(self._way(), path, {"Detach": False, "Tty": tty})

    # --- files ---

    async def put_archive(self, container: str, path: str, archive: AsyncIterator[bytes], size: int) -> None:
        """A tar of `size` bytes, unpacked in a folder of a container, running or not. Raises Refused."""
        loop = asyncio.get_running_loop()
        async with self._asked(None) as docker, asyncio.timeout(SLOW_S) as patience:

            async def pieces() -> AsyncIterator[bytes]:
                async for piece in archive:
                    patience.reschedule(loop.time() + SLOW_S)
                    yield piece

            async with docker.session.put(
                _url(docker, f"containers/{container}/archive"),
                params={"path": path},
                data=pieces(),
                headers={"Content-Type": "application/x-tar", "Content-Length": str(size)},
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                if response.status >= 400:
                    raise Refused(response.status, await _said(response))

    async def archive(self, container: str, path: str) -> AsyncGenerator[bytes, None]:
        """A file or folder of a container, as a tar. Raises Refused: there is none."""
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(SLOW_S) as patience,
            self.stream(f"containers/{container}/archive", {"path": path}, begins_s=SLOW_S) as content,
        ):
            async for data in content.iter_any():
                patience.reschedule(loop.time() + SLOW_S)
                yield data
                patience.reschedule(loop.time() + SLOW_S)

    async def stat(self, container: str, path: str) -> Mapping[str, Any] | None:
        """Of a path in a container: its size, mode and mtime. None when there is none."""
        async with (
            self._asked(QUICK_S) as docker,
            docker.session.head(_url(docker, f"containers/{container}/archive"), params={"path": path}) as response,
        ):
            found = response.headers.get("X-Docker-Container-Path-Stat", "")
            return json.loads(base64.b64decode(found)) if response.status < 400 and found else None

    async def has_volume(self, name: str) -> bool:
        try:
            await self.get(f"volumes/{name}")
        except Refused as refused:
            if refused.status == 404:
                return False
            raise unreachable(self.node, refused) from refused
        return True

    async def volumes(self, label: str) -> Sequence[Mapping[str, Any]]:
        found = await self._told("volumes", {"filters": json.dumps({"label": [label]})})
        return found["Volumes"] or ()

    async def remove_volume(self, name: str) -> None:
        """True of one that is gone. Raises Refused (409: a container has it)."""
        try:
            await self._ask("DELETE", f"volumes/{name}", None, None, SLOW_S)
        except Refused as refused:
            if refused.status != 404:
                raise

    # --- plain questions ---

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return await self._ask("GET", path, params, None, QUICK_S)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        limit_s: float = QUICK_S,
    ) -> Any:
        return await self._ask("POST", path, params, body, limit_s)

    async def _told(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """A daemon that cannot answer this is in no state to be believed."""
        try:
            return await self.get(path, params)
        except Refused as refused:
            raise unreachable(self.node, refused) from refused

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        post: bool = False,
        headers: Mapping[str, str] | None = None,
        begins_s: float = QUICK_S,
    ) -> AsyncGenerator[aiohttp.StreamReader]:
        """An answer that may take for ever; its headers may not."""
        async with self._asked(None) as docker:
            async with asyncio.timeout(begins_s):
                response = await self._streaming(docker).request(
                    "POST" if post else "GET",
                    _url(docker, path),
                    params=params,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
                    read_bufsize=READ_BYTES,
                )
            try:
                if response.status >= 400:
                    raise Refused(response.status, await _said(response))
                yield response.content
            finally:
                response.close()

    async def chunks(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        async with self.stream(path, params) as content:
            async for data in content.iter_any():
                yield data

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str] | None, body: Mapping[str, Any] | None, limit_s: float
    ) -> Any:
        asked_at = self._now()
        async with (
            self._asked(limit_s) as docker,
            docker.session.request(method, _url(docker, path), params=params, json=body) as response,
        ):
            if response.status >= 400:
                raise Refused(response.status, await _said(response))
            data = await response.read()
            self._heard_at = max(self._heard_at, asked_at)
            return json.loads(data) if data else None

    @asynccontextmanager
    async def _asked(self, limit_s: float | None) -> AsyncGenerator[Docker]:
        """Whatever goes wrong on the way is EngineUnreachable; then nothing that was known of the daemon counts."""
        try:
            async with asyncio.timeout(limit_s):
                yield await self._opened()
        except TimeoutError as error:
            self.doubt()
            raise unreachable(self.node, TimeoutError(f"it did not answer for {limit_s or QUICK_S:.0f} s")) from error
        except DockerError as error:
            if error.status < 900 and error.status not in _FROM_ABOVE:
                raise Refused(error.status, error.message) from error
            self.doubt()
            raise unreachable(self.node, error) from error
        except Refused as refused:
            if refused.status in _FROM_ABOVE:
                self.doubt()
                raise unreachable(self.node, refused) from refused
            raise
        except (aiohttp.ClientError, OSError, EOFError, ValueError) as error:
            self.doubt()
            raise unreachable(self.node, error) from error

    async def _opened(self) -> Docker:
        if self._tunnel is not None:
            await self._tunnel.ready()
        if self._docker is None:
            self._docker = self._open()
        if self._docker.api_version == "auto":
            await self._docker.version()  # finds out which API it speaks
        return self._docker

    def _streaming(self, docker: Docker) -> aiohttp.ClientSession:
        """By HTTP/1.0: by 1.1 a daemon sends each line of a log as a chunk of its own, which doubles the work here."""
        if self._streams is None or self._streams.closed:
            self._streams = aiohttp.ClientSession(
                connector=docker.connector, connector_owner=False, version=aiohttp.HttpVersion10
            )
        return self._streams

    def _open(self) -> Docker:
        way = self._way()
        if way.tls is None:
            return Docker(url="unix://localhost", connector=aiohttp.UnixConnector(way.path, limit=0))
        connector = aiohttp.TCPConnector(limit=0, ssl=way.tls)
        return Docker(url=f"https://{self._url.partition('://')[2]}", connector=connector)

    def _way(self) -> Way:
        """Raises EngineUnreachable: its certificates cannot be read."""
        if self._tunnel is not None:
            return Way(path=str(self._tunnel.socket))
        where = urlsplit(self._url)
        if where.scheme == "unix":
            return Way(path=self._url.partition("://")[2])
        return Way(host=where.hostname or "", port=where.port or _TLS_PORT, tls=_context(self.node, self._tls))


def _context(node: str, folder: Path | None) -> ssl.SSLContext:
    """Both sides show certificates. Raises EngineUnreachable: a folder may yet be filled."""
    if folder is None:
        raise EngineUnreachable(f"{node} is reached by tcp:// and has no `tls` folder: nothing is sent unencrypted")
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / "cert.pem"), str(folder / "key.pem"))
    except OSError as error:  # SSLError too
        raise EngineUnreachable(
            f"{node} has no usable ca.pem, cert.pem and key.pem in {folder} ({error.strerror or error})"
        ) from error
    return context


def _url(docker: Docker, path: str) -> str:
    return f"{docker.docker_host}/{docker.api_version}/{path}"


async def _said(response: aiohttp.ClientResponse) -> str:
    text = await response.text(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip() or str(response.reason)
