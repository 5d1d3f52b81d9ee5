"""The broker's data directory: private, one broker's at a time, with the key and the address that clients read."""

import fcntl
import json
import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from broker.errors import DataDirLocked
from broker.version import VERSION

LOCK_NAME = "broker.lock"
KEY_NAME = "key"
ADDRESS_NAME = "broker.json"  # there while the broker answers


class DataDir:
    """Made where there is none. Raises OSError when it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
        self._lock: TextIO | None = None

    def lock(self) -> None:
        """Ours until the process ends, however it ends. Raises DataDirLocked, naming the holder."""
        file = _opened(self.path / LOCK_NAME)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = _holder(file.read())
            file.close()
            raise DataDirLocked(
                f"{self.path} is in use by {holder}; nothing was changed: stop that broker, or give this one another "
                "--data-dir"
            ) from None
        self._lock = file
        self.withdraw()  # what a broker left that was killed
        self._hold("")

    def announce(self, url: str) -> None:
        """The broker answers there now."""
        self._hold(url)
        with _opened(self._withdrawn) as file:
            _rewrite(file, self._about(url) | {"version": VERSION})
        self._withdrawn.replace(self.path / ADDRESS_NAME)

    def withdraw(self) -> None:
        """It does not any more. Idempotent. The file keeps its place on the disk, which may be full next time."""
        with suppress(FileNotFoundError):
            (self.path / ADDRESS_NAME).replace(self._withdrawn)

    def key(self) -> str:
        """256 random bits, made when the directory is new; whoever can read the file may ask the broker anything."""
        path = self.path / KEY_NAME
        if path.is_file() and (key := path.read_text().strip()):
            path.chmod(0o600)
            return key
        key = secrets.token_urlsafe(32)
        part = self.path / f".{KEY_NAME}.{os.getpid()}"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(key + "\n")
        part.replace(path)
        return key

    def _hold(self, url: str) -> None:
        assert self._lock is not None
        _rewrite(self._lock, self._about(url))

    @property
    def _withdrawn(self) -> Path:
        return self.path / f".{ADDRESS_NAME}"

    def _about(self, url: str) -> dict[str, Any]:
        return {"pid": os.getpid(), "url": url, "started": datetime.now(UTC).isoformat(timespec="seconds")}


def _opened(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")


def _rewrite(file: TextIO, about: dict[str, Any]) -> None:
    """In place: a file that has its block needs none of a disk that is full."""
    file.seek(0)
    file.write(json.dumps(about) + "\n")
    file.truncate()
    file.flush()


def _holder(text: str) -> str:
    try:
        about = json.loads(text)
        where = f" at {about['url']}" if about["url"] else ""
        return f"the broker with process id {about['pid']}{where}, started {about['started']}"
    except (ValueError, KeyError, TypeError):
        return "another broker, which does not say more"
