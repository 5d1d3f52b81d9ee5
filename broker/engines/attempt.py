"""One attempt on this machine: follow its output, stop it, kill all of it, and know when nothing of it runs."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.engines import proc, shim
from broker.engines.base import Exit, RawLine
from broker.engines.plain import read_plain
from broker.engines.tail import Tail

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.25  # between looks at a log that does not grow
LEFTOVER_GRACE_S = 2.0  # for processes that outlive the job's own: SIGTERM, this long, SIGKILL
BRIEF_S = 5.0  # an attempt this young cannot have seen the pids go round
_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Identity:
    """The shim: a pid alone would be anyone's."""

    pid: int
    start: int  # clock ticks since boot
    boot_id: str

    def __str__(self) -> str:
        return f"{self.pid}:{self.start}:{self.boot_id}"

    @classmethod
    def parse(cls, text: str) -> "Identity | None":
        """Of a pid file. None when it is not whole: nothing was started, or the machine went down."""
        match text.split():
            case [pid, start, boot_id] if pid.isdecimal() and start.isdecimal():
                return cls(int(pid), int(start), boot_id)
            case _:
                return None

    def lives(self, mark: str) -> bool:
        if self.boot_id != proc.boot_id():
            return False
        found = proc.process(self.pid)
        return found is not None and not found.dead and found.start == self.start and proc.mark(self.pid) == mark


