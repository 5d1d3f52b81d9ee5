"""A Docker daemon of the tests' own: its data in a temporary folder, apart from whatever else this machine runs.

Its default bridge is its own (with none, dockerd would remove another daemon's docker0), and it touches no firewall
rules; networks that are made on it work, and published ports answer on the loopback.
"""

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.docker.tree import DAEMON, FIREWALL, which
from tests.waiting import until_sync

SANDBOX_BASE = "wyolo-test-base"  # what dind/Dockerfile is built on
COMMAND_S = 180.0


def why_not() -> str:
    """Why no daemon can be raised here; empty where one can."""
    if os.geteuid() != 0:
        return "needs root, to start a Docker daemon"
    missing = [program for program in (*DAEMON, *FIREWALL, "openssl", "busybox", "ip", "ldd") if which(program) is None]
    packages = "Debian: docker.io iptables busybox-static openssl iproute2"
    return f"needs {', '.join(missing)} ({packages})" if missing else ""


class HostDaemon:
    """One dockerd. `stop` removes its containers too: nothing of it runs afterwards."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/docker.sock"
        self._arguments = arguments
        self._bridge = f"wyt{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "dockerd.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not Path(f"/sys/class/net/{self._bridge}").exists():
            run(["ip", "link", "add", self._bridge, "type", "bridge"])
            run(["ip", "address", "add", f"169.254.{secrets.randbelow(250) + 2}.1/24", "dev", self._bridge])
        command = ["dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec"]
        command += [
            "-p",
            self.folder / "pid",
            "-H",
            self.url,
            f"--bridge={self._bridge}",
            "--iptables=false",
            *self._arguments,
        ]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until_sync(self._answers, 60, "dockerd answers")

    def stop(self) -> None:
        if self._process is None:
            return
        try:
            if self._process.poll() is None:
                containers = self.docker("ps", "-aq").split()
                if containers:
                    self.docker("rm", "-fv", *containers)
                self.docker("network", "prune", "-f")
        finally:
            self._process.terminate()
            self._process.wait(60)
            self._process = None
            run(["ip", "link", "delete", self._bridge])

    def kill(self) -> None:
        """kill -9: its containers live on until it is started again, or stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def docker(self, *arguments: str, input: bytes | None = None) -> str:
        """What the docker command prints. Raises AssertionError with what it says when it fails."""
        command = ["docker", "-H", self.url, *arguments]
        done = subprocess.run(command, input=input, capture_output=True, check=False, timeout=COMMAND_S)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode()

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self.docker("inspect", name))[0]

    def names(self) -> list[str]:
        """Of its containers, running or not."""
        return sorted(self.docker("ps", "-a", "--format", "{{.Names}}").split())

    def import_tree(self, packed: Path, image: str, *changes: str) -> None:
        """`changes`: of the image's configuration, as a Dockerfile says them."""
        options = [option for change in changes for option in ("--change", change)]
        self.docker("import", *options, str(packed), image)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3000:]
        command = ["docker", "-H", self.url, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {(done.stderr or done.stdout)[-2000:]}"
