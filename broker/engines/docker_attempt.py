"""One attempt in a container: its log spooled, its end witnessed and written down, before the container may go."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tarfile import TarError
from typing import Any

from broker.beside import LOG, beside
from broker.engines.base import AttemptRef, Exit, RawLine
from broker.engines.docker_errors import Refused
from broker.engines.docker_files import Files
from broker.engines.docker_link import Link
from broker.engines.docker_log import Spool
from broker.engines.docker_record import RecordFile, same_data
from broker.engines.docker_shell import DockerShell
from broker.engines.tail import Tail
from broker.errors import EngineUnreachable
from broker.plain import read_plain

SILENT_S = 1.0  # of a log whose container has ended, before it is given up
_log = logging.getLogger(__name__)
_LOST = 255  # what a daemon says of a container that went down with it


class DockerAttempt:
    """A Handle. `watch` begins its work, `lose` ends it when its daemon is out of reach."""

    def __init__(
        self,
        link: Link,
        ref: AttemptRef,
        directory: Path,
        container: str,
        record: RecordFile,
        *,
        log_keep: int,
        seen_all: bool,
        image: str = "",
        files: Files | None = None,
        fetch_s: float = 0.0,
        on_end: Callable[["DockerAttempt"], None],
        over: Exit | None = None,
    ) -> None:
        """`seen_all`: contact was never lost since it was started. `files`: where they are not here by themselves, and
        seconds between two looks for new ones. `on_end`: its end is on disk. `over`: how it ended, where its daemon
        cannot be asked; the rest of its log is read when it can."""
        self.ref = ref
        self.container = container
        self.image = image
        self._link = link
        self._directory = directory
        self._record = record
        self._log_keep = log_keep
        self._seen_all = seen_all
        self._files = files
        self._fetch_s = fetch_s
        self._on_end = on_end
        self._over = over
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._exit.add_done_callback(_noted)
        self._spool: Spool | None = None
        self._task: asyncio.Task[Exit] | None = None

    @property
    def engine_ref(self) -> str:
        return f"{self.container}@{self._record.record.root}"

    def watch(self) -> None:
        """Raises OSError when its log cannot be written here."""
        if (known := self._record.record.exit or self._over) is not None:
            self._exit.set_result(known)
            self._close()
            return
        self._spool = Spool(beside(self._directory, LOG), _Log(self._link, self.container), self._record)
        self._task = asyncio.create_task(self._story(self._spool), name=f"spool {self.ref.name}")
        self._task.add_done_callback(self._settle)

    def has_stopped(self) -> None:
        """Others heard that it does not run any more."""
        spool = self._spool
        if spool is not None and asyncio.get_running_loop().time() - spool.heard_at > SILENT_S:
            spool.nudge()

    async def lose(self, why: EngineUnreachable | None) -> None:
        """Stop watching; what runs goes on. Whoever waits is told `why`."""
        if not self._exit.done():
            self._exit.set_exception(why or _unwatched(self.ref))
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._close()

    async def lines(self, offset: int) -> AsyncIterator[Sequence[RawLine]]:
        try:
            tail = Tail(beside(self._directory, LOG), offset, self._log_keep)
        except FileNotFoundError:
            await self.wait()
            return
        try:
            while True:
                ended = self._exit.done()
                grown = self._spool.grown if self._spool is not None else None
                batch = tail.read()
                if batch is not None:
                    if batch:
                        yield batch
                    await asyncio.sleep(0)
                elif ended:
                    break
                else:
                    assert grown is not None
                    await self._either(grown)
            if last := tail.rest():
                yield last
        finally:
            tail.close()
        await self.wait()  # raises what made it end early

    async def stop(self) -> None:
        await self._signal("SIGTERM")

    async def kill(self) -> None:
        """The kernel ends all of a container with its first process."""
        await self._signal("SIGKILL")

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def fetch(self, name: str, last: int | None = None) -> bytes:
        if self._files is not None and self.exit is None:
            return await self._files.read(self.container, name)
        return await asyncio.to_thread(read_plain, self._directory / name, last)

    async def enter(self, argv: Sequence[str], term: str, tty: bool, hears: bool) -> DockerShell:
        directory = str(self._directory)
        return await DockerShell.open(
            self._link, self.container, argv, directory=directory, term=term, tty=tty, hears=hears
        )

    async def _signal(self, name: str) -> None:
        if self.exit is not None:
            return
        try:
            await self._link.signal(self.container, name)
        except Refused as refused:
            raise EngineUnreachable(
                f"{self._link.node} could not send {name} to {self.ref.name}: {refused}"
            ) from refused

    async def _either(self, grown: asyncio.Event) -> None:
        waiting = asyncio.ensure_future(grown.wait())
        try:
            await asyncio.wait({waiting, self._exit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def _story(self, spool: Spool) -> Exit:
        keeping = asyncio.create_task(self._keep(self._files), name=f"fetch {self.ref.name}") if self._files else None
        try:
            await spool.run(self._has_ended)
        finally:
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait({keeping})
        exit = self._how(await self._link.inspect(self.container))
        if self._files is not None:
            await self._files.bring(self.container, self.image)
        known = self._record.record
        known.ended, known.code, known.oom_killed = True, exit.code, exit.oom_killed
        await asyncio.to_thread(self._record.save, durable=True)
        return exit

    async def _keep(self, files: Files) -> None:
        while True:
            await asyncio.sleep(self._fetch_s)
            try:
                await files.keep(self.container)
            except (EngineUnreachable, OSError, TarError) as error:
                _log.warning("the checkpoints of %s could not be fetched now: %s", self.ref.name, error)

    def _settle(self, task: asyncio.Task[Exit]) -> None:
        self._close()
        if not self._exit.done():
            if task.cancelled():
                self._exit.set_exception(_unwatched(self.ref))
            elif (error := task.exception()) is not None:
                self._exit.set_exception(error)
            else:
                self._exit.set_result(task.result())
        self._on_end(self)

    async def _has_ended(self) -> bool:
        """Raises EngineUnreachable, also when another daemon answers in its place."""
        found = await self._link.inspect(self.container)
        if found is None:
            await self._same_daemon()
            return True
        return not found["State"]["Running"]

    async def _same_daemon(self) -> None:
        root = await self._link.root(afresh=True)
        if not same_data(root, self._record.record.root):
            raise other_daemon(self._link.node, self.ref)

    def _how(self, found: Mapping[str, Any] | None) -> Exit:
        if found is None:
            return Exit(None)  # removed behind our back
        state = found["State"]
        code: int = state["ExitCode"]
        if code == _LOST and not self._seen_all:
            return Exit(None)
        return Exit(code, oom_killed=bool(state["OOMKilled"]))

    @property
    def exit(self) -> Exit | None:
        """Once it has ended, was seen to, and it is written down."""
        return self._exit.result() if self._exit.done() and self._exit.exception() is None else None

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.close()
        self._record.close()


class _Log:
    """Its log on its daemon."""

    def __init__(self, link: Link, container: str) -> None:
        self._link = link
        self._path = f"containers/{container}/logs"

    async def read(self, since: str, *, follow: bool) -> AsyncGenerator[bytes, None]:
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "since": since, "follow": "1" if follow else "0"}
        with suppress(Refused):  # the container is gone, and its log with it
            async for data in self._link.chunks(self._path, params):
                yield data

    async def last(self) -> bytes:
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "tail": "1"}
        entry = b""
        with suppress(Refused):
            async for data in self._link.chunks(self._path, params):
                entry += data
        return entry[8:]


def other_daemon(node: str, ref: AttemptRef) -> EngineUnreachable:
    return EngineUnreachable(
        f"{node} answers, but it is not the daemon that {ref.name} was started on, or has lost its data"
    )


def _unwatched(ref: AttemptRef) -> EngineUnreachable:
    return EngineUnreachable(f"{ref.name} is not watched any more")


def _noted(exit: "asyncio.Future[Exit]") -> None:
    """An end that nobody waits for is no error."""
    if not exit.cancelled():
        exit.exception()
