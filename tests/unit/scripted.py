"""A server that answers each request with the next part of its script: what a broker would say, and how it fails."""

import asyncio
from types import TracebackType
from typing import Self

CUT = b""  # the connection ends before a byte of the answer has come


def answer(body: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def stream(*parts: str) -> bytes:
    """Server-sent events whose connection is then lost."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part.encode()), part.encode()) for part in parts)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


class Scripted:
    """`requests` are those that came, head and body. After the end of the script no connection is answered."""

    def __init__(self, *answers: bytes) -> None:
        self.requests = list[str]()
        self._answers = list(answers)
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            self.requests.append(head + body.decode())
            if self._answers:
                writer.write(self._answers.pop(0))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
