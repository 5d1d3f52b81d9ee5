"""A program inside an attempt's container, at a terminal or in a pipe, for the person who asked for it."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from broker.engines.docker_errors import Refused
from broker.engines.docker_hijack import Hijacked
from broker.engines.docker_link import Link
from broker.errors import Conflict

SHELL = ("/bin/sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi")
_GO_AWAY = b"\x03\x04"  # ctrl+c, end of file: a shell without its person ends
_TERM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.+-]{0,40}")


class DockerShell:
    def __init__(self, link: Link, id: str, stream: Hijacked, tty: bool) -> None:
        self._link = link
        self._id = id
        self._stream = stream
        self._tty = tty

    @classmethod
    async def open(
        cls, link: Link, container: str, argv: Sequence[str], *, directory: str, term: str, tty: bool, hears: bool
    ) -> "DockerShell":
        """As the job itself: its user, its limits. `hears`: what is written. Raises Conflict, EngineUnreachable."""
        body = {
            "AttachStdin": hears,
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
        if not self._tty:
            return await self._stream.read_frame()
        data = await self._stream.read()
        return (1, data) if data else None

    async def write(self, data: bytes) -> None:
        """A program that has just ended hears nothing of it: who reads learns of its end."""
        with suppress(OSError, RuntimeError):
            await self._stream.write(data)

    async def end_input(self) -> None:
        """There is no more to be written. At a terminal that is a key."""
        if not self._tty:
            with suppress(OSError, RuntimeError):
                await self._stream.end()

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
        if self._tty:
            await self.write(_GO_AWAY)
        self._stream.close()
