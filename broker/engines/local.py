"""Jobs as processes of this machine, each under a shim in a session of its own: they survive the broker.

What is true of an attempt lies in its directory (`pid`, `exit`, `output.log`) and in /proc, so a new broker finds it.
"""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from broker.engines import proc, shim
from broker.engines.attempt import Identity, LocalAttempt
from broker.engines.base import AttemptRef, Inventory, Launch, Remnant
from broker.errors import AlreadyLaunched, AttemptGone, EngineError
from broker.protocol.fleet import HostSample

_NO_ROOM = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_CLAIMED_S = 1.0  # how long a shim may take between creating its pid file and filling it


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
        self._environment = shim.base_environment(os.environ)
        self._attempts: set[LocalAttempt] = set()
        self._memory_kills = proc.out_of_memory_kills()

    @property
    def node(self) -> str:
        return self._node

    async def inventory(self) -> Inventory:
        alive = await asyncio.to_thread(_alive, self._broker_id)
        self._attempts = {attempt for attempt in self._attempts if attempt.watching}
        self._memory_kills = proc.out_of_memory_kills()
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
        cwd = launch.cwd or directory
        if not cwd.is_dir():
            raise EngineError(f"the working directory {cwd} does not exist; nothing was started")
        env = shim.environment(self._environment, launch.env, launch.gpus, _mark(ref))
        argv = [shim.program(launch.argv[0], env["PATH"], cwd), *launch.argv[1:]]
        try:
            log = os.open(directory / shim.LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except FileExistsError:
            raise AlreadyLaunched(f"{ref.name} was started before") from None
        try:
            pid = _spawn(shim.command(ref.name, directory, proc.boot_id(), cwd, argv), env, log)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                self._bury(directory)
                raise AttemptGone(f"{self._node} cannot start another process now: {error.strerror}") from error
            raise EngineError(f"cannot start {launch.argv[0]}: {error}; nothing was started") from error
        finally:
            os.close(log)
        born = proc.process(pid)  # it is there, if only as a zombie, until we reap it
        assert born is not None
        return self._watched(ref, directory, Identity(pid, born.start, proc.boot_id()), started_here=True)

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> LocalAttempt:
        """Its directory tells more than `engine_ref`. Raises AttemptGone."""
        text = await self._claim(directory)
        if text is None:
            if ref not in await asyncio.to_thread(_alive, self._broker_id):
                raise AttemptGone(f"{ref.name} never started on {self._node}, and cannot any more")
            identity = None  # its directory was removed under it: what is left of it must end
        else:
            identity = Identity.parse(text)
            if identity is not None and identity.boot_id != proc.boot_id():
                identity = None
        return self._watched(ref, directory, identity, started_here=False)

    async def remnants(self) -> Sequence[Remnant]:
        alive = await asyncio.to_thread(_alive, self._broker_id)
        return [Remnant("process", ref.name, ref, "running") for ref in alive]

    async def discard(self, remnant: Remnant) -> None:
        """Processes are ended by whoever attaches to them."""
        raise EngineError(f"{remnant.name} still runs on {self._node}; it is killed within seconds")

    async def close(self) -> None:
        for attempt in self._attempts:
            attempt.let_go()
        self._attempts.clear()

    async def _claim(self, directory: Path) -> str | None:
        """The shim's pid file. None when there is none: then ours takes its place, and no shim can start any more."""
        path = directory / shim.PID_NAME
        deadline = asyncio.get_running_loop().time() + _CLAIMED_S
        while True:
            try:
                text = path.read_text()
            except FileNotFoundError:
                text = shim.TOMBSTONE if self._bury(directory) else ""
            if text == shim.TOMBSTONE:
                return None
            if text.endswith("\n") or asyncio.get_running_loop().time() > deadline:
                return text
            await asyncio.sleep(0.005)

    def _bury(self, directory: Path) -> bool:
        """False when a shim was faster."""
        try:
            with (directory / shim.PID_NAME).open("x") as tombstone:
                tombstone.write(shim.TOMBSTONE)
        except FileExistsError:
            return False
        except FileNotFoundError:
            return True  # without its directory a shim cannot start either
        return True

    def _watched(self, ref: AttemptRef, directory: Path, identity: Identity | None, started_here: bool) -> LocalAttempt:
        attempt = LocalAttempt(
            _mark(ref),
            directory,
            identity,
            started_here=started_here,
            log_keep=self._log_keep,
            oom_killed=self._oom_killed,
        )
        attempt.watch()
        self._attempts.add(attempt)
        return attempt

    def _oom_killed(self) -> bool:
        """True when the kernel has killed for lack of memory since the last look."""
        before, self._memory_kills = self._memory_kills, proc.out_of_memory_kills()
        return self._memory_kills > before


def _spawn(argv: list[str], env: Mapping[str, str], log: int) -> int:
    """The new process' pid. Whoever watches it reaps it."""
    return os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
    )


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
