"""(f) The cockpit: start to first paint beside a minimal Textual app; key to paint and memory under load."""

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import Row, percentile
from wyolo_tui.cli.cockpit import FRAMES

WIDTH, HEIGHT = 160, 50
STARTS = 10
KEYS = 300
JOBS, EVENTS_PER_S, LINES_PER_S = 10_000, 100, 1_000

MINIMAL = """
from textual.app import App
from textual.widgets import Static
class Minimal(App):
    def compose(self):
        yield Static("painted")
Minimal().run()
"""
COCKPIT = """
import asyncio
from wyolo_tui.app import WyoloApp
from wyolo_tui.options import Options
async def connect():
    await asyncio.Event().wait()
WyoloApp(connect, Options(address="painted")).run()
"""


@dataclass
class Terminal:
    master: int
    child: subprocess.Popen[bytes]

    def read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self.master], [], [], timeout_s)
        try:
            return os.read(self.master, 1 << 16) if ready else b""
        except OSError:
            return b""

    def until(self, marker: bytes, timeout_s: float = 30.0) -> None:
        """Until the marker has been painted. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        seen = b""
        while marker not in seen:
            seen = seen[-64:] + self.read(0.1)
            if time.monotonic() > end:
                raise TimeoutError(marker)


@contextmanager
def terminal(*argv: str) -> Generator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    env = os.environ | FRAMES | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(Path.cwd())}
    child = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    try:
        yield Terminal(master, child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(master)


def first_paint_s(code: str) -> float:
    began = time.monotonic()
    with terminal(sys.executable, "-c", code) as screen:
        screen.until(b"painted")
        return time.monotonic() - began


def _starts() -> Row:
    first_paint_s(MINIMAL)
    first_paint_s(COCKPIT)
    minimal, cockpit = list[float](), list[float]()
    for _ in range(STARTS):
        minimal.append(first_paint_s(MINIMAL))
        cockpit.append(first_paint_s(COCKPIT))
    ours, beside = statistics.median(cockpit), statistics.median(minimal)
    return Row(
        "cockpit: exec to first paint",
        f"{ours * 1000:.0f} ms, {ours / beside:.2f} times",
        f"a minimal Textual app: {beside * 1000:.0f} ms",
        "at most 2 times",
        ours <= 2 * beside,
    )


def _under_load() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="wyolo-bench-") as name:
        paints = Path(name) / "paints"
        argv = ("-m", "benchmarks.cockpit_load", str(JOBS), str(EVENTS_PER_S), str(LINES_PER_S), str(paints))
        with terminal(sys.executable, *argv) as screen:
            at = _until_loaded(screen, paints)
            sent: list[tuple[float, int]] = []
            for n in range(KEYS):
                at += 1
                sent.append((time.monotonic(), at))
                os.write(screen.master, b"j" if n % 40 < 20 else b"k")
                rests = n % 7 == 0  # long enough for the job's log and curves to be read, or nearly
                _drain(screen, 0.3 + (n * 53 % 30) / 100 if rests else 0.1 + (n * 37 % 50) / 1000)
            memory = psutil.Process(screen.child.pid).memory_info().rss / 2**20
            rows = [line.split() for line in paints.read_text().splitlines()]
    seen = [(float(row[0]), int(row[1])) for row in rows if len(row) == 3]
    took = [next((t - when for t, moves in seen if t >= when and moves >= want), 9.9) for when, want in sent]
    ms = [1000 * seconds for seconds in took]
    under = f"{JOBS:,} jobs, {EVENTS_PER_S} events/s, {LINES_PER_S:,} log lines/s"
    p50, p99 = percentile(ms, 0.5), percentile(ms, 0.99)
    return [
        Row(f"cockpit: key to paint, {under}", f"p50 {p50:.0f} ms, p99 {p99:.0f} ms", "", "p99 under 50 ms", p99 < 50),
        Row(f"cockpit: memory, {under}", f"{memory:.0f} MiB", "", "under 150 MiB", memory < 150),
    ]


def _until_loaded(screen: Terminal, paints: Path) -> int:
    """How often the cursor has moved. Raises TimeoutError."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        _drain(screen, 0.2)
        lines = paints.read_text().splitlines() if paints.exists() else []
        if lines and lines[-1].split()[-1] == str(JOBS):
            _drain(screen, 3.0)  # the log and the curves of the first job
            return int(paints.read_text().splitlines()[-1].split()[1])
    raise TimeoutError("the cockpit did not show its jobs in 60 s")


def _drain(screen: Terminal, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        screen.read(left)


def run() -> list[Row]:
    return [_starts(), *_under_load()]


if __name__ == "__main__":
    for row in run():
        print(f"{row.what}: {row.ours} ({row.beside or row.aim}) {'ok' if row.met else 'NOT MET'}")
