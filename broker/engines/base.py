"""The seam between the supervisor and whatever runs a job: a subprocess, a Docker daemon, a Swarm.

An engine starts an attempt at most once (by its name, `AttemptRef.name`), can be asked about it for ever after, and
never decides anything about a job.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from broker.protocol.fleet import HostSample


@dataclass(frozen=True, slots=True)
class AttemptRef:
    broker_id: str
    job_id: int
    fence: int

    @property
    def name(self) -> str:
        """The name that makes a second start impossible: wyolo-<job>-<fence>."""
        return f"wyolo-{self.job_id}-{self.fence}"


async def told_nobody(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything an engine needs to start an attempt."""

    ref: AttemptRef
    argv: Sequence[str]
    env: Mapping[str, str]  # added to the engine's clean base environment
    cwd: Path | None  # None: of the engine's own, in `directory`
    directory: Path  # the attempt's, private; with the files that the broker put there, or made by the engine
    gpus: Sequence[str] = ()  # physical UUIDs; empty: no GPU is visible
    cpus: float = 0.0  # cores; 0: not limited
    memory_mib: int = 0  # 0: not limited
    config: Path | None = None  # of a training: an engine with a Python of its own starts the trainer by that
    image: str = ""  # of its container; "": the node's own
    network: str = ""  # "": the node's own
    inputs: Sequence[Path] = ()  # files of the job's earlier attempts that it reads
    tell: Callable[[str], Awaitable[None]] = told_nobody  # what takes time before it starts; raises AttemptGone when
    # nobody wants it any more


@dataclass(frozen=True, slots=True)
class Exit:
    """How an attempt's process ended. `code` is None when nobody saw it: it was killed with its shim."""

    code: int | None
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class RawLine:
    """One line of output. `offset` is where it begins, `end` where the next begins, in bytes."""

    offset: int
    end: int
    data: bytes  # without the newline; at most MAX_LINE bytes, then cut
    cut: int = 0  # bytes that were dropped from it


MAX_LINE = 65_536  # bytes


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a node has, and which of our attempts are alive on it (as the engine itself says)."""

    node: str
    cpus: float
    memory_mib: int
    gpu_uuids: Sequence[str]
    alive: Sequence[AttemptRef] = field(default_factory=tuple[AttemptRef, ...])
    ended: Sequence[AttemptRef] = ()  # something is left of them there, and nobody has asked how they ended


@dataclass(frozen=True, slots=True)
class Remnant:
    """Something of an attempt that is there on a node."""

    kind: Literal["container", "volume", "process"]
    name: str
    ref: AttemptRef
    state: str  # as the engine says it: "running", "exited"


class Handle(Protocol):
    """A launched attempt."""

    @property
    def engine_ref(self) -> str:
        """What `attach` needs to find the attempt again; recorded in the ledger."""
        ...

    @property
    def image(self) -> str:
        """Of its container, with the digest; '' where it has none, or that is not known."""
        ...

    def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        """Batches of complete lines from `offset` on. Ends when the attempt has exited and all was read."""
        ...

    async def stop(self) -> None:
        """SIGTERM. Idempotent; true of a process that is gone. Raises EngineError where it may not be signalled."""
        ...

    async def kill(self) -> None:
        """SIGKILL to everything that belongs to the attempt. Idempotent. Raises EngineError as `stop`."""
        ...

    async def wait(self) -> Exit:
        """Returns once nothing of the attempt runs any more. May be awaited by several."""
        ...

    async def fetch(self, name: str, last: int | None = None) -> bytes:
        """A file of the attempt's directory, or so many of its last bytes: more only where it came as a whole. Raises
        FileNotFoundError."""
        ...


class Shell(Protocol):
    """A program that a person talks to, beside an attempt. Each raises OSError or EngineUnreachable."""

    async def read(self) -> tuple[int, bytes] | None:
        """1 (output) or 2 (errors), and what was said. None at the end."""
        ...

    async def write(self, data: bytes) -> None: ...
    async def end_input(self) -> None: ...
    async def resize(self, columns: int, lines: int) -> None: ...
    async def exit_code(self) -> int: ...
    async def close(self) -> None: ...


@runtime_checkable
class Enterable(Protocol):
    """A Handle of an attempt in a place of its own."""

    async def enter(self, argv: Sequence[str], term: str, tty: bool, hears: bool) -> Shell:
        """Start a program there; without `argv`, a shell. `hears`: what is written, as one at a terminal does in any
        case. Raises Conflict, EngineUnreachable."""
        ...


class Engine(Protocol):
    @property
    def node(self) -> str: ...

    async def inventory(self) -> Inventory: ...

    async def sample(self) -> HostSample: ...

    async def contact(self) -> None:
        """Whoever runs the attempts has just answered. Raises EngineUnreachable."""
        ...

    async def launch(self, launch: Launch) -> Handle:
        """Start an attempt. Raises AlreadyLaunched (attach to it), EngineUnreachable (it may run), EngineError."""
        ...

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> Handle:
        """Find an attempt, running or ended. Raises AttemptGone when the engine is certain that it never started
        (and makes sure that it never will), EngineUnreachable when it cannot tell."""
        ...

    async def remnants(self) -> Sequence[Remnant]:
        """All that is there of attempts, of whatever broker. Raises EngineUnreachable."""
        ...

    async def discard(self, remnant: Remnant) -> None:
        """Remove it, running or not. True of one that is gone. Raises EngineError."""
        ...

    async def close(self) -> None:
        """Let go. What runs goes on running."""
        ...
