"""Builds an image on a daemon from files of this package, with its steps as progress.

An image says in a label what it was built from, so that it is built again only when that has changed.
"""

import asyncio
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import textwrap
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from dind.engine import Engine, Progress, Step
from dind.errors import BuildFailed, EngineRefused, NoImage, told

CONTEXT_LABEL = "wyolo.context"  # hash of the files and arguments that an image was built from
BASE_LABEL = "wyolo.base"
HERE = Path(__file__).parent
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_STEP_WIDTH = 60  # cells
_LAST_WORDS = 12  # lines of a failed step that are told


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is built from: a Dockerfile of this package, files beside it, and arguments."""

    tag: str
    dockerfile: str
    files: Mapping[str, bytes | Path]
    arguments: Mapping[str, str]
    proxies: Mapping[str, str] = field(default_factory=dict[str, str])  # HTTP_PROXY and such: never kept in the image

    def digest(self) -> str:
        """Of it all, but for the proxies. Equal recipes make equal images, as far as the network lets them."""
        digest = hashlib.sha256(json.dumps(sorted(self.arguments.items())).encode())
        for name, source in self._everything():
            with _opened(source) as data:
                digest.update(f"{name}:{hashlib.file_digest(data, 'sha256').hexdigest()}:".encode())
        return digest.hexdigest()[:16]

    def pack(self, into: IO[bytes]) -> None:
        """The tar that a daemon builds it from."""
        with tarfile.open(fileobj=into, mode="w") as tar:
            for name, source in self._everything():
                with _opened(source) as data:
                    entry = tarfile.TarInfo(name)
                    entry.size, entry.mode = data.seek(0, os.SEEK_END), 0o644
                    data.seek(0)
                    tar.addfile(entry, data)

    def _everything(self) -> list[tuple[str, bytes | Path]]:
        return sorted({**self.files, "Dockerfile": HERE / self.dockerfile}.items())


def _opened(source: bytes | Path) -> io.BytesIO | io.BufferedReader:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


async def inspect(engine: Engine, image: str) -> dict[str, Any] | None:
    """None where the daemon has no such image."""
    return cast(dict[str, Any] | None, await engine.find(f"look for {image}", engine.docker.images.inspect(image)))


def label(image: Mapping[str, Any], name: str) -> str:
    """Empty where it has none: it was not built here."""
    config: dict[str, Any] = image.get("Config") or {}
    labels: dict[str, str] = config.get("Labels") or {}
    return labels.get(name, "")


async def build(engine: Engine, recipe: Recipe, progress: Progress, *, afresh: bool = False) -> dict[str, Any]:
    """What the daemon says of the image. Raises BuildFailed, NoImage (its base), DiskFull, EngineAway."""
    tag, base = recipe.tag, recipe.arguments.get("BASE", "")
    said = deque[str](maxlen=_LAST_WORDS)
    progress(Step(tag, "building", 0.0))
    try:
        with told(f"build {tag}", engine.where), tempfile.TemporaryFile() as packed:
            await asyncio.to_thread(recipe.pack, packed)
            packed.seek(0)
            async for line in engine.docker.images.build(
                fileobj=packed,
                encoding="identity",
                tag=tag,
                nocache=afresh,
                buildargs={**recipe.arguments, **recipe.proxies},
                labels={CONTEXT_LABEL: recipe.digest(), BASE_LABEL: base},
                stream=True,
            ):
                _tell(tag, line, said, progress)
    except EngineRefused as error:
        raise BuildFailed(f"{error}\n" + "\n".join(f"  {line}" for line in said)) from error
    except NoImage as error:
        raise NoImage(f"{error}; its base, {base}, is not there and cannot be got") from error
    found = await inspect(engine, tag)
    if found is None:
        raise BuildFailed(f"{tag} was built on {engine.where} and is gone again")
    return found


def _tell(tag: str, line: Mapping[str, Any], said: deque[str], progress: Progress) -> None:
    text = str(line.get("stream") or line.get("status") or "").strip()
    if not text:
        return
    if match := _STEP.match(text):
        said.clear()
        step = textwrap.shorten(match[3], _STEP_WIDTH, placeholder=" ...")
        progress(Step(tag, f"building: {step}", (int(match[1]) - 1) / int(match[2])))
        return
    said.extend(text.splitlines())
    progress(Step(tag, f"building: {said[-1]}"))
