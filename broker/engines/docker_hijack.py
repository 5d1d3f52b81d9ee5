"""A connection that a daemon hands over: HTTP at first, then bytes both ways, of which each may end alone.

The encryption is done here: asyncio's own cannot end one way of a TLS connection and go on hearing the other.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from broker.engines.docker_errors import Refused

READ_BYTES = 65_536
_HEAD_BYTES = 65_536  # more than any answer's headers
_FRAME = struct.Struct(">BxxxL")  # 1 (output) or 2 (errors), and how many bytes follow


@dataclass(frozen=True, slots=True)
class Way:
    """To a daemon: a socket's path, or a port and whom to believe there."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None


class Hijacked:
    """All raise OSError. One may read while another writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        self._reader = reader
        self._writer = writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = way.tls.wrap_bio(self._in, self._out, server_hostname=way.host) if way.tls is not None else None
        self._data = bytearray()  # heard and not asked for yet

    @classmethod
    async def open(cls, way: Way, path: str, body: Mapping[str, Any]) -> Self:
        """What a POST of `body` is answered with. Raises Refused besides."""
        if way.tls is None:
            reader, writer = await asyncio.open_unix_connection(way.path)
        else:
            reader, writer = await asyncio.open_connection(way.host, way.port)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made = cls(reader, writer, way)
        try:
            await made._ask(path, json.dumps(body).encode())
        except BaseException:
            writer.transport.abort()
            raise
        return made

    async def read(self) -> bytes:
        """What there is; b'' at the end."""
        if self._data or await self._hear():
            data = bytes(self._data)
            self._data.clear()
            return data
        return b""

    async def read_frame(self) -> tuple[int, bytes] | None:
        """Of a program without a terminal: 1 (output) or 2 (errors), and what was said. None at the end."""
        if not await self._has(_FRAME.size):
            return None
        stream, size = _FRAME.unpack_from(self._data)
        if not await self._has(_FRAME.size + size):
            return None
        data = bytes(self._data[_FRAME.size : _FRAME.size + size])
        del self._data[: _FRAME.size + size]
        return stream, data

    async def write(self, data: bytes) -> None:
        if self._tls is None:
            self._writer.write(data)
            await self._writer.drain()
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
            await self._flush()

    async def end(self) -> None:
        """There is no more to be written."""
        if self._tls is None:
            self._writer.write_eof()
            return
        with suppress(ssl.SSLWantReadError):  # all that has come is taken first: what stood there would be an error
            while data := self._tls.read(READ_BYTES):
                self._data += data
        with suppress(ssl.SSLError):  # it wants the other side to end too
            self._tls.unwrap()
        await self._flush()

    def close(self) -> None:
        self._writer.close()

    async def _ask(self, path: str, body: bytes) -> None:
        if self._tls is not None:
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._fill()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await self.write(head.encode() + body)
        while b"\r\n\r\n" not in self._data:
            if len(self._data) > _HEAD_BYTES or not await self._hear():
                raise ConnectionError("its answer is no HTTP")
        answer, _, rest = bytes(self._data).partition(b"\r\n\r\n")
        self._data = bytearray(rest)
        try:
            status = int(answer.split(None, 2)[1])
        except (IndexError, ValueError):
            raise ConnectionError("its answer is no HTTP") from None
        if status not in {101, 200}:
            raise Refused(status, await self._refusal(answer))

    async def _refusal(self, head: bytes) -> str:
        for name, _, value in (line.partition(b":") for line in head.lower().split(b"\r\n")):
            if name == b"content-length" and value.strip().isdigit():
                await self._has(min(int(value), _HEAD_BYTES))
        text = self._data.decode(errors="replace").strip()
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(text)["message"])
        return text

    async def _has(self, size: int) -> bool:
        while len(self._data) < size:
            if not await self._hear():
                return False
        return True

    async def _hear(self) -> bool:
        """More data, False at the end."""
        if self._tls is None:
            data = await self._reader.read(READ_BYTES)
            self._data += data
            return bool(data)
        while True:
            try:
                data = self._tls.read(READ_BYTES)
            except ssl.SSLWantReadError:
                before = len(self._data)
                await self._fill()
                if len(self._data) > before:  # `end` has taken it
                    return True
            except ssl.SSLZeroReturnError:
                return False
            else:
                self._data += data
                return bool(data)

    async def _fill(self) -> None:
        """More of what is encrypted."""
        await self._flush()
        if data := await self._reader.read(READ_BYTES):
            self._in.write(data)
        else:
            self._in.write_eof()

    async def _flush(self) -> None:
        if data := self._out.read():
            self._writer.write(data)
            await self._writer.drain()
