"""An engine behind mutual TLS, by a line that breaks."""

import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.beside import LOG, beside
from broker.engines.base import Exit
from broker.engines.docker_errors import Refused
from broker.engines.docker_link import Link
from broker.errors import EngineUnreachable
from dind import certificates
from tests.containers import tls
from tests.containers.dockerd import Dockerd, skip_without_docker
from tests.containers.node import Node, piped, said
from tests.waiting import until


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Dockerd]:
    skip_without_docker()
    directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
    daemon = Dockerd(directory, *tls.flags(directory / "tls"))
    try:
        daemon.start().import_busybox()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
async def line(encrypted: Dockerd) -> AsyncIterator[tls.Line]:
    async with tls.Line(encrypted) as line:
        yield line


def certificates_of(encrypted: Dockerd) -> Path:
    return encrypted.directory / "tls" / "client"


async def test_a_job_runs_by_tls_and_a_cut_line_loses_nothing(
    encrypted: Dockerd, line: tls.Line, tmp_path: Path
) -> None:
    async with Node(
        encrypted, tmp_path / "jobs", link=lambda: Link("box", line.url, certificates_of(encrypted))
    ) as node:
        launch = node.shell("i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 5")
        attempt = await node.engine.launch(launch)
        log = beside(launch.directory, LOG)
        await until(lambda: log.read_text().count("\n") > 20)
        await line.cut()
        with pytest.raises(EngineUnreachable):
            await attempt.wait()
        with pytest.raises(EngineUnreachable):
            await attempt.stop()
        with pytest.raises(EngineUnreachable):
            await node.attach(launch, attempt.engine_ref)
        await line.mend()
        found = await node.attach(launch, attempt.engine_ref)
        assert await found.wait() == Exit(5)
        assert await said(found) == [str(number) for number in range(1, 301)]


async def test_a_program_hears_the_end_of_its_input_by_tls_and_is_heard_after_it(
    encrypted: Dockerd, line: tls.Line, tmp_path: Path
) -> None:
    async with Node(
        encrypted, tmp_path / "jobs", link=lambda: Link("box", line.url, certificates_of(encrypted))
    ) as node:
        attempt = await node.engine.launch(node.shell("sleep 99"))
        given = random.Random(5).randbytes(2_000_001)
        script = "busybox cat; busybox sleep 0.2; echo; head -c 300000 /dev/zero; exit 6"
        code, made = await piped(attempt, ("sh", "-c", script), given)
        assert code == 6
        assert made == given + b"\n" + bytes(300_000)
        await attempt.kill()
        await attempt.wait()
    link = Link("box", line.url, certificates_of(encrypted))
    with pytest.raises(Refused, match="No such exec"):
        await link.attach_exec("0" * 64, tty=False)
    await link.close()


@pytest.mark.parametrize("whose", ["nobody's", "another authority's"])
async def test_a_wrong_certificate_is_named_with_its_folder(
    encrypted: Dockerd, line: tls.Line, tmp_path: Path, whose: str
) -> None:
    folder = tmp_path / "tls"
    certificates.ensure_authority(folder)
    if whose == "nobody's":  # the daemon's is trusted, ours is not
        shutil.copy(certificates_of(encrypted) / certificates.CA, folder / certificates.CA)
    link = Link("box", line.url, folder)
    try:
        with pytest.raises(EngineUnreachable, match=r"`tls` folder"):
            await link.root()
    finally:
        await link.close()


async def test_without_certificates_nothing_is_sent(line: tls.Line, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "nothing"):
        link = Link("box", line.url, folder)
        with pytest.raises(EngineUnreachable, match=r"tls|pem"):
            await link.root()
        await link.close()
