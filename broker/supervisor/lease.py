"""The lease of a training on a node that fences itself: a file, touched while the broker has a word with that node.

A trainer that sees it unchanged for so long leaves by itself; `MARGIN_S` after that nothing of it runs, whoever can be
asked. The file is `jobs/<job>/<fence>.lease`, beside the attempt's directory: a job may read it there, not replace it.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path

from broker.beside import LEASE, beside
from broker.engines.base import Engine
from broker.errors import EngineUnreachable
from broker.protocol.training import LEASE_ENV, LEASE_OVER, LEASE_S_ENV

MARGIN_S = 2.0  # for what is late on its way: a touch to the trainer, its end to us
_TOUCHES = 10  # in the time of a lease
_OFTEN_S, _SELDOM_S = 0.5, 3.0  # between two of them
_log = logging.getLogger(__name__)


class Lease:
    """Of one attempt; there is none until it is granted or found. Everything here takes microseconds and does not
    wait, so that a touch is never late: what is counted from is the time after it."""

    def __init__(self, directory: Path, wanted_s: float) -> None:
        """`wanted_s`: as the operator wants it for new attempts on this node; 0: none, and an old one is no proof."""
        self._directory = directory
        self._trusted = wanted_s > 0
        self._seconds = wanted_s
        self._deadline: float | None = None  # from then on it has ended, by the loop's clock
        self._limit: asyncio.Timeout | None = None

    @property
    def _path(self) -> Path:
        return beside(self._directory, LEASE)

    def grant(self) -> dict[str, str]:
        """For an attempt that is about to be started: what its trainer is told. Raises OSError."""
        if not self._trusted:
            return {}
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        os.fchmod(handle, 0o644)  # whatever the umask: its container has another user
        os.close(handle)
        self._touch()
        return {LEASE_ENV: str(self._path), LEASE_S_ENV: f"{self._seconds:g}"}

    def find(self) -> None:
        """Of an attempt that was started before: it counts from now, whoever touched it last."""
        with suppress(OSError, ValueError, IndexError):
            self._seconds = float(self._path.read_text().split()[0])  # as its trainer was told
            self._prolong()

    @property
    def over(self) -> bool:
        """Its attempt has ended by itself."""
        return self._trusted and self._deadline is not None and self._now() >= self._deadline

    def left_s(self, most: float) -> float:
        """Until it is over, at most so many seconds."""
        if not self._trusted or self._deadline is None:
            return most
        return min(most, max(0.0, self._deadline - self._now()))

    @property
    def held_s(self) -> float:
        return self._seconds + MARGIN_S

    def revoke(self) -> None:
        """A trainer that wakes up late, or whose container is only started now, leaves at once."""
        with suppress(FileNotFoundError):
            self._write(LEASE_OVER)

    def limits(self, node: str) -> AbstractAsyncContextManager[None]:
        """Raises EngineUnreachable as soon as it is over."""
        return self._limits(node) if self._trusted else nullcontext()

    @asynccontextmanager
    async def _limits(self, node: str) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout_at(self._deadline) as self._limit:
                yield
        except TimeoutError:
            if self._limit is None or not self._limit.expired():
                raise
            raise EngineUnreachable(f"{node} could not be reached for {self.held_s:g} s") from None
        finally:
            self._limit = None

    def unlimited(self) -> None:
        """Inside `limits`: it has been seen to end."""
        if self._limit is not None:
            self._limit.reschedule(None)

    def kept(self, engine: Engine) -> AbstractAsyncContextManager[None]:
        """Inside, for as long as `engine` has contact."""
        return nullcontext() if self._deadline is None else self._kept(engine)

    @asynccontextmanager
    async def _kept(self, engine: Engine) -> AsyncGenerator[None]:
        keeping = asyncio.ensure_future(self._keep(engine))
        try:
            yield
        finally:
            keeping.cancel()

    async def _keep(self, engine: Engine) -> None:
        """For ever, or until it was revoked."""
        every_s = min(_SELDOM_S, max(_OFTEN_S, self._seconds / _TOUCHES))
        while True:
            try:
                await engine.contact()
                if not self._touch():
                    return
            except EngineUnreachable:
                pass  # it runs out
            except OSError as error:
                _log.warning("%s cannot be touched: %s", self._path, error)
            await asyncio.sleep(every_s)

    def _touch(self) -> bool:
        """False when it had been revoked. Raises OSError."""
        if self._path.read_bytes().startswith(LEASE_OVER.encode()):
            return False
        self._write(f"{self._seconds:g} {secrets.token_hex(8)}")
        self._prolong()
        return True

    def _prolong(self) -> None:
        self._deadline = self._now() + self.held_s
        if self._limit is not None and self._trusted:
            self._limit.reschedule(self._deadline)

    def _write(self, text: str) -> None:
        """In one piece, in place: whoever has it mounted sees the same file."""
        handle = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(handle, f"{text:<40}\n".encode(), 0)
        finally:
            os.close(handle)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
