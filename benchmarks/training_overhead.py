"""(a) The whole time of `wyolo submit --wait` over bare `yolo train` with the same arguments, and per epoch.

Epochs are compared in turns: both trainings run, one of them stopped (SIGSTOP) while the other does an epoch. So each
has the machine for itself, and whatever that does meanwhile (its speed changes by a tenth within seconds) happens to
both.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks import live
from benchmarks.report import Row

ROUNDS = 4  # whole trainings each way, alternating; the fastest counts, since a busy machine only ever adds
SHORT = 2  # epochs of these
TINY, SMALL = (64, 96, 240), (192, 160, 24)  # images, pixels, pairs of epochs
BEFORE = 3  # epochs that are not measured
LONGEST_S = 120.0  # of an epoch, and of a start
LOOK_S = 0.004
CONFIDENT = 2.0  # standard errors of a mean, each way: true 95 times in 100
ARGS = {"batch": 16, "workers": 0, "device": "cpu", "seed": 0, "amp": False, "plots": False}
BIN = Path(sys.executable).parent


def run() -> list[Row]:
    folder = live.folder()
    with live.broker() as broker:
        return [_whole(folder, broker), *(_further(folder, broker, *training) for training in (TINY, SMALL))]


def _whole(folder: Path, broker: live.Live) -> Row:
    images, pixels, _ = TINY
    data = _data(folder, images, pixels)
    bare, ours = list[float](), list[float]()
    for number in range(ROUNDS):
        with _bare(data, pixels, SHORT, folder / f"short-{number}") as training:
            bare.append(training.whole_s())
        with _ours(data, pixels, SHORT, folder, broker) as training:
            ours.append(training.whole_s())
    return Row(
        f"whole training of {SHORT} epochs, submit to end",
        f"{min(ours):.1f} s",
        f"yolo train {min(bare):.1f} s",
        "at most 2 s more",
        min(ours) - min(bare) <= 2,
    )


def _further(folder: Path, broker: live.Live, images: int, pixels: int, pairs: int) -> Row:
    alone = folder / f"alone-{images}"
    alone.mkdir()
    epochs = 2 * (BEFORE + pairs)  # more than will be done
    with (
        _bare(_data(alone, images, pixels), pixels, epochs, alone / "runs") as bare,
        _ours(_data(folder, images, pixels), pixels, epochs, folder, broker),
    ):
        its, ours = _Epochs(bare.process, alone / "runs"), _Epochs(*_newest(broker))
        took = [_pair(its, ours, swapped=number % 2 == 1) for number in range(pairs)]
    ratio, low, high = _mean_ratio(took)
    return Row(
        f"each further epoch of {images} images of {pixels} pixels",
        f"{ratio:.3f} times ({low:.3f} to {high:.3f})",
        f"yolo train {statistics.median(bare_s for bare_s, _ in took):.3f} s, {pairs} epochs each in turns",
        "at most 1.01 times",
        ratio <= 1.01,
    )


class _Epochs:
    """Of a training that is stopped but for its turns."""

    def __init__(self, process: psutil.Process, folder: Path) -> None:
        """Comes back when it has done BEFORE epochs."""
        self._process = process
        live.until(lambda: any(folder.rglob("results.csv")), LONGEST_S)
        [self._results] = folder.rglob("results.csv")  # a row at the end of each
        live.until(lambda: self._results.read_bytes().count(b"\n") > BEFORE, LONGEST_S)
        process.suspend()

    def turn(self) -> float:
        """Does one epoch. Seconds."""
        size = self._results.stat().st_size
        began = time.perf_counter()
        self._process.resume()
        live.until(lambda: self._results.stat().st_size > size, LONGEST_S, LOOK_S)
        took = time.perf_counter() - began
        self._process.suspend()
        return took


def _pair(bare: _Epochs, ours: _Epochs, *, swapped: bool) -> tuple[float, float]:
    """Seconds: its, ours. `swapped`: ours first."""
    if swapped:
        ours_s = ours.turn()
        return bare.turn(), ours_s
    return bare.turn(), ours.turn()


def _mean_ratio(took: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Ours to theirs, and what it lies between."""
    logs = [math.log(ours_s / bare_s) for bare_s, ours_s in took]
    middle, error = statistics.mean(logs), CONFIDENT * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(middle), math.exp(middle - error), math.exp(middle + error)


class _Training:
    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self.process = psutil.Process(child.pid)
        self._began = time.monotonic()
        self._child = child
        self._log = log

    def whole_s(self) -> float:
        """Until its end, from its start. Raises RuntimeError with its last words."""
        if self._child.wait() != 0:
            raise RuntimeError(self._log.read_text(errors="replace")[-2000:])
        return time.monotonic() - self._began


@contextmanager
def _running(command: Sequence[str], env: dict[str, str], log: Path) -> Generator[_Training]:
    with log.open("wb") as said:
        child = subprocess.Popen(command, env=os.environ | env, stdout=said, stderr=said)
    try:
        yield _Training(child, log)
    finally:
        child.kill()
        child.wait()


@contextmanager
def _bare(data: Path, pixels: int, epochs: int, folder: Path) -> Generator[_Training]:
    arguments = [f"{key}={value}" for key, value in (ARGS | {"imgsz": pixels}).items()]
    command = [str(BIN / "yolo"), "train", "model=yolov8n.yaml", f"data={data}", f"epochs={epochs}", *arguments]
    env = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    with _running([*command, f"project={folder}"], env, folder.with_suffix(".log")) as training:
        yield training


@contextmanager
def _ours(data: Path, pixels: int, epochs: int, folder: Path, broker: live.Live) -> Generator[_Training]:
    config = folder / "bench.yaml"
    train = ARGS | {"imgsz": pixels, "data": str(data), "epochs": epochs}
    config.write_text(json.dumps({"model": "yolov8n.yaml", "type": "yolo", "train": train}))
    command = [str(BIN / "wyolo"), "submit", str(config), "--wait", "--json"]
    with _running(command, {"WYOLO_URL": broker.url, "WYOLO_KEY": broker.key}, folder / "submit.log") as training:
        try:
            yield training
        finally:
            with broker.client() as client:
                live.until(lambda: not [client.post(f"/api/v1/jobs/{job}/kill") for job in _active(client)], LONGEST_S)


def _active(client: httpx.Client) -> list[int]:
    answer = client.get("/api/v1/jobs", params={"filter": "state:active"}).raise_for_status()
    return [job["id"] for job in answer.json()["jobs"]]


def _newest(broker: live.Live) -> tuple[psutil.Process, Path]:
    """The trainer that runs, and its job's directory."""

    def found() -> list[psutil.Process]:
        return [each for each in broker.process.children(recursive=True) if _argv(each)[1:3] == ["-m", "trainer"]]

    live.until(found, LONGEST_S)
    [trainer] = found()
    return trainer, Path(trainer.cmdline()[3]).parent


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []


def _data(folder: Path, images: int, pixels: int) -> Path:
    from wyolo_tui import shapes

    return shapes.make(folder / f"data-{images}", "detect", images=images, val=images // 4, size=pixels, seed=0)
