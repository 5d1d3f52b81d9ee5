"""An engine on another machine, by ssh: here a real sshd on the loopback."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.beside import LOG, beside
from broker.engines.base import Exit
from broker.engines.docker_attempt import DockerAttempt
from broker.engines.docker_link import Link
from broker.errors import EngineUnreachable
from tests.containers.dockerd import Dockerd, free_port
from tests.containers.node import Node, piped, said
from tests.waiting import until, until_awaited, until_sync


class Sshd:
    """Lets in whoever has `key`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        for name in ("host", "key", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
            subprocess.run(command, check=True)
        shutil.copy(directory / "key.pub", directory / "authorized")
        host = (directory / "host.pub").read_text().split()[:2]
        (directory / "known").write_text(f"[127.0.0.1]:{self.port} {' '.join(host)}\n")
        (directory / "nobody").touch()
        self._process: subprocess.Popen[bytes] | None = None

    def config(self, key: str = "key", known: str = "known") -> Path:
        path = self.directory / f"config-{key}-{known}"
        path.write_text(
            f"Host *\n IdentityFile {self.directory / key}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {self.directory / known}\n GlobalKnownHostsFile none\n"
        )
        return path

    def start(self) -> None:
        options = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.directory / "host",
            "AuthorizedKeysFile": self.directory / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
        }
        flags = [each for name, value in options.items() for each in ("-o", f"{name}={value}")]
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *flags], stderr=log)
        until_sync(lambda: b"listening" in (self.directory / "sshd.log").read_bytes(), what="sshd")

    def stop(self) -> None:
        """With the connections that it holds."""
        if self._process is not None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            for pid in (self._process.pid, *map(int, children)):
                os.kill(pid, 15)
            self._process.wait(10)
            self._process = None
            (self.directory / "sshd.log").unlink()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    if sys.platform != "linux" or not Path("/usr/sbin/sshd").exists() or os.geteuid() != 0:
        if os.environ.get("WYOLO_CI"):
            pytest.fail("needs root and openssh-server")
        pytest.skip("needs root and openssh-server")
    sshd = Sshd(tmp_path)
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()


async def test_a_job_runs_by_ssh_and_survives_the_connection(
    shared_dockerd: Dockerd, sshd: Sshd, tmp_path: Path
) -> None:
    url = f"ssh://root@127.0.0.1:{sshd.port}{shared_dockerd.socket}"
    async with Node(shared_dockerd, tmp_path / "jobs", link=lambda: Link("far", url, None, sshd.config())) as node:
        launch = node.shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.01; done")
        attempt = await node.engine.launch(launch)
        log = beside(launch.directory, LOG)
        await until(lambda: log.read_text().count("\n") > 20)
        assert await piped(attempt, ("sh", "-c", "busybox wc -c; exit 4"), b"x" * 500_000) == (4, b"500000\n")
        sshd.stop()
        with pytest.raises(EngineUnreachable):
            await attempt.wait()
        sshd.start()

        async def again() -> DockerAttempt | None:
            with suppress(EngineUnreachable):
                return await node.attach(launch, attempt.engine_ref)

        found = await until_awaited(again, what="the attempt, found again")
        assert found is not None
        assert await found.wait() == Exit(0)
        assert await said(found) == [str(number) for number in range(1, 301)]


@pytest.mark.parametrize(
    ("key", "known", "remedy"), [("stranger", "known", "ssh-copy-id"), ("key", "nobody", "known_hosts")]
)
async def test_a_refused_key_and_an_unknown_host_have_their_remedies(
    sshd: Sshd, key: str, known: str, remedy: str
) -> None:
    link = Link("far", f"ssh://root@127.0.0.1:{sshd.port}", None, sshd.config(key, known))
    try:
        with pytest.raises(EngineUnreachable, match=remedy):
            await link.root()
    finally:
        await link.close()
