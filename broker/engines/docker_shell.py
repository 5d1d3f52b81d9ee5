"""A program at a terminal inside an attempt's container, for the person who asked for it."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from broker.engines.docker_errors import Refused
from broker.engines.docker_link import Link
from broker.errors import Conflict

SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi")
_GO_AWAY = b"\x03\x04"  # ctrl+c, end of file: a shell without its person ends
_TERM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.+-]{0,40}")


class DockerShell:
    """`read` first."""

    def __init__(self, link: Link, id: str, stream: Any, tty: bool) -> None:
        self._link = link
        self._id = id
        self._stream = stream
        self._tty = tty

    @classmethod
    async def open(
        cls, link: Link, container: str, argv: Sequence[str], *, directory: str, term: str, tty: bool
    ) -> "DockerShell":
        """As the job itself: its user, its limits. Raises Conflict, EngineUnreachable."""
        body = {
            "AttachStdin": tty,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "Cmd": list(argv or SHELL),
            "WorkingDir": directory,
            "Env": [f"TERM={term}"] if _TERM.fullmatch(term) else [],
        }
        try:
            made: dict[str, Any] = await link.post(f"containers/{container}/exec", body)
            return cls(link, made["Id"], await link.attach_exec(made["Id"], tty), tty)
        except Refused as refused:
            raise Conflict(f"nothing can be opened in its container: {refused.message}") from refused

    async def read(self) -> tuple[int, bytes] | None:
        """1 (output) or 2 (errors), and what was said. None at the end. Raises OSError."""
        message = await self._stream.read_out()
        return None if message is None else (int(message.stream), bytes(message.data))

    async def write(self, data: bytes) -> None:
        """Raises OSError."""
        if self._tty:
            await self._stream.write_in(data)

    async def resize(self, columns: int, lines: int) -> None:
        with suppress(Refused):  # it has just ended
            await self._link.post(f"exec/{self._id}/resize", params={"w": str(columns), "h": str(lines)})

    async def exit_code(self) -> int:
        """Once there is nothing to be read any more. Raises EngineUnreachable."""
        try:
            found: dict[str, Any] = await self._link.get(f"exec/{self._id}/json")
        except Refused:  # its container is gone
            return 137
        return int(found["ExitCode"] if found.get("ExitCode") is not None else 137)

    async def close(self) -> None:
        with suppress(OSError, RuntimeError, AssertionError):
            await self.write(_GO_AWAY)
        await self._stream.close()
