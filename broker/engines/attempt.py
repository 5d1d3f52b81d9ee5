"""One attempt on this machine: follow its output, stop it, kill all of it, and know when nothing of it runs."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from broker.engines import claim, proc
from broker.engines.base import Exit, RawLine
from broker.engines.claim import Claim
from broker.engines.proc import Identity
from broker.engines.shims import MARK as SHIM_MARK
from broker.engines.shims import Ended
from broker.engines.tail import Tail
from broker.plain import read_plain

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.25  # between looks at a log that does not grow
LEFTOVER_GRACE_S = 2.0  # for processes that outlive the job's own: SIGTERM, this long, SIGKILL
BRIEF_S = 5.0  # an attempt this young cannot have seen the pids go round
_KILLED = 128 + signal.SIGKILL


class LocalAttempt:
    """A Handle. A shim of ours tells how it ended (`end`), or one that has outlived its broker is watched (`watch`)."""

    def __init__(
        self, mark: str, directory: Path, job: Identity | None, *, log_keep: int, oom_killed: Callable[[], bool]
    ) -> None:
        """`job`: its process, the leader of its session; None where nobody knows it (yet)."""
        self._mark = mark
        self._directory = directory
        self._job = job
        self._shim: Identity | None = None  # of an adopted attempt, which is the last that it has
        self._log_keep = log_keep
        self._oom_killed = oom_killed
        self._began = time.monotonic()
        self._pidfd: int | None = None
        self._gone = asyncio.Event()  # the job is, or its shim
        self._ended = Ended()
        self._finishing = asyncio.Lock()
        self._seen: dict[int, proc.Process] = {}  # its processes that lived when last looked at
        self._exit: Exit | None = None
        self._asked = False
        self._killed = False

    image = ""

    @property
    def engine_ref(self) -> str:
        return f"{self._job.pid}:{self._job.start}:{proc.boot_id()}" if self._job is not None else ""

    @property
    def watching(self) -> bool:
        return not self._gone.is_set()

    def started(self, job: Identity) -> None:
        self._job = job

    def end(self, ended: Ended) -> None:
        """The job has ended, or its shim died."""
        self._ended = ended
        self._gone.set()

    def watch(self, shim: Identity, broker_id: str) -> None:
        """Have the loop tell when this shim ends. It has no broker any more, so it ends with this job."""
        with suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(shim.pid)
        if self._pidfd is None or not proc.lives(shim) or proc.variable(shim.pid, SHIM_MARK) != broker_id:
            self._orphaned()
            return
        self._shim = shim
        asyncio.get_running_loop().add_reader(self._pidfd, self._shim_ended)
        if claim.exit_code(self._directory) is not None:  # it is about to end, or went on to another job
            self._shim_ended()

    def let_go(self) -> None:
        """Stop watching; what runs goes on."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        """See `Tail` for what a flood does to it."""
        try:
            tail = Tail(f"{self._directory}/{claim.LOG_NAME}", offset, self._log_keep)
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
            await asyncio.sleep(0.002)  # its shim is about to start it, or to tell its end

    async def kill(self) -> None:
        self._killed = True
        if self._own_process() is None and self._shim is not None:
            proc.send(self._shim, signal.SIGKILL)  # it may be about to start it
        while found := await self._members():
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

    def _shim_ended(self) -> None:
        self.let_go()
        self._gone.set()

    def _orphaned(self) -> None:
        """The shim's pid is another's now, or nobody's. The job's may be as well."""
        if self._job is not None and proc.mark(self._job.pid) != self._mark:
            self._job = None
        self._shim_ended()

    def _own_process(self) -> Identity | None:
        """The job's own process, if it is there."""
        if self._job is None and self._shim is not None:
            with suppress(FileNotFoundError):
                self._job = Claim.parse(read_plain(self._directory / claim.PID_NAME).decode(errors="replace")).job
        return self._job if self._job is not None and proc.lives(self._job) else None

    async def _clear(self) -> None:
        """End whatever the job has left behind."""
        if self._ended.alone:
            return
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

    async def _members(self) -> list[proc.Process]:
        """Its living processes. One that is dying has lost its environment before it has let go of its files: who was
        seen once is a member until it is dead."""
        found = {member.pid: member for member in await self._marked()}
        self._seen = {pid: member for pid, member in self._seen.items() if proc.lives(member)} | found
        return list(self._seen.values())

    async def _marked(self) -> list[proc.Process]:
        job = self._job
        if job is not None and self._shim is None and time.monotonic() - self._began < BRIEF_S:
            recent = proc.since(job.pid)
            if recent is not None:
                return _ours(itertools.chain([job.pid], recent), self._mark, job)[0]
        return await asyncio.to_thread(_all_ours, self._mark, job)

    def _how(self) -> Exit:
        code = self._ended.code if self._ended.code is not None else claim.exit_code(self._directory)
        if code is None:
            return Exit(_KILLED if self._killed else None)
        return Exit(code, oom_killed=code == _KILLED and not self._killed and self._oom_killed())


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
