"""Checks a classification data set: a folder for each split, in it a folder for each class."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.dataset.bounds import Bounds
from broker.dataset.files import images_in
from broker.dataset.tally import Tally

_VALIDATION = ("val", "validation", "valid", "test")  # in Ultralytics' order


@dataclass(slots=True)
class Split:
    images: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])  # by class folder


def folders(path: Path) -> dict[str, Path]:
    """The folders of train, val and test that are there."""
    found = {split: path / split for split in ("train", "test") if (path / split).is_dir()}
    validation = next((path / name for name in _VALIDATION if (path / name).is_dir()), None)
    return found | ({"val": validation} if validation else {})


def read(path: Path, splits: Iterable[str], bounds: Bounds) -> dict[str, Split]:
    """What these splits hold, of those that are there."""
    found = folders(path)
    return {name: _read(found[name], bounds) for name in splits if name in found and bounds.hold(found[name])}


def check(path: Path, splits: Mapping[str, Split], tally: Tally) -> list[str]:
    """The class names in order."""
    if not path.is_dir():
        hint = "a data set to classify is a folder with train/<class>/ and val/<class>/"
        tally.error("data", str(path), "is not a folder", hint)
        return []
    there = folders(path)
    if "train" not in there:
        tally.error("folder", str(path), "has no folder `train`", "put the images into train/<class>/ and val/<class>/")
        return []
    if "val" not in there:
        tally.error("folder", str(path), "has no folder `val` or `test`", "put some images into val/<class>/")
    if "train" not in splits:
        return []
    train = splits["train"]
    names = sorted(train.counts)
    if not names:
        tally.error("folder", str(path / "train"), "holds no folders of classes", "one folder for each class")
    for name, split in splits.items():
        for label in sorted(split.counts):
            if split.counts[label] == 0:
                tally.error(
                    "class without images", f"{path}/{name}/{label}", "no images", "add some, or remove the folder"
                )
    for name, split in splits.items():
        for label in sorted(set(split.counts) - set(names)):
            tally.error("unknown class", f"{path}/{name}/{label}", "is no class of `train`", "name the folders alike")
    for label in sorted(set(names) - set(splits.get("val", train).counts)):
        tally.warn("class not validated", f"{path}/val", f"has no folder `{label}`", "its accuracy cannot be told")
    if len(names) == 1:
        tally.warn(
            "one class", str(path / "train"), f"`{names[0]}` is the only class", "there is nothing to tell apart"
        )
    return names


def _read(folder: Path, bounds: Bounds) -> Split:
    split = Split()
    for child in sorted(folder.iterdir()):
        if child.is_dir() and (not child.is_symlink() or bounds.hold(child)):
            images = images_in(child, bounds)
            split.images += images
            split.counts[child.name] = len(images)
    return split
