"""Jobs as containers of one Docker daemon, on this machine, in a sandbox or far away. They survive the broker.

The daemon is the witness: a name is given out once (409), and only the daemon that an attempt was started on, known by
its data, can say that it has ended or never was.
"""

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from broker.engines import container
from broker.engines.base import AttemptRef, Exit, Inventory, Launch, Remnant
from broker.engines.container import BROKER_LABEL, Template
from broker.engines.docker_attempt import DockerAttempt, other_daemon
from broker.engines.docker_errors import Refused, is_missing, never_asked, not_started
from broker.engines.docker_files import Files
from broker.engines.docker_folder import prepare
from broker.engines.docker_host import Host
from broker.engines.docker_link import Link
from broker.engines.docker_pull import named, pull, says_from_where
from broker.engines.docker_record import RecordFile
from broker.engines.docker_usage import Usage
from broker.errors import AlreadyLaunched, AttemptGone, EngineError, EngineUnreachable
from broker.protocol.fleet import HostSample

RECONCILE_S = 5.0  # between two looks at all of our containers: the truth
WAKE_S = 1.0  # between an event that wakes us and the look: a log that ends by itself is faster
EVENTS_AGAIN_S = (1.0, 15.0)  # first and longest pause before the daemon's events are listened to again
_RUNS = frozenset({"running", "paused", "restarting"})
_log = logging.getLogger(__name__)


