"""Jobs as processes of this machine, each in a session of its own under a shim: they survive the broker.

What is true of an attempt lies beside its directory (its claim, its log) and in /proc, so a new broker finds it
(`adoption.py`).
"""

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from broker.engines import adoption, claim, proc
from broker.engines.attempt import LocalAttempt
from broker.engines.base import AttemptRef, Inventory, Launch, Remnant
from broker.engines.environment import base_environment, environment, program
from broker.engines.memory_kills import MemoryKills
from broker.engines.shims import LEFTOVER_GRACE_S, Ended, Refused, Shim, ShimGone, Shims
from broker.errors import AlreadyLaunched, AttemptGone, EngineError
from broker.protocol.fleet import HostSample

_NO_ROOM = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_REFUSED = {
    "directory": "the attempt's directory cannot be made ({error}); nothing was started: make room, and resume it",
    "cwd": "the working directory of {} cannot be entered ({error}); nothing was started",
    "spawn": "cannot start {} ({error}); nothing was started",
}


class Gauging(Protocol):
    """The machine's gauges, as far as this engine needs them."""

    @property
    def cpus(self) -> float: ...
    @property
    def memory_mib(self) -> int: ...
    @property
    def gpu_uuids(self) -> Sequence[str]: ...
    async def sample(self) -> HostSample: ...


class LocalEngine:
    def __init__(
        self,
        node: str,
        broker_id: str,
        gauges: Gauging,
        log_keep_mib: int = 512,
        *,
        leftover_grace_s: float = LEFTOVER_GRACE_S,
        memory_kills: Callable[[], int] = proc.out_of_memory_kills,
    ) -> None:
        """`leftover_grace_s`: between SIGTERM and SIGKILL to what outlives a job's own process. `memory_kills`: since
        boot."""
        self._node = node
        self._broker_id = broker_id
        self._gauges = gauges
        self._log_keep = log_keep_mib * 1024 * 1024
        self._environment = base_environment(os.environ)
        self._grace_s = leftover_grace_s
        self._shims = Shims(broker_id, proc.boot_id(), leftover_grace_s)
        self._attempts: dict[str, LocalAttempt] = {}  # that have not ended, by their marks
        self._memory_kills = MemoryKills(memory_kills)
        self._began_with = self._memory_kills.look()

    @property
    def node(self) -> str:
        return self._node

    async def inventory(self) -> Inventory:
        alive = await asyncio.to_thread(_alive, self._broker_id)
        self._attempts = {mark: attempt for mark, attempt in self._attempts.items() if attempt.watching}
        self._shims.trim()
        self._memory_kills.look()
        gauges = self._gauges
        return Inventory(self._node, gauges.cpus, gauges.memory_mib, tuple(gauges.gpu_uuids), alive)

    async def sample(self) -> HostSample:
        return await self._gauges.sample()

    async def contact(self) -> None:
        """The kernel is always there."""

    async def launch(self, launch: Launch) -> LocalAttempt:
        """Raises AlreadyLaunched, AttemptGone (the machine has no room for a process: it never started, and never
        will), EngineError (this can never be started)."""
        ref, directory = launch.ref, launch.directory
        if launch.cwd is not None and not launch.cwd.is_dir():
            raise EngineError(f"the working directory {launch.cwd} does not exist; nothing was started")
        cwd = launch.cwd or directory
        env = environment(self._environment, launch.env, launch.gpus, _mark(ref))
        argv = [program(launch.argv[0], env["PATH"], cwd), *launch.argv[1:]]
        try:
            shim = self._shims.take()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise EngineError(f"cannot start {launch.argv[0]}: {error}; nothing was started") from error
            claim.bury(directory)
            raise AttemptGone(f"{self._node} cannot start another process now: {error.strerror}") from error
        kills = self._memory_kills.lately()
        attempt = self._attempt(_mark(ref), directory, None, kills)

        def ended(how: Ended) -> None:
            attempt.end(how)
            self._after(shim, how)

        try:
            attempt.started(await shim.run(directory, cwd, argv, env, ended, memory_kills=kills), shim.identity)
        except ShimGone:
            return await self.attach(ref, directory, "")
        except Refused as error:
            self._shims.give(shim)
            if error.errno in _NO_ROOM:
                raise AttemptGone(f"{self._node} cannot start another process now: {error}") from error
            raise EngineError(_REFUSED[error.step].format(launch.argv[0], error=error)) from error
        except AlreadyLaunched as error:
            self._shims.give(shim)
            raise AlreadyLaunched(f"{ref.name} was started before") from error
        self._attempts[_mark(ref)] = attempt
        return attempt

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> LocalAttempt:
        """Raises AttemptGone."""
        mark = _mark(ref)
        if (known := self._attempts.get(mark)) is not None:
            return known
        found = await adoption.find(mark, self._broker_id, directory, engine_ref)
        if found is None:
            raise AttemptGone(f"{ref.name} never started on {self._node}, and cannot any more")
        kills = self._began_with if found.memory_kills is None else found.memory_kills
        attempt = self._attempts[mark] = self._attempt(mark, directory, found.job, kills)
        if found.shim is None or found.shim in self._shims:  # one of ours has told how it ended, and has another now
            attempt.end(Ended())
        else:
            attempt.watch(found.shim)
        return attempt

    async def remnants(self) -> Sequence[Remnant]:
        alive = await asyncio.to_thread(_alive, self._broker_id)
        return [Remnant("process", ref.name, ref, "running") for ref in alive]

    async def discard(self, remnant: Remnant) -> None:
        """Processes are ended by whoever attaches to them."""
        raise EngineError(f"{remnant.name} still runs on {self._node}; it is killed within seconds")

    async def close(self) -> None:
        for attempt in self._attempts.values():
            attempt.let_go()
        self._attempts.clear()
        self._shims.close()

    def _attempt(self, mark: str, directory: Path, job: proc.Identity | None, memory_kills: int) -> LocalAttempt:
        return LocalAttempt(
            mark,
            directory,
            job,
            log_keep=self._log_keep,
            grace_s=self._grace_s,
            out_of_memory=lambda: self._memory_kills.since(memory_kills),
        )

    def _after(self, shim: Shim, how: Ended) -> None:
        """One that could not write the end down goes on trying, and one that is not alone has still something of its
        job: neither may have another."""
        if how.written and how.alone:
            self._shims.give(shim)
        else:
            self._shims.dismiss(shim)


def _mark(ref: AttemptRef) -> str:
    return f"{ref.broker_id}/{ref.job_id}/{ref.fence}"


def _alive(broker_id: str) -> tuple[AttemptRef, ...]:
    """Blocking: reads all of /proc, a few milliseconds."""
    found: set[AttemptRef] = set()
    for pid in proc.pids():
        owner, _, rest = (proc.mark(pid) or "").partition("/")
        job_id, _, fence = rest.partition("/")
        if owner == broker_id and job_id.isdecimal() and fence.isdecimal():
            found.add(AttemptRef(broker_id, int(job_id), int(fence)))
    return tuple(sorted(found, key=lambda ref: (ref.job_id, ref.fence)))
