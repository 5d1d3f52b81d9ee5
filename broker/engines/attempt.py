"""One attempt on this machine: follow its output, stop it, kill all of it, and know when nothing of it runs."""

import asyncio
import itertools
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from broker.beside import LOG, beside
from broker.engines import claim, proc
from broker.engines.base import Exit, RawLine
from broker.engines.claim import Claim
from broker.engines.family import Family
from broker.engines.proc import Identity
from broker.engines.shims import Ended
from broker.engines.tail import Tail
from broker.errors import EngineError
from broker.plain import read_plain

FIRST_PAUSE_S, LAST_PAUSE_S = 0.02, 0.25  # between looks at a log that does not grow
BRIEF_S = 5.0  # an attempt this young cannot have seen the pids go round
_KILLED = 128 + signal.SIGKILL
_log = logging.getLogger(__name__)


class LocalAttempt:
    """A Handle. A shim of ours tells how it ended (`end`), or one that has outlived its broker is watched (`watch`)."""

    def __init__(
        self,
        mark: str,
        directory: Path,
        job: Identity | None,
        *,
        log_keep: int,
        grace_s: float,
        out_of_memory: Callable[[], bool],
    ) -> None:
        """`job`: its process, the leader of its session; None where nobody knows it (yet). `out_of_memory`: whether
        the kernel may have killed it for lack of memory, asked when it was found killed."""
        self._mark = mark
        self._directory = directory
        self._job = job
        self._shim: Identity | None = None  # all whose ancestor it is belong to this attempt, until that has ended
        self._log_keep = log_keep
        self._grace_s = grace_s
        self._out_of_memory = out_of_memory
        self._brief_until = 0.0
        self._pidfd: int | None = None  # of an adopted attempt's shim
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

    def started(self, job: Identity, shim: Identity) -> None:
        self._job = job
        if not self._gone.is_set():
            self._shim = shim
        self._brief_until = time.monotonic() + BRIEF_S

    def end(self, ended: Ended) -> None:
        """Its shim has told so, or died."""
        self._ended = ended
        self._shim = None  # it may have another job from now on
        self._gone.set()

    def watch(self, shim: Identity) -> None:
        """Have the loop tell when this shim ends. It has no broker any more, so it ends with this job."""
        with suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(shim.pid)
        if self._pidfd is None or not proc.lives(shim):
            self._shim_ended()
            return
        self._shim = shim
        asyncio.get_running_loop().add_reader(self._pidfd, self._shim_ended)

    def let_go(self) -> None:
        """Stop watching; what runs goes on."""
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    async def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        """See `Tail` for what a flood does to it. An attempt whose log cannot be read ends as any other."""
        try:
            with closing(Tail(beside(self._directory, LOG), offset, self._log_keep)) as tail:
                async for batch in self._follow(tail):
                    yield batch
        except OSError as error:  # the job has removed it, or put something else in its place
            _log.warning("%s: its output cannot be read; it runs on: %s", self._mark, error)
            await self.wait()

    async def _follow(self, tail: Tail) -> AsyncIterator[Sequence[RawLine]]:
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

    async def stop(self) -> None:
        """SIGTERM to the job's own process, once: what that one has started is its to end, as under `docker stop`."""
        if self._asked:
            return
        while not self._gone.is_set():
            if (job := self._own_process()) is not None:
                self._send(job, signal.SIGTERM)
                self._asked = True
                return
            await asyncio.sleep(0.002)  # its shim is about to start it, or to tell its end

    async def kill(self) -> None:
        self._killed = True
        if self._own_process() is None and self._job is None and self._shim is not None:
            proc.send(self._shim, signal.SIGKILL)  # it may be about to start it
        while found := await self._members():
            refused = self._send_all(found, signal.SIGKILL)
            if len(refused) == len(found):
                raise next(iter(refused.values()))
            await asyncio.sleep(0.005)

    async def wait(self) -> Exit:
        await self._gone.wait()
        async with self._finishing:
            if self._exit is None:
                await self._clear()
                self._exit = self._how()
        return self._exit

    async def fetch(self, name: str, last: int | None = None) -> bytes:
        return await asyncio.to_thread(read_plain, self._directory / name, last)

    def _shim_ended(self) -> None:
        self.let_go()
        self._shim = None
        self._gone.set()

    def _send(self, target: Identity | proc.Process, signum: int) -> None:
        """Raises EngineError where it is out of our reach."""
        try:
            proc.send(target, signum)
        except PermissionError as error:
            raise EngineError(
                f"process {target.pid} runs as another user, whom the broker may not signal ({error.strerror}): "
                f"the job runs on until somebody ends it, as with `sudo kill {target.pid}`"
            ) from error

    def _send_all(self, members: Sequence[proc.Process], signum: int) -> dict[Identity, EngineError]:
        """Those that are out of our reach."""
        refused: dict[Identity, EngineError] = {}
        for member in members:
            try:
                self._send(member, signum)
            except EngineError as error:
                refused[member.identity] = error
        return refused

    def _own_process(self) -> Identity | None:
        """The job's own process, if it is there."""
        if self._job is None and self._shim is not None:
            self._job = Claim.parse(claim.read(self._directory) or "").job
        return self._job if self._job is not None and proc.lives(self._job) else None

    async def _clear(self) -> None:
        """End whatever the job has left behind, as its shim does where it lives."""
        if self._ended.alone:
            return
        deadline = time.monotonic() + (0 if self._killed else self._grace_s)
        told: set[Identity] = set()
        left: set[Identity] = set()  # out of our reach: nobody here can end it
        while found := [member for member in await self._members() if member.identity not in left]:
            late = self._killed or time.monotonic() > deadline
            untold = [member for member in found if late or member.identity not in told]
            told |= {member.identity for member in untold}
            refused = self._send_all(untold, signal.SIGKILL if late else signal.SIGTERM)
            for error in refused.values():
                _log.warning("%s has ended, and something of it is left: %s", self._mark, error)
            left |= refused.keys()
            await asyncio.sleep(0.01)

    async def _members(self) -> list[proc.Process]:
        """Its living processes. One that is dying has lost its environment before it has let go of its files: who was
        seen once is a member until it is dead."""
        found = {member.pid: member for member in await self._found()}
        self._seen = {pid: member for pid, member in self._seen.items() if proc.lives(member)} | found
        return list(self._seen.values())

    async def _found(self) -> list[proc.Process]:
        """Those that can be told by what they are now."""
        while True:
            shim, job = self._shim, self._job
            family = Family(self._mark, job, shim if job is not None else None)
            if job is not None and time.monotonic() < self._brief_until:
                recent = proc.since(job.pid)
                if recent is not None:
                    return family.among(itertools.chain([job.pid], recent))[0]
            found = await asyncio.to_thread(family.all)
            if self._shim is shim:
                return found  # else the shim may have had another job while we looked

    def _how(self) -> Exit:
        code = self._ended.code if self._ended.code is not None else claim.exit_code(self._directory, self._job)
        if code is None:
            return Exit(_KILLED if self._killed else None)
        return Exit(code, oom_killed=code == _KILLED and not self._killed and self._out_of_memory())