class DockerEngine:
    """`gpus`: UUIDs that jobs may be given."""

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
        self._broker_id = broker_id
        self._link = link
        self._template = template
        self._jobs_dir = jobs_dir
        self._usage = usage
        self._host = host
        self._log_keep = log_keep_mib * 1024 * 1024
        self._attempts: dict[AttemptRef, DockerAttempt] = {}
        self._starting: set[AttemptRef] = set()
        self._attaching: WeakValueDictionary[AttemptRef, asyncio.Lock] = WeakValueDictionary()
        self._watching: list[asyncio.Task[None]] = []
        self._removing: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self._digests: dict[tuple[str, str], str] = {}  # of (name, id) of an image

    @property
    def node(self) -> str:
        return self._link.node

    async def inventory(self) -> Inventory:
        self._watch()
        info = await self._link.info()
        found = await self._ours()
        alive = sorted((ref for ref, each in found.items() if each["State"] in _RUNS), key=lambda ref: ref.name)
        ended = await asyncio.to_thread(self._unasked, [ref for ref in found if ref not in set(alive)])
        memory_mib = int(info["MemTotal"]) // (1024 * 1024)
        return Inventory(self.node, float(info["NCPU"]), memory_mib, tuple(self._usage.gpu_uuids), tuple(alive), ended)

    async def sample(self) -> HostSample:
        self._watch()
        return await self._usage.sample([each.container for each in self._attempts.values() if each.exit is None])

    async def contact(self) -> None:
        await self._link.contact()

    async def launch(self, launch: Launch) -> DockerAttempt:
        """Raises AlreadyLaunched, AttemptGone (the node has no room: it never started, and never will), EngineError
        (this can never be started), EngineUnreachable (it may run)."""
        self._watch()
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
            made = await self._create(launch)
            if (files := self._files(ref, launch.directory)) is not None:
                await self._put(files, launch, made)
            await self._start(launch, made)
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
            record.record.image = await self._image_of(await self._link.inspect(made))
        await self._note_life(record)
        return self._followed(ref, launch.directory, made, record, seen_all=True)

    async def attach(self, ref: AttemptRef, directory: Path, engine_ref: str) -> DockerAttempt:
        """Raises AttemptGone, EngineUnreachable: nobody answers, or another daemon does."""
        self._watch()
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
        """Containers and volumes with our labels."""
        label = f"{BROKER_LABEL}={self._broker_id}"
        containers = [
            Remnant("container", each["Names"][0].strip("/"), ref, each["State"])
            for each in await self._link.listed(label)
            if (ref := container.ref_of(each["Labels"])) is not None
        ]
        volumes = [
            Remnant("volume", each["Name"], ref, "left")
            for each in await self._link.volumes(label)
            if (ref := container.ref_of(each["Labels"])) is not None
        ]
        return containers + volumes

    async def discard(self, remnant: Remnant) -> None:
        try:
            if remnant.kind == "container":
                await self._link.remove(remnant.name, force=True)
            else:
                await self._link.remove_volume(remnant.name)
        except Refused as refused:
            raise EngineError(f"{self.node} could not remove {remnant.name}: {refused}") from refused

    async def close(self) -> None:
        for task in (*self._watching, *self._removing):
            task.cancel()
        await asyncio.gather(*self._watching, *self._removing, return_exceptions=True)
        self._watching.clear()
        await self._lose_all(None)
        await self._usage.close()
        await self._link.close()
        if self._host is not None:
            await self._host.close()

    # --- one attempt ---

    async def _create(self, launch: Launch) -> str:
        """An image that is missing is pulled first: nobody who has it waits for a look."""
        body = container.body(launch, self._template)
        image: str = body["Image"]
        try:
            try:
                return await self._link.create(launch.ref.name, body)
            except Refused as refused:
                if not (self._template.pull and says_from_where(image) and is_missing(refused)):
                    raise
            await pull(self._link, image, launch.tell)
            return await self._link.create(launch.ref.name, body)
        except Refused as refused:
            if refused.status == 409 and "in use" in refused.message:
                raise AlreadyLaunched(f"{launch.ref.name} was started before") from refused
            raise not_started(self.node, image, refused) from refused

    def _files(self, ref: AttemptRef, directory: Path) -> Files | None:
        return None if self._template.shared else Files(self._link, ref, directory)

    async def _put(self, files: Files, launch: Launch, made: str) -> None:
        try:
            await files.put(made, launch, self._template.user)
        except Refused as refused:
            await self._remove(launch.ref, made)
            raise not_started(self.node, launch.image or self._template.image, refused) from refused
        except OSError as error:
            await self._remove(launch.ref, made)
            raise EngineError(
                f"what {launch.ref.name} goes on from cannot be read here ({error}); nothing was started"
            ) from error

    async def _image_of(self, found: Mapping[str, Any] | None) -> str:
        """`name@sha256:...`: the digest that its registry knows it by, else the daemon's own. Raises
        EngineUnreachable."""
        if found is None:
            return ""
        name, own = str(found["Config"]["Image"]), str(found["Image"])
        if (name, own) not in self._digests:
            image: Mapping[str, Any] = {}
            with suppress(Refused):  # it was removed while it is in use
                image = await self._link.get(f"images/{own}/json")
            plain = named(name)[0].partition("@")[0]
            known = (each.partition("@") for each in image.get("RepoDigests") or ())
            digest = next((digest for repo, _, digest in known if repo == plain), own)
            self._digests[name, own] = f"{name.partition('@')[0]}@{digest}"
        return self._digests[name, own]

    async def _start(self, launch: Launch, made: str) -> None:
        try:
            await self._link.start(made)
        except Refused as refused:
            found = await self._link.inspect(made)
            if found is not None and found["State"]["Running"]:
                return
            await self._remove(launch.ref, made)
            raise not_started(self.node, launch.image or self._template.image, refused) from refused

    async def _found(
        self, ref: AttemptRef, directory: Path, engine_ref: str, record: RecordFile | None
    ) -> DockerAttempt:
        """By its name, on the daemon where it was started."""
        root = await self._link.root()
        expected = record.record.root if record is not None else engine_ref.partition("@")[2]
        found = await self._link.inspect(ref.name)
        if found is not None and found["State"]["Status"] == "created" and await self._never_starts(ref, found["Id"]):
            found = None
        if found is None or (expected and _data(root) != _data(expected)):
            root = await self._link.root(afresh=True)
        if expected and _data(root) != _data(expected):
            raise other_daemon(self.node, ref)
        if found is None:
            raise AttemptGone(f"{ref.name} is not on {self.node}, says its daemon")
        if container.ref_of(found["Config"]["Labels"]) != ref:
            raise AttemptGone(f"a container of somebody else's is called {ref.name} on {self.node}: rename it")
        if record is None:
            if not await asyncio.to_thread(directory.exists):
                await self._end(ref, found["Id"])
                raise AttemptGone(f"{ref.name} ran on {self.node} without a directory, and was ended")
            record = await asyncio.to_thread(RecordFile.renew, directory, root)
        record.record.container = found["Id"]
        if found["State"]["Running"]:
            await self._note_life(record)
        record.record.image = record.record.image or await self._image_of(found)
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

    async def _never_starts(self, ref: AttemptRef, made: str) -> bool:
        """Remove a container that was made and never started. False when it was, in this instant."""
        try:
            await self._link.remove(made)
        except Refused as refused:
            _log.info("%s: %s", ref.name, refused)
            return False
        await self._forget(ref)
        return True

    async def _end(self, ref: AttemptRef, made: str) -> None:
        try:
            await self._link.remove(made, force=True)
        except Refused as refused:
            raise EngineUnreachable(f"{self.node} could not end {ref.name}: {refused}") from refused

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
            files=self._files(ref, directory),
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
            task = asyncio.create_task(self._remove(attempt.ref, attempt.container), name=f"remove {attempt.ref.name}")
            self._removing.add(task)
            task.add_done_callback(self._removing.discard)

    async def _remove(self, ref: AttemptRef, made: str) -> None:
        """What cannot be removed now is met again by `_reap`."""
        try:
            await self._link.remove(made)
            await self._forget(ref)
        except (Refused, EngineError) as error:
            _log.warning("the container of %s stays for now: %s", ref.name, error)

    async def _forget(self, ref: AttemptRef) -> None:
        """Its files, which are here or of no use. Raises EngineUnreachable."""
        if (files := self._files(ref, self._jobs_dir / str(ref.job_id) / str(ref.fence))) is not None:
            try:
                await files.forget()
            except Refused as refused:
                _log.warning("the volume of %s stays for now: %s", ref.name, refused)

    # --- all of them ---

    def _watch(self) -> None:
        if not self._watching:
            self._watching = [
                asyncio.create_task(self._reconcile(), name=f"reconcile {self.node}"),
                asyncio.create_task(self._heed_events(), name=f"events {self.node}"),
            ]

    async def _reconcile(self) -> None:
        while True:
            self._look.clear()
            try:
                found = await self._ours()
            except EngineUnreachable as error:
                await self._lose_all(error)
            else:
                for ref, attempt in list(self._attempts.items()):
                    if ref not in found or found[ref]["State"] not in _RUNS:
                        attempt.has_stopped()
                await self._reap(found)
            try:
                async with asyncio.timeout(RECONCILE_S):
                    await self._look.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(WAKE_S)

    async def _heed_events(self) -> None:
        """They only wake us earlier."""
        filters = {"type": ["container"], "event": ["die"], "label": [f"{BROKER_LABEL}={self._broker_id}"]}
        pause = EVENTS_AGAIN_S[0]
        while True:
            try:
                async with self._link.stream("events", {"filters": json.dumps(filters)}) as content:
                    pause = EVENTS_AGAIN_S[0]
                    async for _ in content:
                        self._look.set()
            except (EngineError, Refused) as error:
                _log.debug("events of %s: %s", self.node, error)
            self._link.doubt()
            self._look.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, EVENTS_AGAIN_S[1])

    async def _ours(self) -> dict[AttemptRef, Mapping[str, Any]]:
        found: dict[AttemptRef, Mapping[str, Any]] = {}
        for each in await self._link.listed(f"{BROKER_LABEL}={self._broker_id}"):
            ref = container.ref_of(each["Labels"])
            if ref is not None:
                found[ref] = each
        return found

    async def _reap(self, found: Mapping[AttemptRef, Mapping[str, Any]]) -> None:
        """Remove containers that have ended and that nobody will ask about."""
        for ref, each in found.items():
            if each["State"] in _RUNS or ref in self._attempts or ref in self._starting:
                continue
            if not await asyncio.to_thread(self._is_past, ref):
                continue
            if self._template.shared or await asyncio.to_thread(self._has_all_of, ref):
                await self._remove(ref, each["Id"])
            else:
                await self._take_leave(ref)
        if not self._template.shared:
            await self._reap_volumes(found)

    async def _take_leave(self, ref: AttemptRef) -> None:
        """Of one that was given up while its node was away: its files are brought here, then it goes."""
        try:
            await self.attach(ref, self._jobs_dir / str(ref.job_id) / str(ref.fence), "")
        except EngineError as error:
            _log.info("%s stays for now: %s", ref.name, error)

    async def _reap_volumes(self, found: Mapping[AttemptRef, Mapping[str, Any]]) -> None:
        for each in await self._link.volumes(f"{BROKER_LABEL}={self._broker_id}"):
            ref = container.ref_of(each["Labels"])
            if ref is None or ref in found or ref in self._attempts or ref in self._starting:
                continue
            if await asyncio.to_thread(self._has_all_of, ref):
                await self._forget(ref)

    def _has_all_of(self, ref: AttemptRef) -> bool:
        """Its files are here, or its job was removed. Blocking."""
        directory = self._jobs_dir / str(ref.job_id) / str(ref.fence)
        record = RecordFile.open(directory) if directory.exists() else None
        if record is None:
            return not directory.exists()
        record.close()
        return record.record.ended

    def _unasked(self, ended: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
        """Those that `_reap` leaves. Blocking."""
        busy = self._attempts.keys() | self._starting
        return tuple(ref for ref in ended if ref not in busy and not self._is_past(ref))

    def _is_past(self, ref: AttemptRef) -> bool:
        """Its end and its log are on disk, or its job was removed. Blocking."""
        directory = self._jobs_dir / str(ref.job_id) / str(ref.fence)
        if not directory.exists():
            return True
        record = RecordFile.open(directory)
        if record is None:
            return False
        record.close()
        return record.record.ended

    async def _lose_all(self, why: EngineUnreachable | None) -> None:
        attempts, self._attempts = list(self._attempts.values()), {}
        for attempt in attempts:
            await attempt.lose(why)


def _data(root: str) -> str:
    """A sandbox that was made anew around the same data is the same daemon."""
    return root.partition("/")[2]
