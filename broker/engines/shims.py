"""Shim processes of this broker: each is asked to run one job after another, and outlives us with the one it has.

See `shim_process.py` for what they do.
"""

import asyncio
import marshal
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.beside import CLAIM, LOG, beside
from broker.engines import proc
from broker.engines.proc import Identity
from broker.engines.shim_process import LENGTH, WIRE
from broker.errors import AlreadyLaunched, EngineError

MARK = "WYOLO_SHIM"  # <broker id>, in the environment of our shims
_PROGRAM = str(Path(__file__).with_name("shim_process.py"))
_CHUNK = 4096
LEFTOVER_GRACE_S = 2.0  # for processes that outlive the job's own: SIGTERM, this long, SIGKILL


class Refused(EngineError):
    """A job could not be started. `step`: 'directory', 'cwd' or 'spawn'; `errno`: 0 where the system has no word."""

    def __init__(self, step: str, errno: int) -> None:
        self.step = step
        self.errno = errno
        super().__init__(f"{step}: {os.strerror(errno) if errno else 'not possible'}")


class ShimGone(EngineError):
    """It died before it answered: nobody knows whether the job was started."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`code`: None where the shim died first. `alone`: nothing is left of the job, for certain. `written`: its file
    says so too."""

    code: int | None = None
    alone: bool = False
    written: bool = False


class Shim:
    """One of them, and the job that it has."""

    def __init__(self, identity: Identity, wire: socket.socket, gone: Callable[["Shim"], None]) -> None:
        self.identity = identity
        self.alive = True
        self._wire = wire
        self._gone = gone
        self._heard = b""
        self._started: asyncio.Future[Identity] | None = None
        self._on_end: Callable[[Ended], None] | None = None
        self._pidfd = os.pidfd_open(identity.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._wire, self._hear)
        loop.add_reader(self._pidfd, self._died)

    async def run(
        self,
        directory: Path,
        cwd: Path,
        argv: Sequence[str],
        env: Mapping[str, str],
        on_end: Callable[[Ended], None],
        *,
        memory_kills: int = 0,
    ) -> Identity:
        """The job's process. `cwd` is made where it is the attempt's own directory. Raises AlreadyLaunched, Refused,
        ShimGone: then `on_end` is never called."""
        loop = asyncio.get_running_loop()
        started = self._started = loop.create_future()
        self._on_end = on_end
        files = str(beside(directory, CLAIM)), str(beside(directory, LOG))
        order = marshal.dumps((files, str(cwd), list(argv), dict(env), memory_kills))
        try:
            with suppress(ConnectionError):  # told by its death
                await loop.sock_sendall(self._wire, len(order).to_bytes(LENGTH, "little") + order)
            return await started
        finally:
            if self._started is started:  # else it has ended, and another was started
                self._started = None

    def let_go(self) -> None:
        """It ends with its job, or now if it has none. Who waits for that job waits on."""
        self._on_end = None
        if self.alive:
            self._hang_up()
            asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _hear(self) -> bool:
        """What it says now. False when there is no more."""
        try:
            data = self._wire.recv(_CHUNK)
        except OSError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._wire)  # its death comes by the pidfd
            return False
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._take(line.decode().split(" "))
        return True

    def _take(self, words: list[str]) -> None:
        match words:
            case ["started", pid, start]:
                self._answer(Identity(int(pid), int(start)))
            case ["taken"]:
                self._answer(AlreadyLaunched("was started before"))
            case ["refused", step, number]:
                self._answer(Refused(step, int(number)))
            case ["ended", code, alone, written]:
                self._finish(Ended(int(code), alone == "1", written == "1"))
            case _:
                raise AssertionError(f"a shim says {words}")

    def _answer(self, answer: Identity | EngineError) -> None:
        if self._started is None or self._started.done():
            return
        if isinstance(answer, Identity):
            self._started.set_result(answer)
        else:
            self._on_end = None
            self._started.set_exception(answer)

    def _finish(self, ended: Ended) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(ended)

    def _died(self) -> None:
        while self._hear():  # its last words
            pass
        self._hang_up()
        self._reap()
        self._answer(ShimGone(f"its shim (pid {self.identity.pid}) died"))
        self._finish(Ended())
        self._gone(self)

    def _hang_up(self) -> None:
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.close()

    def _reap(self) -> None:
        """It has ended, and must not stay a zombie for as long as we live."""
        with suppress(ChildProcessError):
            os.waitpid(self.identity.pid, os.WNOHANG)
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)


class Shims:
    """Those of one engine: taken for a job, given back after it, started when there is none to spare."""

    def __init__(self, broker_id: str, boot_id: str, grace_s: float = LEFTOVER_GRACE_S) -> None:
        self._env = {MARK: broker_id}
        self._argv = [sys.executable, "-I", "-S", _PROGRAM, boot_id, str(grace_s)]
        self._idle: list[Shim] = []
        self._all: set[Shim] = set()

    def __contains__(self, shim: Identity) -> bool:
        return any(each.identity == shim for each in self._all)

    def take(self) -> Shim:
        """Raises OSError where there is no room for a process."""
        return self._idle.pop() if self._idle else self._start()

    def give(self, shim: Shim) -> None:
        """It has nothing to do any more."""
        if shim.alive:
            self._idle.append(shim)

    def trim(self) -> None:
        """One waits for the next job; more than one is only of use in a rush."""
        while len(self._idle) > 1:
            self.dismiss(self._idle.pop(0))
        if not self._idle:
            with suppress(OSError):
                self._idle.append(self._start())

    def dismiss(self, shim: Shim) -> None:
        self._all.discard(shim)
        shim.let_go()

    def close(self) -> None:
        for shim in list(self._all):
            self.dismiss(shim)
        self._idle.clear()

    def _start(self) -> Shim:
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            null = os.devnull
            pid = os.posix_spawn(
                sys.executable,
                self._argv,
                self._env,
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), WIRE),
                ),
                setsid=True,
                setsigmask=(),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        born = proc.process(pid)  # it is there, if only as a zombie, until we reap it
        assert born is not None
        shim = Shim(Identity(pid, born.start), ours, self._forget)
        self._all.add(shim)
        return shim

    def _forget(self, shim: Shim) -> None:
        self._all.discard(shim)
        with suppress(ValueError):
            self._idle.remove(shim)
