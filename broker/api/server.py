"""uvicorn, as part of a process that handles signals itself."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

GRACE_S = 2  # for answers that are being given when the server ends


MESSAGE_BYTES = 1 << 20


def _websocket(*arguments: Any, **more: Any) -> asyncio.Protocol:
    """Brought along by the first who wants one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(*arguments, **more)


class Server(uvicorn.Server):
    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws=_websocket,  # pyright: ignore[reportArgumentType]
                ws_max_size=MESSAGE_BYTES,
                ws_ping_timeout=None,  # who reads slowly answers late; TCP tells of who has gone
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
