"""Small data sets to try things with: coloured shapes on noise, for each task. The same seed draws the same pixels."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from broker.protocol.job import Task

Point = tuple[float, float]
NAMES = ("disc", "square", "triangle")
_COLOURS = ((230, 60, 50), (50, 110, 235), (60, 190, 80))
_KEYPOINTS = 3  # of the pose task: the shape's tip, its right and its left base


@dataclass(frozen=True, slots=True)
class Shape:
    kind: int  # index into NAMES
    outline: tuple[Point, ...]  # pixels
    corners: tuple[Point, ...]  # of the rotated box around it, pixels
    keypoints: tuple[Point, ...]  # pixels


def make(folder: Path, task: Task, *, images: int = 64, val: int = 16, size: int = 160, seed: int = 0) -> Path:
    """Write a data set of `images` to train on and `val` to validate on, each `size` x `size` pixels.

    Returns what `train.data` names: the data.yaml, or for classify the folder itself. Existing files are overwritten.
    """
    for split, count in (("train", images), ("val", val)):
        for number in range(count):
            rng = random.Random(f"{seed}/{task}/{split}/{number}")
            if task == "classify":
                _write_class_image(folder, split, number, size, rng)
            else:
                _write_labelled_image(folder / "images" / split / f"{number:04d}.jpg", task, number, size, rng)
    if task == "classify":
        return folder
    description = folder / "data.yaml"
    names = "\n".join(f"  {index}: {name}" for index, name in enumerate(NAMES))
    keypoints = f"kpt_shape: [{_KEYPOINTS}, 3]\nflip_idx: [0, 2, 1]\n" if task == "pose" else ""
    description.write_text(f"train: images/train\nval: images/val\nnames:\n{names}\n{keypoints}", encoding="utf-8")
    return description


def _write_class_image(folder: Path, split: str, number: int, size: int, rng: random.Random) -> None:
    kind = number % len(NAMES)
    picture = _noise(size, rng)
    _draw(picture, _shape(kind, size, (0.0, 0.0, 1.0, 1.0), rng))
    _save(picture, folder / split / NAMES[kind] / f"{number:04d}.jpg")


def _write_labelled_image(path: Path, task: Task, number: int, size: int, rng: random.Random) -> None:
    picture = _noise(size, rng)
    lines: list[str] = []
    for index, cell in enumerate(_cells(rng)):
        shape = _shape((number + index) % len(NAMES), size, cell, rng)
        _draw(picture, shape)
        lines.append(_LABELS[task](shape, size))
    _save(picture, path)
    label = path.parents[2] / "labels" / path.parent.name / f"{path.stem}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("\n".join(lines) + "\n", encoding="ascii")


def _cells(rng: random.Random) -> Sequence[tuple[float, float, float, float]]:
    """Where the shapes of one image may lie (left, top, right, bottom; 0..1): one, or two side by side."""
    if rng.random() < 0.5:
        return ((0.0, 0.0, 1.0, 1.0),)
    if rng.random() < 0.5:
        return ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    return ((0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))


def _noise(size: int, rng: random.Random) -> Image.Image:
    """Grey noise, coarse and dim enough for the shapes to stand out."""
    grain = max(1, size // 4)
    pixels = bytes(rng.choices(range(90, 166), k=grain * grain))
    return Image.frombytes("L", (grain, grain), pixels).resize((size, size), Image.Resampling.BILINEAR).convert("RGB")


def _shape(kind: int, size: int, cell: tuple[float, float, float, float], rng: random.Random) -> Shape:
    left, top, right, bottom = (edge * size for edge in cell)
    room = min(right - left, bottom - top)
    radius = room * rng.uniform(0.28, 0.42)
    centre = (rng.uniform(left + radius, right - radius), rng.uniform(top + radius, bottom - radius))
    turn = rng.uniform(-0.35, 0.35)  # radians

    def at(angle: float, distance: float = radius) -> Point:
        """A point seen from the centre; 0 is up, clockwise."""
        x, y = centre[0] + distance * math.sin(angle + turn), centre[1] - distance * math.cos(angle + turn)
        return min(max(x, 0.0), size - 1.0), min(max(y, 0.0), size - 1.0)

    match kind:
        case 0:
            outline = tuple(at(math.tau * step / 24) for step in range(24))
            corners = tuple(at(math.pi / 4 + math.pi / 2 * step, radius * math.sqrt(2)) for step in range(4))
        case 1:
            outline = corners = tuple(at(math.pi / 4 + math.pi / 2 * step) for step in range(4))
        case _:
            outline = tuple(at(math.tau * step / 3) for step in range(3))
            half, low = radius * math.sin(math.tau / 3), -radius * math.cos(math.tau / 3)
            foot, tip = math.hypot(half, low), math.hypot(half, radius)
            corners = (
                at(-math.atan2(half, radius), tip),
                at(math.atan2(half, radius), tip),
                at(math.pi - math.atan2(half, low), foot),
                at(math.pi + math.atan2(half, low), foot),
            )
    return Shape(kind, outline, corners, (at(0.0), at(math.tau / 3), at(-math.tau / 3)))


def _draw(picture: Image.Image, shape: Shape) -> None:
    ImageDraw.Draw(picture).polygon(shape.outline, fill=_COLOURS[shape.kind])


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=92)


def _box(shape: Shape, size: int) -> str:
    xs, ys = [x for x, _ in shape.outline], [y for _, y in shape.outline]
    return _numbers((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys), size=size)


def _detect(shape: Shape, size: int) -> str:
    return f"{shape.kind} {_box(shape, size)}"


def _segment(shape: Shape, size: int) -> str:
    return f"{shape.kind} {_numbers(*(value for point in shape.outline for value in point), size=size)}"


def _pose(shape: Shape, size: int) -> str:
    points = " ".join(f"{_numbers(*point, size=size)} 2" for point in shape.keypoints)
    return f"{shape.kind} {_box(shape, size)} {points}"


def _obb(shape: Shape, size: int) -> str:
    return f"{shape.kind} {_numbers(*(value for point in shape.corners for value in point), size=size)}"


def _numbers(*values: float, size: int) -> str:
    return " ".join(f"{value / size:.6f}" for value in values)


_LABELS: dict[Task, Callable[[Shape, int], str]] = {
    "detect": _detect,
    "segment": _segment,
    "pose": _pose,
    "obb": _obb,
}
