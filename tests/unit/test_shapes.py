"""Drawn data sets are right for their task, and the same seed draws the same pixels."""

from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from broker.preflight import check
from broker.protocol.job import Task, TrainWork
from wyolo_tui.shapes import NAMES, make

TASKS: tuple[Task, ...] = get_args(Task)
COLUMNS = {"detect": {5}, "segment": {49, 9, 7}, "pose": {14}, "obb": {9}}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_a_drawn_data_set_passes_the_checks(tmp_path: Path, task: Task) -> None:
    data = make(tmp_path / task, task, images=6, val=3, size=64)
    summary, findings = check(TrainWork(model="yolov8n.yaml", task=task, args={"data": str(data)}), 100)
    assert findings == []
    assert summary is not None
    assert (summary.train_images, summary.val_images, summary.checked_images) == (6, 3, 9)
    assert summary.names == list(NAMES)
    assert all(count > 0 for count in summary.instances)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_draws_the_same_and_another_seed_another(tmp_path: Path, task: Task) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, task, images=3, val=1, size=64, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_labels_have_the_columns_of_their_task_and_lie_in_the_image(tmp_path: Path, task: Task) -> None:
    make(tmp_path, task, images=12, val=1, size=64)
    rows = [line.split() for path in (tmp_path / "labels").rglob("*.txt") for line in path.read_text().splitlines()]
    assert {len(row) for row in rows} == COLUMNS[task]
    assert all(0 <= float(value) <= 1 for row in rows for value in row[1:5])


def test_a_shape_has_its_colour_where_its_box_is(tmp_path: Path) -> None:
    make(tmp_path, "detect", images=12, val=1, size=96)
    for label in sorted((tmp_path / "labels" / "train").iterdir()):
        picture = Image.open(tmp_path / "images" / "train" / f"{label.stem}.jpg").convert("RGB")
        for line in label.read_text().splitlines():
            kind, x, y, *_ = line.split()
            pixel = picture.getpixel((int(float(x) * 96), int(float(y) * 96)))
            assert isinstance(pixel, tuple)
            assert NAMES[int(kind)] == {0: "disc", 1: "triangle", 2: "square"}[pixel.index(max(pixel))]
