"""A whole data set, looked at in two steps: what it consists of (quick), then whether all of it is right (slow)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from broker.dataset import classes, description, images, labels
from broker.dataset.bounds import Bounds
from broker.dataset.classes import Split
from broker.dataset.description import Description
from broker.dataset.files import images_in
from broker.dataset.tally import Tally
from broker.protocol.api import DataSummary, Finding
from broker.protocol.job import Task

Result = tuple[DataSummary | None, list[Finding]]


@dataclass(frozen=True, slots=True)
class Question:
    path: Path  # a data.yaml or a folder
    task: Task | None  # None: told from the folder
    single_class: bool
    images_to_open: int
    splits: tuple[str, ...] = ("train", "val")  # that are read
    roots: tuple[str, ...] = ()  # real paths of folders that all of it must lie in; none: anywhere
    datasets: Path | None = None  # what a data.yaml's `path` may be relative to as well


@dataclass(frozen=True, slots=True)
class Survey:
    """`sources` are the files and folders that the answer depends on; `check` reads them."""

    sources: Sequence[Path]
    bounds: Bounds
    check: Callable[[], Result]


def survey(question: Question) -> Survey:
    """Raises OSError or ValueError for what cannot be read."""
    path = question.path
    tally = Tally(path if path.is_dir() else path.parent)
    bounds = Bounds(question.roots, tally)
    if holds_classes(path, question.task):
        return Survey([path], bounds, partial(_check_classes, question, tally, bounds))
    told = _described(question, tally, bounds)
    if told is None or tally.failed:
        return Survey([path], bounds, lambda: (None, tally.all()))
    listed = {split: _images(told.splits[split], split, tally, bounds) for split in question.splits}
    folders = sorted({labels.folder_of(image) for found in listed.values() for image in found})
    sources = [told.file, *(source for split in listed for source in told.splits[split])]
    sources += [folder for folder in map(Path, folders) if folder.is_dir() and bounds.hold(folder)]
    return Survey(sources, bounds, partial(_check_labelled, question, told, listed, tally, bounds))


def strays(question: Question) -> list[Finding]:
    """Only what lies outside the allowed folders, for where a data set is not checked otherwise: nothing is opened but
    its data.yaml and its lists. Raises OSError or ValueError for what cannot be read."""
    path, tally = question.path, Tally(question.path.parent)
    bounds = Bounds(question.roots, tally)
    if holds_classes(path, question.task):
        classes.read(path, ("train", *question.splits), bounds)
    else:
        unsaid = Tally(path)  # whatever else is wrong with it
        told = _described(question, unsaid, bounds)
        for split, sources in told.splits.items() if told is not None else ():
            found = _images(sources, split, unsaid, bounds)
            labels.files_in({labels.folder_of(image) for image in found}, bounds)
    return tally.all()


def _described(question: Question, tally: Tally, bounds: Bounds) -> Description | None:
    file = description.find(question.path, tally)
    if file is None or not bounds.hold(file):
        return None
    return description.load(file, question.splits, tally, question.datasets)


def holds_classes(path: Path, task: Task | None) -> bool:
    """Whether it is a data set to classify."""
    return task == "classify" or (task is None and path.is_dir() and bool(classes.folders(path)))


def _images(sources: Sequence[Path], split: str, tally: Tally, bounds: Bounds) -> list[str]:
    found: list[str] = []
    for source in filter(bounds.hold, sources):
        try:
            here = images_in(source, bounds)
        except (OSError, ValueError) as error:
            tally.error("folder", str(source), f"cannot be read: {error}")
            continue
        if not here:
            tally.error("no images", str(source), f"holds no images to {_verb(split)}", "is this the right folder?")
        found += here
    return found


def _check_labelled(
    question: Question, told: Description, listed: Mapping[str, Sequence[str]], tally: Tally, bounds: Bounds
) -> Result:
    began = time.monotonic()
    rules = labels.Rules(question.task, len(told.names), told.keypoints, question.single_class)
    if question.task == "pose" and told.keypoints is None:
        hint = "for example `kpt_shape: [17, 3]`"
        tally.error("data.yaml", f"{told.file}: kpt_shape", "missing, and a pose model needs it", hint)
        return None, tally.all()
    if set(told.splits["train"]) == set(told.splits["val"]):
        tally.warn("splits", str(told.file), "train and val are the same images", "the validation will look too good")
    summary = DataSummary(path=str(told.file), classes=len(told.names), names=told.names)
    summary.train_images, summary.val_images = (len(listed.get(split, ())) for split in ("train", "val"))
    summary.instances = [0] * len(told.names)
    for split, found in listed.items():
        marked = labels.check(found, rules, tally, bounds)
        for kind, count in marked.instances.items():
            summary.instances[kind] += count
        if found and not marked.files:
            tally.error(
                "no labels",
                labels.folder_of(found[0]),
                f"no label file for any of the {len(found):,} images to {_verb(split)}",
            )
        elif marked.background:
            message = f"{marked.background:,} of {len(found):,} images have no labels: they are background"
            tally.warn("background", str(told.splits[split][0]), message)
        if split == "train" and not tally.failed:
            for kind, name in enumerate(told.names):
                if marked.instances[kind] == 0 and marked.read == marked.files and not question.single_class:
                    tally.warn("class without labels", f"{told.file}: names", f"no label names class {kind} (`{name}`)")
    summary.checked_images = _open(listed, question.images_to_open, tally)
    summary.seconds = round(time.monotonic() - began, 3)
    return summary, tally.all()


def _check_classes(question: Question, tally: Tally, bounds: Bounds) -> Result:
    began = time.monotonic()
    splits: dict[str, Split] = classes.read(question.path, dict.fromkeys(("train", *question.splits)), bounds)
    names = classes.check(question.path, splits, tally)
    if "train" not in splits:
        return None, tally.all()
    summary = DataSummary(path=str(question.path), classes=len(names), names=names)
    summary.train_images = len(splits["train"].images)
    summary.val_images = len(splits["val"].images) if "val" in splits else 0
    summary.instances = [sum(split.counts[name] for split in splits.values()) for name in names]
    summary.checked_images = _open(
        {name: split.images for name, split in splits.items()}, question.images_to_open, tally
    )
    summary.seconds = round(time.monotonic() - began, 3)
    return summary, tally.all()


def _open(listed: Mapping[str, Sequence[str]], most: int, tally: Tally) -> int:
    every = [image for found in listed.values() for image in found]
    return images.check(every, most, tally)


def _verb(split: str) -> str:
    return "train on" if split == "train" else "validate on"
