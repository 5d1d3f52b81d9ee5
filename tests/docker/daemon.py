"""A Docker daemon of the tests' own: its data in a temporary folder, apart from whatever else this machine runs.

Its default bridge is its own (with none, dockerd would remove another daemon's docker0), and it touches no firewall
rules; networks that are made on it work, and published ports answer on the loopback.
"""

import functools
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.waiting import until_sync

BUSYBOX = "busybox"
SANDBOX_BASE = "wyolo-test-base"  # Debian with dockerd: what dind/Dockerfile is built on
PACKAGES = "docker.io,iptables,openssl,ca-certificates,python3-minimal"
BASE_FOLDER = os.environ.get("WYOLO_TEST_BASE")  # a Debian tree made before; none: debootstrap makes one


def why_not() -> str:
    """Why no daemon can be raised here; empty where one can."""
    if os.geteuid() != 0:
        return "needs root, to start a Docker daemon"
    missing = [
        program for program in ("dockerd", "docker", "iptables", "busybox", "ip") if shutil.which(program) is None
    ]
    if BASE_FOLDER is None and shutil.which("debootstrap") is None:
        missing.append("debootstrap")
    return (
        f"needs {', '.join(missing)} (Debian: docker.io iptables busybox-static debootstrap iproute2)"
        if missing
        else ""
    )


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
        done = subprocess.run(["docker", "-H", self.url, *arguments], input=input, capture_output=True, check=False)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode()

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self.docker("inspect", name))[0]

    def names(self) -> list[str]:
        """Of its containers, running or not."""
        return sorted(self.docker("ps", "-a", "--format", "{{.Names}}").split())

    def import_tree(self, folder: Path, image: str) -> None:
        packed = subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE)
        assert packed.stdout is not None
        with packed.stdout as tar:
            subprocess.run(["docker", "-H", self.url, "import", "-", image], stdin=tar, check=True, capture_output=True)
        assert packed.wait() == 0

    def import_busybox(self, image: str = BUSYBOX) -> None:
        self.docker("import", "-", image, input=busybox_tree())

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3000:]
        command = ["docker", "-H", self.url, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@functools.cache
def busybox_tree() -> bytes:
    """A root file system with /bin/busybox, which is static, and a link to it for each of its commands."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").resolve()
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ("bin", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for command in listed:
            if command != "busybox":
                link = tarfile.TarInfo(f"bin/{command}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return packed.getvalue()


def debian_tree(folder: Path, packages: str = PACKAGES) -> Path:
    """A Debian with dockerd on it: 40 s."""
    if BASE_FOLDER is not None:
        return Path(BASE_FOLDER)
    run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(folder)])
    for left in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(folder / left, ignore_errors=True)
    return folder


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {(done.stderr or done.stdout)[-2000:]}"
