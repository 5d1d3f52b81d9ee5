"""Finds the broker: the one that was named, else the one that wrote its address into the data directory.

Starts one in the background where there is none: in a session of its own, so that it outlives the terminal.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wyolo_tui.unanswered import BrokerOut, ProblemError

if TYPE_CHECKING:
    from wyolo_tui.client import BrokerClient

ADDRESS_NAME = "broker.json"  # url, pid: written by the broker when it listens, removed when it ends
KEY_NAME = "key"
LOCK_NAME = "broker.lock"  # its holder's pid
OUTPUT_NAME = "broker.out"  # what a background broker printed; what it logs is in broker.log
DEFAULT_PORT = 23450
START_S = 20.0
STOP_S = 15.0
STEP_S = 0.05

_started: list[subprocess.Popen[bytes]] = []  # looked after while we live: one that has died must not look alive


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and what it asks for."""

    url: str
    key: str = field(repr=False)
    data_dir: Path
    pid: int | None = None  # None: it was named by its URL, or runs elsewhere

    def client(self, patience_s: float = 0.0, on_retry: Callable[[str], None] | None = None) -> "BrokerClient":
        from wyolo_tui.client import BrokerClient

        return BrokerClient(self.url, self.key, patience_s=patience_s, on_retry=on_retry, refind=self.refind)

    def refind(self) -> tuple[str, str] | None:
        """URL and key of the broker that has taken this one's place, which may listen elsewhere."""
        successor = None if self.pid is None else _left(self.data_dir)
        return None if successor is None else (successor.url, successor.key)


def data_directory(given: Path | None = None) -> Path:
    """As the broker chooses it: what was given, WYOLO_DATA_DIR, wyolo.toml, XDG_STATE_HOME, ~/.local/state/wyolo."""
    named = given or os.environ.get("WYOLO_DATA_DIR") or configured().get("data_dir")
    if named:
        return Path(named).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "wyolo"


def find(url: str | None = None, data_dir: Path | None = None) -> Address:
    """Where the broker should be. Reads files and asks nobody; raises BrokerOut where no broker has left an address, or
    the one that was named is none, ProblemError where its key is none."""
    folder = data_directory(data_dir)
    url = named(url)
    if url:
        if not _is_address(url):
            raise BrokerOut(f"{url} is no address of a broker", f"as in http://127.0.0.1:{DEFAULT_PORT}")
        return Address(url.rstrip("/"), _given_key() or _key(folder), folder)
    try:
        address = _read(folder)
    except FileNotFoundError:
        raise BrokerOut(f"no broker runs on {folder}") from None
    except PermissionError:
        raise BrokerOut(f"{folder} belongs to somebody else: its broker is not ours to use") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokerOut(f"{folder / ADDRESS_NAME} cannot be read ({error})") from error
    if not _alive(address.pid):
        raise BrokerOut(f"the broker on {folder} (process {address.pid}) has died; its jobs go on and are not lost")
    return address


def named(url: str | None) -> str | None:
    """The URL by which somebody named a broker, if they did."""
    return url or os.environ.get("WYOLO_URL")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # each part of a name has a longest length
        return parts.scheme in {"http", "https"} and bool(host) and parts.port != 0
    except ValueError:  # a port beyond 65535, half an IPv6 address
        return False


async def answers(address: Address) -> bool:
    """Whether a broker is there and healthy enough to be asked."""
    try:
        async with address.client() as broker:
            await broker.health()
    except (BrokerOut, ProblemError):
        return False
    return True


async def start(data_dir: Path | None = None, flags: Sequence[str] = ()) -> tuple[Address, bool]:
    """A broker on that data directory, once it answers, and whether it was started now or ran already.

    `flags` go to `python -m broker`. Raises BrokerOut with the end of what the broker said, should it not come up.
    """
    folder = data_directory(data_dir)
    address = _left(folder)
    if address is not None and await answers(address):
        return address, False
    child = _spawn(folder, flags)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        address = _left(folder)
        if address is not None and await answers(address):
            new = address.pid == child.pid
            if not new:  # another was faster: ours finds the directory locked, and ends
                await asyncio.to_thread(child.wait)
            return address, new
        if child.poll() is not None and address is None and not _held(folder):
            break
        await asyncio.sleep(STEP_S)
    said = _last_line(folder / OUTPUT_NAME)
    raise BrokerOut(
        f"the broker did not come up on {folder}: {said or f'nothing was said in {START_S:.0f} s'}",
        f"all that it said is in {folder / OUTPUT_NAME}; wyolo doctor looks at what it needs",
    )