class LocalAttempt:
    """A Handle. `identity` is None where nobody knows it: then it has no shim any more."""

    def __init__(
        self,
        mark: str,
        directory: Path,
        identity: Identity | None,
        *,
        started_here: bool,
        log_keep: int,
        oom_killed: Callable[[], bool],
    ) -> None:
        self._mark = mark
        self._directory = directory
        self._identity = identity
        self._session = identity  # whose session tells what belongs to the attempt
        self._started_here = started_here  # by this broker: then its age is known
        self._log_keep = log_keep
        self._oom_killed = oom_killed
        self._began = time.monotonic()
        self._pidfd: int | None = None
        self._gone = asyncio.Event()  # the shim is
        self._finishing = asyncio.Lock()
        self._seen: dict[int, proc.Process] = {}  # its processes that lived when last looked at
        self._exit: Exit | None = None
        self._status: int | None = None  # the shim's own exit code, where we are its parent
        self._asked = False
        self._killed = False

    image = ""

    @property
    def engine_ref(self) -> str:
        return str(self._identity or "")

    @property
    def watching(self) -> bool:
        return self._pidfd is not None

    def watch(self) -> None:
        """Have the loop tell when the shim ends."""
        if self._identity is None or not self._alive():
            self._session = None  # the pid is another's now, or was never ours
            self._gone.set()
            return
        try:
            self._pidfd = os.pidfd_open(self._identity.pid)
        except ProcessLookupError:
            self._gone.set()
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._shim_ended)
        if not self._alive():  # the pid was recycled between two looks
            self.let_go()
            self._gone.set()

    def let_go(self) -> None:
        """Stop watching; what runs goes on."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        """See `Tail` for what a flood does to it."""
        try:
            tail = Tail(self._directory / shim.LOG_NAME, offset, self._log_keep)
        except OSError:  # the job has removed it, or put something else in its place
            await self.wait()
            return
        try:
            pause, ended = FIRST_PAUSE_S, False
            while True:
                batch = tail.read()
                if batch is not None:
                    pause = FIRST_PAUSE_S
                    if batch:
                        yield batch
                    await asyncio.sleep(0)
                elif ended:
                    break
                elif self._gone.is_set():
                    await self.wait()  # what is left of it may still write
                    ended = True
                else:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._gone.wait()
                    pause = min(pause * 1.5, LAST_PAUSE_S)
            if last := tail.rest():
                yield last
        finally:
            tail.close()

    async def stop(self) -> None:
        """SIGTERM to the job's own process, once: what that one has started is its to end, as under `docker stop`."""
        if self._asked:
            return
        self._asked = True
        while not self._gone.is_set():
            if (job := self._own_process()) is not None:
                proc.send(job, signal.SIGTERM)
                return
            await asyncio.sleep(0.002)  # the shim is about to start it, or to end

    async def kill(self) -> None:
        self._killed = True
        while found := await self._members(with_shim=True):
            for member in found:
                proc.send(member, signal.SIGKILL)
            await asyncio.sleep(0.005)

    async def wait(self) -> Exit:
        await self._gone.wait()
        async with self._finishing:
            if self._exit is None:
                await self._clear()
                self._exit = self._how()
        return self._exit

    async def fetch(self, name: str) -> bytes:
        return await asyncio.to_thread(read_plain, self._directory / name)

    def _alive(self) -> bool:
        """Of a process that we started and have not reaped the pid cannot be another's."""
        return self._started_here or (self._identity is not None and self._identity.lives(self._mark))

    def _shim_ended(self) -> None:
        assert self._identity is not None
        with suppress(ChildProcessError):  # of another broker's child, init takes care
            pid, status = os.waitpid(self._identity.pid, os.WNOHANG)
            if pid and os.WIFEXITED(status):
                self._status = os.WEXITSTATUS(status)
        self.let_go()
        self._gone.set()

    def _own_process(self) -> proc.Process | None:
        """What the shim runs, once it is more than a copy of the shim."""
        assert self._identity is not None
        shim_pid = self._identity.pid
        for pid in proc.children(shim_pid):
            found = proc.process(pid)
            if found is not None and not found.dead and proc.command_line(pid) != proc.command_line(shim_pid):
                return found
        return None

    async def _clear(self) -> None:
        """End whatever the job has left behind."""
        deadline = time.monotonic() + (0 if self._killed else LEFTOVER_GRACE_S)
        told: set[proc.Process] = set()
        while found := await self._members():
            late = self._killed or time.monotonic() > deadline
            for member in found:
                if late:
                    proc.send(member, signal.SIGKILL)
                elif member.pid not in {other.pid for other in told}:
                    told.add(member)
                    proc.send(member, signal.SIGTERM)
            await asyncio.sleep(0.01)

    async def _members(self, with_shim: bool = False) -> list[proc.Process]:
        """Its living processes. One that is dying has lost its environment before it has let go of its files: who was
        seen once is a member until it is dead."""
        found = {member.pid: member for member in await self._marked(with_shim)}
        self._seen = {pid: member for pid, member in self._seen.items() if proc.lives(member)} | found
        shim_pid = self._session.pid if self._session is not None else None
        return [member for pid, member in self._seen.items() if with_shim or pid != shim_pid]

    async def _marked(self, with_shim: bool) -> list[proc.Process]:
        if self._identity is not None and self._started_here and time.monotonic() - self._began < BRIEF_S:
            recent = proc.since(self._identity.pid)
            if recent is not None:
                first = [self._identity.pid] if with_shim else []
                return _ours(itertools.chain(first, recent), self._mark, self._session)[0]
        return await asyncio.to_thread(_all_ours, self._mark, self._session)

    def _how(self) -> Exit:
        code = self._written_code()
        if code is None and self._claimed():
            code = self._status  # its disk was full
        if code is None:
            return Exit(_KILLED if self._killed else None)
        return Exit(code, oom_killed=code == _KILLED and not self._killed and self._oom_killed())

    def _written_code(self) -> int | None:
        try:
            return int(read_plain(self._directory / shim.EXIT_NAME))
        except (FileNotFoundError, ValueError):
            return None

    def _claimed(self) -> bool:
        """Our shim went on to run the job: it did not find the attempt taken."""
        with suppress(OSError):
            return (
                Identity.parse(read_plain(self._directory / shim.PID_NAME).decode(errors="replace")) == self._identity
            )
        return False


def _all_ours(mark: str, session: Identity | None) -> list[proc.Process]:
    """Every living process of the attempt. Blocking, a few milliseconds."""
    for _ in range(3):
        found, vanished = _ours(proc.pids(), mark, session)
        if found or not vanished:
            return found
    return []  # other programs come and go, none of them ours


def _ours(pids: Iterable[int], mark: str, session: Identity | None) -> tuple[list[proc.Process], bool]:
    """The attempt's living processes among these, and whether one vanished: it may have left a child unseen."""
    since = session.start if session is not None else 0
    found: list[proc.Process] = []
    vanished = False
    for pid in pids:
        process = proc.process(pid)
        vanished |= process is None
        if process is not None and process.start >= since and not process.dead and _is_ours(process, mark, session):
            found.append(process)
    return found, vanished


def _is_ours(process: proc.Process, mark: str, session: Identity | None) -> bool:
    said = proc.mark(process.pid)
    if said is not None or session is None or process.session != session.pid:
        return said == mark
    leader = proc.process(session.pid)  # it has overwritten its environment: its session tells, if it is still ours
    return leader is None or leader.start == session.start
