"""Builds an image on a daemon from files of this package, with its steps as progress.

An image says in a label what it was built from, so that it is built again only when that has changed.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dind.engine import Engine, Progress, Step
from dind.errors import BuildFailed, EngineRefused, NoImage, told

CONTEXT_LABEL = "wyolo.context"  # hash of the files and arguments that an image was built from
BASE_LABEL = "wyolo.base"
HERE = Path(__file__).parent
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
_LAST_WORDS = 12  # lines of a failed step that are told


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is built from: a Dockerfile of this package, files beside it, and arguments."""

    tag: str
    dockerfile: str
    files: Mapping[str, bytes]
    arguments: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of it all. Equal recipes make equal images, as far as the network lets them."""
        digest = hashlib.sha256(json.dumps(sorted(self.arguments.items())).encode())
        for name, data in self._everything():
            digest.update(f"{name}:{len(data)}:".encode() + data)
        return digest.hexdigest()[:16]

    def packed(self) -> bytes:
        """The compressed tar that a daemon builds it from."""
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
            for name, data in self._everything():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                tar.addfile(entry, io.BytesIO(data))
        return packed.getvalue()

    def _everything(self) -> list[tuple[str, bytes]]:
        return sorted({**self.files, "Dockerfile": (HERE / self.dockerfile).read_bytes()}.items())


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
        with told(f"build {tag}", engine.where):
            async for line in engine.docker.images.build(
                fileobj=io.BytesIO(recipe.packed()),
                encoding="gzip",
                tag=tag,
                nocache=afresh,
                buildargs=recipe.arguments,
                labels={CONTEXT_LABEL: recipe.digest, BASE_LABEL: base},
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
        progress(Step(tag, f"building: {match[3]}", (int(match[1]) - 1) / int(match[2])))
        return
    said.extend(text.splitlines())
    progress(Step(tag, f"building: {said[-1]}"))
