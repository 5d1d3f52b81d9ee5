"""A Docker daemon behind mutual TLS on a loopback port, by a line that can be cut, frozen and mended."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from dind import certificates
from tests.containers.dockerd import Dockerd
from tests.waiting import until

_PORT = 2376  # in the daemon's own network namespace
_RELAY = """
import asyncio, sys
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def serve(reader, writer):
    inner = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))
async def main():
    await (await asyncio.start_unix_server(serve, sys.argv[1])).serve_forever()
asyncio.run(main())
"""


def flags(directory: Path) -> list[str]:
    """For a daemon with certificates in `directory`, where a client's are made too."""
    certificates.ensure_authority(directory / "client")
    certificates.ensure_server(directory / "client", directory / "server", "dockerd", ["127.0.0.1", "localhost"])
    server = directory / "server"
    return [
        f"--host=tcp://127.0.0.1:{_PORT}",
        *("--tlsverify", f"--tlscacert={server / certificates.CA}"),
        *(f"--tlscert={server / certificates.SERVER}", f"--tlskey={server / certificates.SERVER_KEY}"),
    ]


class Line:
    """`async with`: from a port of the loopback into the daemon's network namespace."""

    def __init__(self, dockerd: Dockerd) -> None:
        self._inner = dockerd.directory / "relay.sock"
        self._inner.unlink(missing_ok=True)  # of a line before this one
        command = ["nsenter", f"--net=/proc/{dockerd.pid}/ns/net", sys.executable, "-c", _RELAY]
        self._relay = subprocess.Popen([*command, str(self._inner), str(_PORT)])
        self._through = asyncio.Event()
        self._through.set()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await until(self._inner.exists, what="the relay")
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()
        self._relay.kill()
        self._relay.wait()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    async def cut(self) -> None:
        """Every connection ends, and new ones are refused."""
        if self._server is not None:
            self._server.close()
        self._through.set()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def mend(self) -> None:
        await self._listen()
        self._through.set()

    def freeze(self) -> None:
        """Nothing comes through, and nobody is told."""
        self._through.clear()

    def thaw(self) -> None:
        self._through.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._inner)
        both = {writer, far_writer}
        self._open |= both
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._open -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._through.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