async def stop(address: Address) -> None:
    """Returns when a broker of this machine has ended; its jobs go on. Raises BrokerOut when it does not end."""
    import psutil

    try:
        process = psutil.Process(address.pid)
        if address.pid is None or "broker" not in process.cmdline():
            raise BrokerOut(f"no broker runs on {address.data_dir}: process {address.pid} is something else by now")
        process.terminate()
        deadline = time.monotonic() + STOP_S
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                said = f"process {process.pid} was asked to end and has not in {STOP_S:.0f} s"
                raise BrokerOut(said, f"kill -9 {process.pid} ends it; nothing is lost, running jobs go on")
            await asyncio.sleep(STEP_S)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied as error:
        raise BrokerOut(f"process {address.pid} is not ours to end", "whoever started it can") from error
    _reap()


def _spawn(folder: Path, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(folder / OUTPUT_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError as error:
        raise BrokerOut(f"no broker can be started: {folder} cannot be written ({error.strerror})") from error
    try:
        # -P: a folder named broker in the current directory is not what is meant
        command = [sys.executable, "-P", "-m", "broker", "--data-dir", str(folder), *flags, *_other_port(flags)]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        _started.append(child)
        return child
    finally:
        os.close(output)


def _other_port(flags: Sequence[str]) -> list[str]:
    """Any free port where nobody chose one and the usual one is taken: the address is in the data directory anyway."""
    chosen = any(flag.partition("=")[0] in {"--port", "--config"} for flag in flags)
    if chosen or "WYOLO_PORT" in os.environ or "port" in configured():
        return []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", DEFAULT_PORT))
        except OSError:
            return ["--port", "0"]
    return []


def configured() -> dict[str, Any]:
    """What the broker's configuration file says; nothing where there is none, or where it says nonsense."""
    base = os.environ.get("XDG_CONFIG_HOME")
    usual = (Path(base) if base else Path.home() / ".config") / "wyolo" / "wyolo.toml"
    path = Path(os.environ.get("WYOLO_CONFIG") or usual)
    if not path.is_file():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the broker says what is wrong with it
        return {}


def _left(folder: Path) -> Address | None:
    """The address in that data directory of a process that lives, whatever WYOLO_URL says."""
    try:
        address = _read(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if _alive(address.pid) else None


def _read(folder: Path) -> Address:
    said = json.loads((folder / ADDRESS_NAME).read_text())
    return Address(str(said["url"]), _key(folder), folder, int(said["pid"]))


def _given_key() -> str:
    return _whole("WYOLO_KEY", os.environ.get("WYOLO_KEY", ""))


def _key(folder: Path) -> str:
    file = folder / KEY_NAME
    try:
        return _whole(str(file), file.read_text(errors="surrogateescape"))
    except OSError:
        return ""


def _whole(where: str, text: str) -> str:
    """A key as it goes into a header: without what an editor or `echo` leaves at its end. Raises ProblemError."""
    key = text.strip()
    if not any(ord(character) < ord(" ") or character == "\x7f" for character in key):
        return key
    from broker.protocol.api import ErrorCode, Finding, Problem

    said, hint = "holds more than a key: a line break or another control character is in it", "copy the key again"
    finding = Finding(
        where=where, message=said, hint=f"{hint}: the broker's data directory has it in the file `{KEY_NAME}`"
    )
    detail = f"{where}: {said}"
    raise ProblemError(
        Problem(title="Bad Request", status=400, detail=detail, code=ErrorCode.BAD_REQUEST, findings=[finding])
    )


def _held(folder: Path) -> bool:
    """Whether another broker has begun to start there."""
    try:
        return _alive(int(json.loads((folder / LOCK_NAME).read_text())["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _reap() -> None:
    for child in _started:
        child.poll()


def _alive(pid: int | None) -> bool:
    _reap()
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _last_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip().rpartition("\n")[2]
    except OSError:
        return ""
