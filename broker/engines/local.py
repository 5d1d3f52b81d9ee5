"""Jobs as processes of this machine, each in a session of its own under a shim: they survive the broker.

What is true of an attempt lies in its directory (`pid`, `exit`, `output.log`) and in /proc, so a new broker finds it.
"""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from broker.engines import claim, proc
from broker.engines.attempt import LocalAttempt
from broker.engines.base import AttemptRef, Inventory, Launch
from broker.engines.claim import Claim
from broker.engines.environment import base_environment, environment, program
from broker.engines.shims import Ended, Refused, Shim, ShimGone, Shims
from broker.errors import AlreadyLaunched, AttemptGone, EngineError
from broker.protocol.fleet import HostSample

_NO_ROOM = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_CLAIMED_S = 1.0  # how long a shim may take between creating the pid file and filling it
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
    def __init__(self, node: str, broker_id: str, gauges: Gauging, log_keep_mib: int = 512) -> None:
        self._node = node
        self._broker_id = broker_id
        self._gauges = gauges
        self._log_keep = log_keep_mib * 1024 * 1024
        self._environment = base_environment(os.environ)
        self._shims = Shims(broker_id, proc.boot_id())
        self._attempts: dict[str, LocalAttempt] = {}  # that have not ended, by their marks
        self._memory_kills = proc.out_of_memory_kills()

    @property
    def node(self) -> str:
        return self._node

    async def inventory(self) -> Inventory:
        alive = await asyncio.to_thread(_alive, self._broker_id)
        self._attempts = {mark: attempt for mark, attempt in self._attempts.items() if attempt.watching}
        self._shims.trim()
        self._memory_kills = proc.out_of_memory_kills()
        gauges = self._gauges
        return Inventory(self._node, gauges.cpus, gauges.memory_mib, tuple(gauges.gpu_uuids), alive)

    async def sample(self) -> HostSample:
        return await self._gauges.sample()

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
        attempt = self._attempt(_mark(ref), directory, None)

        def ended(how: Ended) -> None:
            attempt.end(how)
            self._after(shim, how)

        try:
            attempt.started(await shim.run(directory, cwd, argv, env, ended))
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
        """Its directory tells more than `engine_ref`. Raises AttemptGone."""
        if (known := self._attempts.get(_mark(ref))) is not None and known.watching:
            return known
        text = await self._claim(directory)
        if text is None and ref not in await asyncio.to_thread(_alive, self._broker_id):
            raise AttemptGone(f"{ref.name} never started on {self._node}, and cannot any more")
        found = Claim.parse(text or "")  # nothing in it: what is left of it must end
        attempt = self._attempts[_mark(ref)] = self._attempt(_mark(ref), directory, found.job)
        if found.shim is None:
            attempt.end(Ended())
        else:
            attempt.watch(found.shim, self._broker_id)
        return attempt

    async def close(self) -> None:
        for attempt in self._attempts.values():
            attempt.let_go()
        self._attempts.clear()
        self._shims.close()

    async def _claim(self, directory: Path) -> str | None:
        """Its pid file. None when there is none: then ours takes its place, and no shim can start it any more."""
        path = directory / claim.PID_NAME
        deadline = asyncio.get_running_loop().time() + _CLAIMED_S
        while True:
            try:
                text = path.read_text()
            except FileNotFoundError:
                text = claim.TOMBSTONE if claim.bury(directory) else ""
            if text == claim.TOMBSTONE:
                return None
            if text.count("\n") == 2 or asyncio.get_running_loop().time() > deadline:
                return text
            await asyncio.sleep(0.005)

    def _attempt(self, mark: str, directory: Path, job: proc.Identity | None) -> LocalAttempt:
        return LocalAttempt(mark, directory, job, log_keep=self._log_keep, oom_killed=self._oom_killed)

    def _after(self, shim: Shim, how: Ended) -> None:
        """A shim that could not write the end down goes on trying, and does nothing else."""
        if how.written:
            self._shims.give(shim)
        else:
            self._shims.dismiss(shim)

    def _oom_killed(self) -> bool:
        """True when the kernel has killed for lack of memory since the last look."""
        before, self._memory_kills = self._memory_kills, proc.out_of_memory_kills()
        return self._memory_kills > before


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
