"""A real Docker daemon of a test's own: in a temporary directory and a network namespace, so that nothing else of the
machine's Docker notices. Containers there have no network, and need none."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.waiting import until_sync

START_S, END_S = 60.0, 30.0
IMAGE = "busybox"
_LINKS = ("sh", "echo", "sleep", "seq", "cat", "id", "true", "false", "touch", "ls", "head", "yes", "tr", "dd", "env")


def missing() -> str:
    """Why no daemon can be started here; '' where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a Docker daemon needs root"
    absent = [
        program
        for program in ("dockerd", "docker", "unshare", "nsenter", "ip", "busybox")
        if shutil.which(program) is None
    ]
    return f"not installed: {', '.join(absent)} (Debian: docker.io, busybox-static)" if absent else ""


def skip_without_docker() -> None:
    """Under CI it is no reason to skip."""
    if why := missing():
        if os.environ.get("WYOLO_CI"):
            pytest.fail(why)
        pytest.skip(why)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Dockerd:
    def __init__(self, directory: Path, *flags: str, path: str = "") -> None:
        """`path`: a folder with programs that the daemon finds before all others."""
        self.directory = directory
        self._env = os.environ | ({"PATH": f"{path}:{os.environ['PATH']}"} if path else {})
        self.socket = directory / "docker.sock"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, data: str = "data") -> Self:
        """Answers when it returns. `data`: its folder; another one is another daemon."""
        shutil.rmtree(self.directory / "exec" / "containerd", ignore_errors=True)  # of a life before this one
        return self._begin(data)

    def restore(self) -> Self:
        """Once it has ended: started again with all that its last life left, as by its machine's service manager."""
        assert self._process is not None
        self._process.wait(END_S)
        (self.directory / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)  # nobody may have reaped it
        return self._begin("data")

    def _begin(self, data: str) -> Self:
        (self.directory / "pid").unlink(missing_ok=True)
        command = [
            *("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", "dockerd"),
            *("--data-root", str(self.directory / data)),
            *("--exec-root", str(self.directory / "exec"), "--pidfile", str(self.directory / "pid")),
            *("--host", self.url, "--bridge", "none", "--iptables=false", "--max-download-attempts", "1"),
            *self._flags,
        ]
        with (self.directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until_sync(self._answers, START_S, "a Docker daemon")
        return self

    def docker(self, *arguments: str, check: bool = True) -> str:
        """The docker command against this daemon: what it prints."""
        command = ["docker", "--host", self.url, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
        return done.stdout.strip()

    def containers(self, *filters: str) -> Sequence[str]:
        """Names of all containers of wyolo's, running or not."""
        options = [option for each in ("label=wyolo.job", *filters) for option in ("--filter", each)]
        return self.docker("ps", "--all", "--format", "{{.Names}}", *options).split()

    def import_busybox(self) -> None:
        root = self.directory / "busybox"
        (root / "bin").mkdir(parents=True, exist_ok=True)
        (root / "tmp").mkdir(exist_ok=True)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin" / "busybox")
        for name in _LINKS:
            link = root / "bin" / name
            if not link.is_symlink():
                link.symlink_to("busybox")
        archive = self.directory / "busybox.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        self.docker("import", str(archive), IMAGE)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """As it ends with its machine: its containers end too."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self.signal(signal.SIGTERM)
        self._process.wait(END_S)

    def remove(self) -> None:
        """Its containers, itself, and its files."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            left = self.docker("ps", "--all", "--quiet", check=False).split()
            if left:
                self.docker("rm", "--force", "--volumes", *left, check=False)
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        log = self.directory / "dockerd.log"
        assert self._process.poll() is None, f"dockerd ended: {log.read_text(errors='replace')[-2000:]}"
        return bool(self.socket.exists() and self.docker("info", "--format", "{{.ID}}", check=False))
