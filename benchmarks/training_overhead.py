"""(a) The whole time of `wyolo submit --wait` over bare `yolo train` with the same arguments, and per epoch."""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from benchmarks import live
from benchmarks.report import Row

ROUNDS = 4  # each way, alternating; the fastest counts, since a busy machine only ever adds
SHORT = 2  # epochs: the whole time of these; of a longer training each further epoch
TINY, SMALL = (64, 96, 14), (192, 160, 5)  # images, pixels, epochs
ARGS = {"batch": 16, "workers": 0, "device": "cpu", "seed": 0, "amp": False, "plots": False}
BIN = Path(sys.executable).parent


def _bare(data: Path, pixels: int, epochs: int, folder: Path) -> float:
    arguments = [f"{key}={value}" for key, value in (ARGS | {"imgsz": pixels}).items()]
    command = [str(BIN / "yolo"), "train", "model=yolov8n.yaml", f"data={data}", f"epochs={epochs}", *arguments]
    began = time.monotonic()
    env = os.environ | {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    done = subprocess.run([*command, f"project={folder}"], capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return time.monotonic() - began


def _ours(data: Path, pixels: int, epochs: int, broker: live.Live, folder: Path) -> float:
    config = folder / "bench.yaml"
    train = ARGS | {"imgsz": pixels, "data": str(data), "epochs": epochs}
    config.write_text(json.dumps({"model": "yolov8n.yaml", "type": "yolo", "train": train}))
    env = os.environ | {"WYOLO_URL": broker.url, "WYOLO_KEY": broker.key}
    began = time.monotonic()
    command = [str(BIN / "wyolo"), "submit", str(config), "--wait", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return time.monotonic() - began


def _epoch(folder: Path) -> float:
    """The median further epoch, in seconds, by the `time` column that Ultralytics writes at the end of each."""
    [results] = folder.rglob("results.csv")
    with results.open() as file:
        ends = [float(row["time"]) for row in csv.DictReader(file, skipinitialspace=True)]
    return statistics.median(end - begin for begin, end in pairwise(ends[SHORT - 1 :]))


def run() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wyolo-bench-") as name, live.broker() as broker:
        folder = Path(name)
        return [_whole(broker, folder), *(_further(broker, folder, *training) for training in (TINY, SMALL))]


def _whole(broker: live.Live, folder: Path) -> Row:
    images, pixels, _ = TINY
    data = _data(folder, images, pixels)
    bare, ours = list[float](), list[float]()
    for number in range(ROUNDS):
        bare.append(_bare(data, pixels, SHORT, folder / f"short-{number}"))
        ours.append(_ours(data, pixels, SHORT, broker, folder))
    return Row(
        f"whole training of {SHORT} epochs, submit to end",
        f"{min(ours):.1f} s",
        f"yolo train {min(bare):.1f} s",
        "at most 2 s more",
        min(ours) - min(bare) <= 2,
    )


def _further(broker: live.Live, folder: Path, images: int, pixels: int, epochs: int) -> Row:
    data = _data(folder, images, pixels)
    bare, ours = list[float](), list[float]()
    for number in range(ROUNDS):
        alone = folder / f"alone-{images}-{number}"
        _bare(data, pixels, epochs, alone)
        bare.append(_epoch(alone))
        _ours(data, pixels, epochs, broker, folder)
        ours.append(_epoch(max((broker.directory / "jobs").iterdir(), key=lambda job: int(job.name))))
    return Row(
        f"each further epoch of {images} images of {pixels} pixels",
        f"{min(ours):.3f} s",
        f"yolo train {min(bare):.3f} s",
        "at most 1 % more",
        min(ours) <= 1.01 * min(bare),
    )


def _data(folder: Path, images: int, pixels: int) -> Path:
    from wyolo_tui import shapes

    return shapes.make(folder / f"data-{images}", "detect", images=images, val=images // 4, size=pixels, seed=0)
