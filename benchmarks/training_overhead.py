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
SHORT, LONG = 2, 14  # epochs: the whole time of the one, each further epoch of the other
ARGS = {"imgsz": 96, "batch": 16, "workers": 0, "device": "cpu", "seed": 0, "amp": False, "plots": False}
BIN = Path(sys.executable).parent


def _bare(data: Path, epochs: int, folder: Path) -> float:
    arguments = [f"{key}={value}" for key, value in ARGS.items()]
    command = [str(BIN / "yolo"), "train", "model=yolov8n.yaml", f"data={data}", f"epochs={epochs}", *arguments]
    began = time.monotonic()
    env = os.environ | {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    done = subprocess.run([*command, f"project={folder}"], capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return time.monotonic() - began


def _ours(data: Path, epochs: int, broker: live.Live, folder: Path) -> float:
    config = folder / f"bench-{epochs}.yaml"
    train = ARGS | {"data": str(data), "epochs": epochs}
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
    from wyolo_tui import shapes

    bare: list[float] = []
    ours: list[float] = []
    bare_epochs: list[float] = []
    our_epochs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="wyolo-bench-") as name, live.broker() as broker:
        folder = Path(name)
        data = shapes.make(folder / "data", "detect", images=64, val=16, size=96, seed=0)
        for number in range(ROUNDS):
            bare.append(_bare(data, SHORT, folder / f"short-{number}"))
            ours.append(_ours(data, SHORT, broker, folder))
            _bare(data, LONG, folder / f"long-{number}")
            bare_epochs.append(_epoch(folder / f"long-{number}"))
            _ours(data, LONG, broker, folder)
            our_epochs.append(_epoch(max((broker.directory / "jobs").iterdir(), key=lambda job: int(job.name))))
    our_epoch, bare_epoch = min(our_epochs), min(bare_epochs)
    return [
        Row(
            f"whole training of {SHORT} epochs, submit to end",
            f"{min(ours):.1f} s",
            f"yolo train {min(bare):.1f} s",
            "at most 2 s more",
            min(ours) - min(bare) <= 2,
        ),
        Row(
            "each further epoch",
            f"{our_epoch:.3f} s",
            f"yolo train {bare_epoch:.3f} s",
            "at most 1 % more",
            our_epoch <= 1.01 * bare_epoch,
        ),
    ]
