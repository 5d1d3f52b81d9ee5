"""A daemon's socket on another machine, brought here by OpenSSH: one connection for all, made again when it ends.

Keys, host keys and jump hosts are the operator's own ssh configuration; nothing is ever asked or accepted unseen.
"""

import asyncio
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from broker.errors import EngineUnreachable

CONNECT_S = 15.0
_STEP_S = 0.02
_REMOTE_SOCKET = "/var/run/docker.sock"
_REMEDIES = {
    "permission denied": "let its user log in with a key that needs no passphrase (ssh-copy-id, ssh-agent)",
    "host key verification failed": "log in once by hand and compare its host key, or write it into known_hosts",
    "remote host identification has changed": "its host key has changed: find out why before you correct known_hosts",
    "could not resolve": "correct the host in the node's `url`",
    "open failed": "its user may not use the daemon's socket: add it to the group docker there",
}


class Tunnel:
    """`url`: ssh://[user@]host[:port][/path of the daemon's socket]. `config`: for ssh -F; None: the user's own."""

    def __init__(self, node: str, url: str, config: Path | None = None) -> None:
        self._node = node
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._options = ["-p", str(parts.port)] if parts.port else []
        self._options += ["-l", parts.username] if parts.username else []
        self._options += ["-F", str(config)] if config is not None else []
        self._remote = parts.path if parts.path not in {"", "/"} else _REMOTE_SOCKET
        self._folder = Path(tempfile.mkdtemp(prefix="wyolo-ssh-"))  # 0700
        self.socket = self._folder / "docker.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._opening = asyncio.Lock()

    async def ready(self) -> None:
        """Raises EngineUnreachable, with what ssh said."""
        async with self._opening:
            if self._process is None or self._process.returncode is not None:
                await self._open()

    async def close(self) -> None:
        await self._end()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _open(self) -> None:
        await asyncio.to_thread(self.socket.unlink, missing_ok=True)
        options = ["BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
        options += [f"ConnectTimeout={CONNECT_S:.0f}", "ControlPath=none", "StreamLocalBindMask=0177"]
        try:
            self._process = await asyncio.create_subprocess_exec(
                "ssh",
                "-T",
                *(each for option in options for each in ("-o", option)),
                *self._options,
                *("-L", f"{self.socket}:{self._remote}", "--", self._host),
                "cat",  # reads our pipe: it ends with us, however we end, and ssh with it
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise EngineUnreachable(f"{self._node} is reached by ssh, which is not installed here") from error
        try:
            async with asyncio.timeout(CONNECT_S):
                while self._process.returncode is None and not self._listens():  # noqa: ASYNC110 - ssh does not tell
                    await asyncio.sleep(_STEP_S)
        except TimeoutError:
            await self._end()
            raise EngineUnreachable(f"{self._node}: ssh to {self._host} took over {CONNECT_S:.0f} s") from None
        if self._process.returncode is not None:
            raise EngineUnreachable(f"{self._node} cannot be reached by ssh: {await self._said()}")

    def _listens(self) -> bool:
        return self.socket.exists()

    async def _said(self) -> str:
        """What ssh said last, and what to do about it."""
        assert self._process is not None and self._process.stderr is not None
        said = (await self._process.stderr.read()).decode(errors="replace").strip()
        remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in said.lower()), "")
        last = said.splitlines()[-1].strip() if said else f"it ended with {self._process.returncode}"
        return f"{last}; {remedy}" if remedy else last

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()
