"""A real broker for a benchmark: its own process, data directory, embedded Redis and free port."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

_COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as installed


@dataclass
class Live:
    directory: Path
    url: str
    key: str
    pid: int
    started_in_s: float  # from exec to the first healthy answer

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=60)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)


def _endpoint(directory: Path, pid: int) -> dict[str, Any] | None:
    try:
        endpoint = json.loads((directory / "broker.json").read_text())
    except (OSError, ValueError):
        return None
    return endpoint if endpoint["pid"] == pid else None


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v1/health", timeout=2) as answer:  # loopback only
            return json.load(answer)["status"] == "ok"
    except OSError:
        return False


def start(directory: Path, env: dict[str, str] | None = None, *flags: str) -> tuple[subprocess.Popen[bytes], Live]:
    """Raises RuntimeError with the broker's last words when it does not come up."""
    began = time.monotonic()
    log = (directory / "stderr.log").open("ab")
    child = subprocess.Popen(
        [sys.executable, "-m", "broker", "--data-dir", str(directory), "--port", "0", *flags],
        env=_COMPILED | (env or {}),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    while time.monotonic() - began < 60:
        endpoint = _endpoint(directory, child.pid)
        if endpoint is not None and _healthy(endpoint["url"]):
            key = (directory / "key").read_text().strip()
            return child, Live(directory, endpoint["url"], key, child.pid, time.monotonic() - began)
        if child.poll() is not None:
            break
        time.sleep(0.005)
    raise RuntimeError((directory / "stderr.log").read_text()[-2000:])


def stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def folder() -> Path:
    """A new one, removed when all benchmarks are done: for minutes after many files were deleted, ext4 passes over
    their inodes one by one, and each new file takes half a millisecond."""
    path = Path(tempfile.mkdtemp(prefix="wyolo-bench-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@contextmanager
def broker(env: dict[str, str] | None = None, toml: str = "") -> Generator[Live]:
    """`toml`: what stands in wyolo.toml."""
    directory = folder()
    flags: tuple[str, ...] = ()
    if toml:
        (directory / "wyolo.toml").write_text(toml)
        flags = ("--config", str(directory / "wyolo.toml"))
    child, live = start(directory, env, *flags)
    try:
        yield live
    finally:
        stop(child)


def until(predicate: Any, timeout: float, step: float = 0.005) -> None:
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{predicate} did not come true in {timeout} s")
        time.sleep(step)
