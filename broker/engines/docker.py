"""Jobs as containers of one Docker daemon, on this machine, in a sandbox or far away. They survive the broker.

The daemon is the witness: a name is given out once (409), and only the daemon that an attempt was started on, known by
its data, can say that it has ended or never was.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

from broker.engines import container
from broker.engines.base import AttemptRef, Exit, Inventory, Launch, Remnant
from broker.engines.container import Template
from broker.engines.docker_attempt import DockerAttempt, other_daemon
from broker.engines.docker_errors import never_asked
from broker.engines.docker_folder import prepare
from broker.engines.docker_host import Host
from broker.engines.docker_launch import Launching
from broker.engines.docker_link import Link
from broker.engines.docker_record import RecordFile, same_data
from broker.engines.docker_remains import Remains
from broker.engines.docker_usage import Usage
from broker.engines.docker_watch import RUNS, Watch
from broker.errors import AlreadyLaunched, AttemptGone, EngineError, EngineUnreachable
from broker.protocol.fleet import HostSample

_log = logging.getLogger(__name__)


class DockerEngine:
    """`host`: the witness of a daemon that is itself in a container."""

    def __init__(
        self,
        broker_id: str,
        link: Link,
        template: Template,
        *,
        jobs_dir: Path,
        usage: Usage,
        log_keep_mib: int = 512,
        host: Host | None = None,
    ) -> None:
        self._link = link
        self._template = template
        self._usage = usage
        self._host = host
        self._log_keep = log_keep_mib * 1024 * 1024
        self._attempts: dict[AttemptRef, DockerAttempt] = {}
        self._starting: set[AttemptRef] = set()
        self._attaching: WeakValueDictionary[AttemptRef, asyncio.Lock] = WeakValueDictionary()
        self._removing: set[asyncio.Task[None]] = set()
        self._remains = Remains(broker_id, link, jobs_dir, template.shared)
        self._launching = Launching(link, template, self._remains)
        self._watch = Watch(link, self._remains, self._attempts, self._starting)

    @property
    def node(self) -> str:
        return self._link.node

    async def inventory(self) -> Inventory:
        self._watch.begin()
        info = await self._link.info()
        found = await self._remains.containers()
        alive = sorted((ref for ref, each in found.items() if each["State"] in RUNS), key=lambda ref: ref.name)
        ended = await asyncio.to_thread(self._watch.unasked, [ref for ref in found if ref not in set(alive)])
        memory_mib = int(info["MemTotal"]) // (1024 * 1024)
        return Inventory(self.node, float(info["NCPU"]), memory_mib, tuple(self._usage.gpu_uuids), tuple(alive), ended)

    async def sample(self) -> HostSample:
        self._watch.begin()
        return await self._usage.sample([each.container for each in self._attempts.values() if each.exit is None])

    async def contact(self) -> None:
        await self._link.contact()

    async def launch(self, launch: Launch) -> DockerAttempt:
        """Raises AlreadyLaunched, AttemptGone (the node has no room: it never started, and never will), EngineError
        (this can never be started), EngineUnreachable (it may run)."""
        self._watch.begin()
        ref = launch.ref
        root = await self._link.root()
        try:
            record = await asyncio.to_thread(RecordFile.create, launch.directory, root)
        except FileExistsError:
            raise AlreadyLaunched(f"{ref.name} was started before") from None
        except OSError as error:
            raise EngineError(
                f"the attempt's directory cannot be made ({error}); nothing was started: make room, and resume it"
            ) from error
        self._starting.add(ref)
        try:
            await asyncio.to_thread(prepare, launch.directory, self._template.user if self._template.shared else "")
            made = await self._launching.start(launch)
        except EngineUnreachable as error:
            record.close()
            if never_asked(error):
                raise AttemptGone(f"{error}; nothing was started") from error
            raise
        except BaseException:
            record.close()
            raise
        finally:
            self._starting.discard(ref)
        record.record.container = made
        with suppress(EngineUnreachable):
            record.record.image = await self._launching.image_of(await self._link.inspect(made))
        await self._note_life(record)
        return self._followed(ref, launch.directory, made, record, seen_all=True)

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> DockerAttempt:
        """Raises AttemptGone, EngineUnreachable: nobody answers, or another daemon does."""
        self._watch.begin()
        lock = self._attaching.setdefault(ref, asyncio.Lock())
        async with lock:
            return await self._attach(ref, directory, engine_ref)

    async def _attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> DockerAttempt:
        if (before := self._attempts.pop(ref, None)) is not None:
            await before.lose(None)
        record = await asyncio.to_thread(RecordFile.open, directory)
        if record is not None and record.record.ended:
            return self._followed(ref, directory, record.record.container, record, seen_all=False)
        try:
            return await self._found(ref, directory, engine_ref, record)
        except EngineUnreachable:
            if record is None or not await self._is_over(record.record.life):
                raise
            _log.warning("%s ended with the sandbox that it ran in, says the host of %s", ref.name, self.node)
            return self._followed(ref, directory, record.record.container, record, seen_all=False, over=Exit(None))
        finally:
            if record is not None and ref not in self._attempts:
                record.close()

    async def remnants(self) -> Sequence[Remnant]:
        return await self._remains.all()

    async def discard(self, remnant: Remnant) -> None:
        await self._remains.discard(remnant)

    async def close(self) -> None:
        for task in self._removing:
            task.cancel()
        await asyncio.gather(*self._removing, return_exceptions=True)
        await self._watch.end()
        await self._usage.close()
        await self._link.close()
        if self._host is not None:
            await self._host.close()

    # --- one attempt ---

    async def _found(
        self, ref: AttemptRef, directory: Path, engine_ref: str, record: RecordFile | None
    ) -> DockerAttempt:
        """By its name, on the daemon where it was started."""
        root = await self._link.root()
        expected = record.record.root if record is not None else engine_ref.partition("@")[2]
        found = await self._link.inspect(ref.name)
        if (
            found is not None
            and found["State"]["Status"] == "created"
            and await self._remains.remove_unstarted(ref, found["Id"])
        ):
            found = None
        if found is None or (expected and not same_data(root, expected)):
            root = await self._link.root(afresh=True)
        if expected and not same_data(root, expected):
            raise other_daemon(self.node, ref)
        if found is None:
            raise AttemptGone(f"{ref.name} is not on {self.node}, says its daemon")
        if container.ref_of(found["Config"]["Labels"]) != ref:
            raise AttemptGone(f"a container of somebody else's is called {ref.name} on {self.node}: rename it")
        if record is None:
            if not await asyncio.to_thread(directory.exists):
                await self._remains.end(ref, found["Id"])
                raise AttemptGone(f"{ref.name} ran on {self.node} without a directory, and was ended")
            record = await asyncio.to_thread(RecordFile.renew, directory, root)
        record.record.container = found["Id"]
        if found["State"]["Running"]:
            await self._note_life(record)
        record.record.image = record.record.image or await self._launching.image_of(found)
        await asyncio.to_thread(prepare, directory, "")
        return self._followed(ref, directory, found["Id"], record, seen_all=False)

    async def _note_life(self, record: RecordFile) -> None:
        """Asked after it was seen to run: should its sandbox have ended in between, this is said by its daemon."""
        if self._host is not None:
            with suppress(EngineUnreachable):
                record.record.life = await self._host.life()
                record.save()

    async def _is_over(self, life: str) -> bool:
        if self._host is None or not life:
            return False
        try:
            return await self._host.is_over(life)
        except EngineUnreachable as error:
            _log.debug("%s: %s", self.node, error)
            return False

    def _followed(
        self,
        ref: AttemptRef,
        directory: Path,
        made: str,
        record: RecordFile,
        *,
        seen_all: bool,
        over: Exit | None = None,
    ) -> DockerAttempt:
        attempt = DockerAttempt(
            self._link,
            ref,
            directory,
            made,
            record,
            log_keep=self._log_keep,
            seen_all=seen_all,
            image=record.record.image,
            files=self._remains.files(ref, directory),
            fetch_s=self._template.fetch_s,
            on_end=self._has_ended,
            over=over,
        )
        attempt.watch()
        if attempt.exit is None:
            self._attempts[ref] = attempt
        return attempt

    def _has_ended(self, attempt: DockerAttempt) -> None:
        if self._attempts.get(attempt.ref) is attempt:
            del self._attempts[attempt.ref]
        if attempt.exit is not None:
            task = asyncio.create_task(
                self._remains.remove(attempt.ref, attempt.container), name=f"remove {attempt.ref.name}"
            )
            self._removing.add(task)
            task.add_done_callback(self._removing.discard)
