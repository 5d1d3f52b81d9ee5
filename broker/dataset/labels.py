"""Checks label files (one row for each object, values from 0 to 1) against what the task needs."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.dataset.bounds import Bounds
from broker.dataset.files import read_text, spread
from broker.dataset.tally import Tally
from broker.protocol.job import Task

MOST_READ = 50_000  # label files of a split
_LOW, _HIGH = -0.01, 1.01  # Ultralytics' tolerance
_FORMATS: dict[Task | None, str] = {
    None: "a class and a box or an outline",
    "detect": "5 values: class, x, y, width, height",
    "segment": "a class and at least 3 points: an odd number of values, 7 or more",
    "obb": "9 values: class and 4 corners",
}


@dataclass(frozen=True, slots=True)
class Rules:
    task: Task | None  # None: unknown, rows are checked for what any task needs
    classes: int
    keypoints: tuple[int, int] | None
    single_class: bool = False

    def columns_fit(self, count: int) -> bool:
        pose = 5 + self.keypoints[0] * self.keypoints[1] if self.keypoints else 0
        outline = count >= 7 and count % 2 == 1
        match self.task:
            case "pose":
                return count == pose
            case "segment":
                return outline
            case "obb":
                return count == 9
            case "detect":  # Ultralytics makes boxes of outlines, and takes a row of keypoints for one
                return count == 5 or (outline and count != pose)
            case _:
                return count in {5, pose} or outline

    def expected(self) -> str:
        if self.task == "pose" and self.keypoints is not None:
            points, columns = self.keypoints
            return f"{5 + points * columns} values: class, box and {points} keypoints of {columns}"
        return _FORMATS.get(self.task, "")

    def coordinates(self, values: Sequence[float]) -> Sequence[float]:
        """Those of a row that must lie in the image; a keypoint's visibility need not."""
        if self.keypoints is None or len(values) != 5 + self.keypoints[0] * self.keypoints[1]:
            return values[1:]
        columns = self.keypoints[1]
        return [*values[1:5], *values[5::columns], *values[6::columns]]


@dataclass(slots=True)
class Labels:
    """What was found in one split."""

    instances: Counter[int] = field(default_factory=Counter[int])  # by class
    read: int = 0  # label files
    files: int = 0  # images with a label file
    background: int = 0  # images without a label file, or with an empty one


def label_of(image: str) -> str:
    """Where the labels of an image are: in `labels` for the last `images` of its path, with the suffix .txt."""
    head, found, tail = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{head}{os.sep}labels{os.sep}{tail}" if found else image
    return path.rpartition(".")[0] + ".txt"


def check(images: Sequence[str], rules: Rules, tally: Tally, bounds: Bounds) -> Labels:
    """Read the labels of a split's images, at most MOST_READ of them."""
    found = Labels()
    wanted = {label_of(image) for image in images}
    present = files_in({path.rpartition(os.sep)[0] for path in wanted}, bounds)
    there = sorted(wanted & present)
    found.files, found.background = len(there), len(images) - len(there)
    for path in sorted(path for path in present - wanted if not path.endswith(f"{os.sep}classes.txt")):
        tally.warn("label without an image", path, "there is no image for these labels", "Ultralytics leaves them out")
    chosen = spread(there, MOST_READ)
    if len(chosen) < len(there):
        tally.warn(
            "labels", folder_of(images[0]), f"{len(chosen):,} of {len(there):,} label files were read, evenly spread"
        )
    check_row = _row_check(rules, tally)
    for path in chosen:
        found.read += 1
        found.background += _check_file(path, check_row, found.instances, tally)
    return found


def files_in(folders: Iterable[str], bounds: Bounds) -> set[str]:
    """The text files in the folders themselves, but for those that lead out of the bounds."""
    present: set[str] = set()
    for folder in folders:
        if Path(folder).is_dir() and bounds.hold(folder):
            with os.scandir(folder) as entries:
                texts = (entry for entry in entries if entry.name.endswith(".txt") and entry.is_file())
                present.update(entry.path for entry in texts if bounds.hold_entry(entry))
    return present


def _check_file(
    path: str,
    check_row: Callable[[str, int, list[str]], int | None],
    instances: Counter[int],
    tally: Tally,
) -> bool:
    """Whether it is empty."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        tally.error("unreadable label", path, f"cannot be read: {error}")
        return False
    empty = True
    widths: set[bool] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        empty = False
        kind = check_row(path, number, parts)
        if kind is not None:
            instances[kind] += 1
            widths.add(len(parts) == 5)
    if len(widths) == 2:
        tally.error(
            "boxes and outlines mixed", path, "has rows of boxes and rows of outlines", "keep one kind in a file"
        )
    return empty


def _row_check(rules: Rules, tally: Tally) -> Callable[[str, int, list[str]], int | None]:
    """A function of path, line number and words that returns the row's class, or None after an error."""
    names = f"names has {rules.classes}"

    def check_row(path: str, number: int, parts: list[str]) -> int | None:
        where = f"{path}:{number}"
        if not rules.columns_fit(len(parts)):
            tally.error("wrong number of values", where, f"{len(parts)} values, expected {rules.expected()}")
            return None
        try:
            values = [float(part) for part in parts]
        except ValueError:
            word = next(part for part in parts if not _is_number(part))
            tally.error("not a number", where, f"`{word[:40]}` is not a number")
            return None
        kind = values[0]
        if not (kind.is_integer() and kind >= 0):
            tally.error("bad class", where, f"class {parts[0][:40]} is not a whole number from 0")
            return None
        if kind >= rules.classes and not rules.single_class:
            hint = f"classes count from 0: 0 to {rules.classes - 1}"
            tally.error("class out of range", where, f"class {int(kind)}, but {names}", hint)
            return None
        coordinates = rules.coordinates(values)
        if not (min(coordinates) >= _LOW and max(coordinates) <= _HIGH):
            worst = next(value for value in coordinates if not _LOW <= value <= _HIGH)
            hint = "coordinates are parts of the image's width and height"
            tally.error("coordinate outside the image", where, f"{worst:g} is outside 0 to 1", hint)
            return None
        return 0 if rules.single_class else int(kind)

    return check_row


def folder_of(image: str) -> str:
    """The folder that holds the labels of an image."""
    return label_of(image).rpartition(os.sep)[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
