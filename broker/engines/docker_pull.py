"""An image that a node lacks, brought there by its daemon from the registry that its name says: told in bytes while it
comes, and tried again where it breaks off (the daemon keeps the layers that came whole)."""

import asyncio
import base64
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from broker.engines.docker_errors import ABSENT, REFUSED, Refused, not_pulled
from broker.engines.docker_link import SLOW_S, Link

T = TypeVar("T")
TRIES = 4
AGAIN_S = 1.0  # before the second try; doubles
TOLD_S = 1.0  # between two words about it
STALLED_S = 180.0  # without a word of the daemon
_HUB = "https://index.docker.io/v1/"  # Docker's own registry, as `docker login` calls it
_NEVER = (*REFUSED, *ABSENT, "no space left", "x509")  # said once, it is said again

Tell = Callable[[str], Awaitable[None]]


def says_from_where(image: str) -> bool:
    """Names without a registry or an owner are given here, and what anybody else calls so is something else."""
    return "/" in image


async def pull(link: Link, image: str, tell: Tell) -> None:
    """Raises EngineError when it cannot be had, EngineUnreachable, and whatever `tell` raises: then it is given up."""
    await tell(f"{link.node} has no image {image}: it is pulled")
    tries, pause = 0, AGAIN_S
    while True:
        progress = Progress(image)
        why = await _told(_pulled(link, image, progress), progress.__str__, tell)
        tries += 1
        if not why:
            return
        if tries == TRIES or any(word in why.lower() for word in _NEVER):
            raise not_pulled(link.node, image, why, tries)
        await tell(f"the pull of {image} broke off and is tried again: {why}")
        await _told(asyncio.sleep(pause), lambda: f"pulling {image} again", tell)
        pause *= 2


class Progress:
    """What the daemon says of the layers, in a line."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, tuple[int, int]] = {}  # bytes that came, of so many
        self._done: set[str] = set()

    def hear(self, line: Mapping[str, Any]) -> None:
        layer, status = str(line.get("id") or ""), str(line.get("status") or "")
        if not layer or status.startswith(("Pulling from", "Digest", "Status")):
            return
        here, total = self._layers.get(layer, (0, 0))
        detail: Mapping[str, Any] = line.get("progressDetail") or {}
        if status == "Downloading":
            here, total = int(detail.get("current") or 0), int(detail.get("total") or total)
        elif status in {"Download complete", "Verifying Checksum", "Extracting", "Pull complete"}:
            here = total
        if status in {"Pull complete", "Already exists"}:
            self._done.add(layer)
        self._layers[layer] = (here, total)

    def __str__(self) -> str:
        here, total = (sum(part) for part in zip(*self._layers.values(), strict=True)) if self._layers else (0, 0)
        sizes = f": {_size(here)} of {_size(total)}" if total else ""
        layers = f", {len(self._done)} of {len(self._layers)} layers" if self._layers else ""
        return f"pulling {self._image}{sizes}{layers}"


async def _told(work: Awaitable[T], words: Callable[[], str], tell: Tell) -> T:
    """Does it, with a word now and then. It is left half done when a word is not wanted any more."""
    doing = asyncio.ensure_future(work)
    try:
        while True:
            await asyncio.wait({doing}, timeout=TOLD_S)
            if doing.done():
                return await doing
            await tell(words())
    finally:
        doing.cancel()
        await asyncio.wait({doing})


async def _pulled(link: Link, image: str, progress: Progress) -> str:
    """'' when it is there, else why it is not. Raises EngineUnreachable."""
    name, tag = named(image)
    params = {"fromImage": name, **({"tag": tag} if tag else {})}
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(STALLED_S) as patience,
            link.stream("images/create", params, post=True, headers=_credentials(image), begins_s=SLOW_S) as content,
        ):
            rest = b""
            async for data in content.iter_any():
                patience.reschedule(loop.time() + STALLED_S)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if said := _heard(line, progress):
                        return said
            return _heard(rest, progress)
    except Refused as refused:
        return refused.message
    except TimeoutError:
        return f"nothing came for {STALLED_S:.0f} s"


def _heard(line: bytes, progress: Progress) -> str:
    """What went wrong, if that is what it says."""
    if not line.strip():
        return ""
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return "its daemon was cut off in the middle of a word"
    progress.hear(said)
    return str(said.get("error") or "")


def named(image: str) -> tuple[str, str]:
    """("host:5000/name", "tag"); without a tag "latest", as a daemon that is not told one pulls them all. What is
    named by its digest has none."""
    if "@" in image:
        return image, ""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _credentials(image: str) -> dict[str, str]:
    """As `docker login` of the broker's user keeps them."""
    host = image.partition("/")[0]
    registry = host if "." in host or ":" in host or host == "localhost" else _HUB
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        known = base64.b64decode(json.loads(path.read_text())["auths"][registry]["auth"]).decode()
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    user, _, password = known.partition(":")
    shown = json.dumps({"username": user, "password": password, "serveraddress": registry})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(shown.encode()).decode()}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
