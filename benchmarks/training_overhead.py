"""(a) The whole time of `wyolo submit --wait` over bare `yolo train` with the same arguments, and per epoch."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import live
from benchmarks.report import Row

ROUNDS = 3  # each way, alternating; the fastest counts, since a busy machine only ever adds
SHORT, LONG = 2, 10  # epochs
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


def run() -> list[Row]:
    from wyolo_tui import shapes

    bare: dict[int, float] = {}
    ours: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="wyolo-bench-") as name, live.broker() as broker:
        folder = Path(name)
        data = shapes.make(folder / "data", "detect", images=64, val=16, size=96, seed=0)
        for _ in range(ROUNDS):
            for epochs in (SHORT, LONG):
                bare[epochs] = min(bare.get(epochs, 1e9), _bare(data, epochs, folder))
                ours[epochs] = min(ours.get(epochs, 1e9), _ours(data, epochs, broker, folder))
    over = ours[SHORT] - bare[SHORT]
    bare_epoch = (bare[LONG] - bare[SHORT]) / (LONG - SHORT)
    our_epoch = (ours[LONG] - ours[SHORT]) / (LONG - SHORT)
    return [
        Row(
            f"whole training of {SHORT} epochs, submit to end",
            f"{ours[SHORT]:.1f} s",
            f"yolo train {bare[SHORT]:.1f} s",
            "at most 2 s more",
            over <= 2,
        ),
        Row(
            f"each further epoch (of {LONG - SHORT})",
            f"{our_epoch:.3f} s",
            f"yolo train {bare_epoch:.3f} s",
            "at most 1 % more",
            our_epoch <= 1.01 * bare_epoch,
        ),
    ]
