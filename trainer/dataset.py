"""A person's data set -> what Ultralytics may read of it.

Ultralytics runs a data.yaml's `download:` as a program. It gets a new data.yaml, with the keys that we know and
absolute paths.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import yaml

from broker.protocol.datasets import described_by
from broker.protocol.document import DocumentError, parse
from broker.protocol.job import Task
from broker.protocol.states import EndReason
from trainer.failures import TrainingError

FILE_NAME = "data.yaml"
SPLITS = ("train", "val", "test")
KNOWN = ("names", "nc", "kpt_shape", "flip_idx", "channels")
IMAGES = frozenset(
    {".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp", ".pfm", ".heic", ".avif"}
)
_HASH = 32  # hexadecimal digits, of a cache's name
_REMEDY = "correct train.data and rerun"


@dataclass(frozen=True, slots=True)
class Dataset:
    """`path` is for Ultralytics: a folder (classify), our data.yaml, or the name of a data set that it downloads."""

    path: str
    splits: Mapping[str, tuple[Path, ...]]
    stock: bool = False  # one of its own, which it may fetch

    def count(self, split: str) -> int:
        """Images of a split: files in its folders, lines of its lists."""
        return sum(_count(path) for path in self.splits.get(split, ()))


def prepare(
    data: object, task: Task, directory: Path, datasets: Path, *, offline: bool, measured: str = "val"
) -> Dataset:
    """`measured`: the split that the final validation is on, at the end of hours. Raises TrainingError(bad_data or
    bad_config)."""
    if not isinstance(data, str) or not data:
        raise TrainingError(EndReason.BAD_CONFIG, f"train.data must name one data set, not {data!r}", _REMEDY)
    if "://" in data:
        raise TrainingError(EndReason.BAD_DATA, f"data set {data}: addresses are not fetched", _REMEDY)
    if task == "classify":
        return _folder(data, datasets, offline=offline)
    path = Path(data).expanduser()
    if path.is_dir():
        path = _yaml_in(path)
    if not path.exists():
        return _stock(data, offline=offline)
    if path.suffix not in {".yaml", ".yml"}:
        raise TrainingError(EndReason.BAD_DATA, f"data set {path}: neither a folder nor a data.yaml", _REMEDY)
    document = _read(path)
    splits = _splits(document, path, datasets, measured)
    written: dict[str, Any] = {"path": str(splits.root), **{s: [str(p) for p in ps] for s, ps in splits.paths.items()}}
    written |= {key: document[key] for key in KNOWN if document.get(key) is not None}
    clean = directory / FILE_NAME
    clean.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return Dataset(str(clean), splits.paths)


def keep_caches_in(folder: Path) -> None:
    """Ultralytics' lists of checked images and labels go here: not into a person's data set, where two jobs overwrite
    each other's, and out of which it would unpickle whatever lies there.
    """
    module: Any = import_module("ultralytics.data.dataset")
    read, write = module.load_dataset_cache_file, module.save_dataset_cache_file

    def place(path: Path) -> Path:
        return folder / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:_HASH]}.cache"

    def load(path: Path) -> Any:
        return read(place(path))

    def save(prefix: str, path: Path, *more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        partial = place(path).with_suffix(f".{os.getpid()}")
        write(prefix, partial, *more)
        with suppress(FileNotFoundError):  # it could not be written, and Ultralytics has said so
            partial.replace(place(path))

    drop_partial_caches(folder)
    module.load_dataset_cache_file, module.save_dataset_cache_file = load, save


def drop_partial_caches(folder: Path) -> None:
    """Those whose trainer died over them."""
    for path in folder.glob(f"{'[0-9a-f]' * _HASH}.*"):
        pid = path.suffix[1:]
        if pid.isdecimal() and not _lives(int(pid)):
            with suppress(OSError):
                path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _folder(named: str, datasets: Path, *, offline: bool) -> Dataset:
    path = next((p for p in (Path(named).expanduser(), datasets / named) if p.is_dir()), None)
    if path is None:
        if offline or os.sep in named or Path(named).suffix:
            raise TrainingError(EndReason.BAD_DATA, f"data set {named}: there is no such folder", _REMEDY)
        return Dataset(named, {}, stock=True)
    found = {"train": path / "train", "val": path / "val", "test": path / "test"}
    if not found["val"].is_dir():
        found["val"] = next((path / name for name in ("validation", "valid", "test") if (path / name).is_dir()), path)
    return Dataset(str(path.resolve()), {name: (where,) for name, where in found.items() if where.is_dir()})


def _stock(named: str, *, offline: bool) -> Dataset:
    """A data.yaml that Ultralytics itself brings, such as coco8.yaml."""
    name = named if named.endswith((".yaml", ".yml")) else f"{named}.yaml"
    spec = find_spec("ultralytics")
    home = Path(spec.origin).parent / "cfg" / "datasets" if spec is not None and spec.origin is not None else None
    if os.sep in named or home is None or not (home / name).is_file():
        raise TrainingError(EndReason.BAD_DATA, f"data set {named}: there is no such file", _REMEDY)
    if offline:
        raise TrainingError(
            EndReason.BAD_DATA,
            f"data set {named} would have to be downloaded, and this trainer is offline",
            "download it beforehand and give the path of its data.yaml",
        )
    return Dataset(name, {}, stock=True)


def _yaml_in(folder: Path) -> Path:
    found = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    if (chosen := described_by(folder, found)) is not None:
        return folder / chosen.name
    what = "no data.yaml" if not found else f"{len(found)} yaml files and none is called data.yaml"
    raise TrainingError(EndReason.BAD_DATA, f"data set {folder}: {what}", _REMEDY)


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse(path.read_text(encoding="utf-8", errors="ignore"))
    except OSError as error:
        raise TrainingError(EndReason.BAD_DATA, f"{path}: {error.strerror}", _REMEDY) from error
    except DocumentError as error:
        raise TrainingError(EndReason.BAD_DATA, f"{path}: {error}", _REMEDY) from error


@dataclass(frozen=True, slots=True)
class _Splits:
    root: Path
    paths: dict[str, tuple[Path, ...]]


def _splits(document: Mapping[str, Any], path: Path, datasets: Path, measured: str) -> _Splits:
    """Where the images are, as Ultralytics resolves it."""
    root = _root(document.get("path"), path, datasets)
    paths: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        optional = split == "test" and measured != "test"
        value: object = document.get(split) or (document.get("validation") if split == "val" else None)
        if not value:
            if optional:
                continue
            raise TrainingError(EndReason.BAD_DATA, f"{path}: '{split}:' is missing", "name its images there and rerun")
        names = cast(list[object], value) if isinstance(value, list) else [value]
        paths[split] = tuple(_under(root, str(name)) for name in names)
        missing = [str(p) for p in paths[split] if not p.exists()]
        if missing and not optional:
            raise TrainingError(
                EndReason.BAD_DATA, f"{path}: '{split}:' names {missing[0]}, which does not exist", _REMEDY
            )
    return _Splits(root, paths)


def _root(value: object, path: Path, datasets: Path) -> Path:
    beside = path.parent.resolve()
    if not value:
        return beside
    written = Path(os.path.expanduser(str(value)))  # noqa: PTH111 - it raises nothing where there is no such home
    candidates = (written,) if written.is_absolute() else (beside / written, written, datasets / written)
    return next((c for c in candidates if c.exists()), candidates[0]).resolve()


def _under(root: Path, name: str) -> Path:
    path = (root / name).resolve()
    if not path.exists() and name.startswith("../"):  # exports of labelling tools count from another folder
        path = (root / name[3:]).resolve()
    return path


def _count(path: Path) -> int:
    if path.is_file():
        return sum(1 for line in path.read_text(encoding="utf-8", errors="ignore").splitlines() if line.strip())
    return sum(1 for name in _walk(path) if Path(name).suffix.lower() in IMAGES)


def _walk(folder: Path) -> Iterable[str]:
    for _, _, names in os.walk(folder):
        yield from names
