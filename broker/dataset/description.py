"""Reads a data.yaml by Ultralytics' rules: where the images are, which classes there are, what a label's row holds."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from broker.dataset.files import read_text
from broker.dataset.tally import Tally
from broker.protocol import document
from broker.protocol.datasets import described_by

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


@dataclass(slots=True)
class Description:
    file: Path
    root: Path  # what its paths are relative to
    splits: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])  # folders or text files of each
    names: list[str] = field(default_factory=list[str])
    keypoints: tuple[int, int] | None = None  # how many, and columns of each (2 or 3)


def find(path: Path, tally: Tally) -> Path | None:
    """The data.yaml that `train.data` names: the file, or the one in the folder."""
    if path.is_file():
        if path.suffix in {".yaml", ".yml"}:
            return path
        tally.error("data", str(path), "is neither a data.yaml nor a folder", "an archive must be unpacked first")
        return None
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    if (chosen := described_by(path, files)) is not None:
        return path / chosen.name
    if files:
        names = ", ".join(file.name for file in files[:5])
        message = f"holds {len(files)} .yaml files ({names}), and none is called data.yaml"
        tally.error("data", str(path), message, "name the one that is meant")
    else:
        tally.error("data", str(path), "holds no data.yaml", "write one with train, val and names")
    return None


def own_datasets() -> Path:
    """Where this user's own Ultralytics has its data sets, as trainer/environment.py chooses it (a test compares)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wyolo" / "datasets"
    base = os.environ.get("YOLO_CONFIG_DIR") or os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    try:
        said: object = json.loads((Path(base) / "Ultralytics" / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return cache
    return Path(str(cast("dict[str, Any]", said).get("datasets_dir") or cache)) if isinstance(said, dict) else cache


def load(file: Path, splits: Iterable[str], tally: Tally, datasets: Path | None = None) -> Description | None:
    """Train and val must be there whatever is asked for. None after an error that leaves nothing more to check.

    `datasets`: the folder of data sets that the trainer will have; None: it will have none of this machine.
    """
    try:
        values = document.parse(read_text(file, document.MAX_BYTES))
    except document.DocumentError as error:
        where = f"{file}: {error.finding.where}" if error.finding.where else str(file)
        tally.error("data.yaml", where, error.finding.message, error.finding.hint)
        return None
    except (OSError, ValueError) as error:
        tally.error("data.yaml", str(file), f"cannot be read: {_reason(error)}")
        return None
    if values.get("download"):
        tally.warn("download", str(file), "`download` is not run", "fetch the images before you submit")
    splits = tuple(dict.fromkeys(("train", "val", *splits)))
    description = Description(file=file, root=_root(file, values, tally, datasets))
    entries = [entry for split in splits for entry in _entries(values, split)]
    if not description.root.is_dir() and not all(
        isinstance(each, str) and Path(each).is_absolute() for each in entries
    ):
        hint = "a relative `path` is relative to the data.yaml; leave it out where the images lie beside it"
        tally.error("folder", f"{file}: path", f"there is no folder {description.root}", hint)
    description.names = _names(file, values, tally)
    description.keypoints = _keypoints(file, values, tally)
    for split in splits:
        sources = _sources(file, description.root, split, values, tally)
        if sources:
            description.splits[split] = sources
    return description


def _root(file: Path, values: Mapping[str, Any], tally: Tally, datasets: Path | None) -> Path:
    """`path`: where it is not absolute, relative to the data.yaml's folder, or else to that of the data sets."""
    written = values.get("path")
    if written is None or written == "":
        return file.parent
    if not isinstance(written, str) or _URL.match(written):
        tally.error(
            "data.yaml", f"{file}: path", "must be a folder", "leave it out where the images lie beside the file"
        )
        return file.parent
    if datasets is None:
        return file.parent / written
    written = os.path.expanduser(written)  # noqa: PTH111 - it raises nothing where there is no such home
    candidates = (file.parent / written, datasets / written)
    return next((each for each in candidates if each.exists()), candidates[0])


def _entries(values: Mapping[str, Any], split: str) -> list[Any]:
    written = values.get(split) or (values.get("validation") if split == "val" else None)
    if not written:
        return []
    return cast("list[Any]", written if isinstance(written, list) else [written])


def _sources(file: Path, root: Path, split: str, values: Mapping[str, Any], tally: Tally) -> list[Path]:
    where = f"{file}: {split}"
    entries = _entries(values, split)
    if not entries:
        asked = ", and the final validation is to be on it (`split: test`)" if split == "test" else ""
        hint = f"write where the images are, for example `{split}: images/{split}`"
        tally.error("data.yaml", where, f"missing{asked}", hint)
        return []
    sources: list[Path] = []
    for entry in entries:
        if not isinstance(entry, str) or not entry or _URL.match(entry):
            tally.error("data.yaml", where, "must be a folder, a text file, or a list of them")
            continue
        source = root / entry
        if not source.exists() and entry.startswith("../"):
            source = root / entry[3:]  # as exported by Roboflow
        if source.exists():
            sources.append(source.resolve())
        elif root.is_dir() or Path(entry).is_absolute():
            tally.error("folder", where, f"there is no {root / entry}", f"`{split}` is relative to `path`")
    return sources


def _names(file: Path, values: Mapping[str, Any], tally: Tally) -> list[str]:
    """Class names by number; from `nc` where there are none."""
    where = f"{file}: names"
    written, count = values.get("names"), values.get("nc")
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 100_000):
        tally.error("data.yaml", f"{file}: nc", "must be the number of classes")
        count = None
    if written is None:
        if count is None:
            tally.error("data.yaml", where, "missing", "list the classes, for example `names: [cat, dog]`")
        return [f"class_{number}" for number in range(count or 0)]
    if isinstance(written, list):
        names = [str(name) for name in cast("list[Any]", written)]
    elif isinstance(written, dict):
        by_number = cast("dict[str, Any]", written)
        numbers = [int(key) if key.isdecimal() else -1 for key in by_number]
        if sorted(numbers) != list(range(len(numbers))):
            tally.error("data.yaml", where, f"its {len(numbers)} classes must be numbered from 0 without a gap")
            return []
        names = [str(by_number[key]) for key in sorted(by_number, key=int)]
    else:
        tally.error("data.yaml", where, "must be a list of names, or `number: name` lines")
        return []
    if not names:
        tally.error("data.yaml", where, "is empty", "list the classes, for example `names: [cat, dog]`")
    if count is not None and count != len(names):
        tally.error("data.yaml", f"{file}: nc", f"is {count}, but names has {len(names)}", "leave `nc` out")
    return names


def _keypoints(file: Path, values: Mapping[str, Any], tally: Tally) -> tuple[int, int] | None:
    written = values.get("kpt_shape")
    if written is None:
        return None
    match written:
        case [int(count), int(columns)] if count >= 1 and columns in {2, 3}:
            flip = values.get("flip_idx")
            if flip is not None and (not isinstance(flip, list) or len(cast("list[Any]", flip)) != count):
                tally.error("data.yaml", f"{file}: flip_idx", f"must have {count} entries, as kpt_shape says")
            return count, columns
        case _:
            hint = "for example `kpt_shape: [17, 3]`"
            tally.error("data.yaml", f"{file}: kpt_shape", "must be [keypoints, 2 or 3 columns of each]", hint)
            return None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
