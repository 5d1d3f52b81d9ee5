"""A container of an attempt is made, given its files, and started; its image is pulled first where it is missing."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from broker.engines import container
from broker.engines.base import Launch
from broker.engines.container import Template
from broker.engines.docker_errors import Refused, is_missing, not_started
from broker.engines.docker_files import Files
from broker.engines.docker_link import Link
from broker.engines.docker_pull import named, pull, says_from_where
from broker.engines.docker_remains import Remains
from broker.errors import AlreadyLaunched, EngineError


class Launching:
    def __init__(self, link: Link, template: Template, remains: Remains) -> None:
        self._link = link
        self._template = template
        self._remains = remains
        self._digests: dict[tuple[str, str], str] = {}  # of (name, id) of an image

    async def start(self, launch: Launch) -> str:
        """The container's id. Raises AlreadyLaunched, EngineError (this can never be started; nothing of it is left),
        EngineUnreachable (it may run)."""
        made = await self._create(launch)
        if (files := self._remains.files(launch.ref, launch.directory)) is not None:
            await self._put(files, launch, made)
        await self._start(launch, made)
        return made

    async def image_of(self, found: Mapping[str, Any] | None) -> str:
        """`name@sha256:...` of an inspected container: the digest that its registry knows it by, else the daemon's own.
        Raises EngineUnreachable."""
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
            raise not_started(self._link.node, image, refused) from refused

    async def _put(self, files: Files, launch: Launch, made: str) -> None:
        try:
            await files.put(made, launch, self._template.user)
        except Refused as refused:
            await self._remains.remove(launch.ref, made)
            raise not_started(self._link.node, launch.image or self._template.image, refused) from refused
        except OSError as error:
            await self._remains.remove(launch.ref, made)
            raise EngineError(
                f"what {launch.ref.name} goes on from cannot be read here ({error}); nothing was started"
            ) from error

    async def _start(self, launch: Launch, made: str) -> None:
        try:
            await self._link.start(made)
        except Refused as refused:
            found = await self._link.inspect(made)
            if found is not None and found["State"]["Running"]:
                return
            await self._remains.remove(launch.ref, made)
            raise not_started(self._link.node, launch.image or self._template.image, refused) from refused
