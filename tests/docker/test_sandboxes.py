"""Sandboxes on a real daemon: raised, looked at, used and removed."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dind import sandboxes
from dind.engine import Engine, connected, silent
from dind.errors import SandboxError
from dind.home import Home
from dind.sandboxes import State
from dind.spec import NAMES, Sandbox
from tests.docker.daemon import HostDaemon, busybox_tree

pytestmark = pytest.mark.timeout(400)  # the first of them waits for debootstrap


@pytest.fixture
async def engine(host: HostDaemon) -> AsyncIterator[Engine]:
    async with connected(host.url) as engine:
        yield engine


@pytest.fixture
async def home(engine: Engine, tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(tmp_path / "data")
    yield home
    await sandboxes.down(engine, home, [home.sandbox(name) for name in home.names()], silent, force=True, volumes=True)


def wanted(name: str, **more: Any) -> Sandbox:
    """On any free port: the port map's may be in use on this machine."""
    return Sandbox(name=name, **more)


async def raised(engine: Engine, home: Home, base: str, *which: Sandbox, **more: Any) -> dict[str, State]:
    outcomes = await sandboxes.up(engine, home, which, silent, base=base, **more)
    for outcome in outcomes.values():
        if isinstance(outcome, SandboxError):
            raise outcome
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, State)}


def docker(home: Home, state: State, *arguments: str, input: bytes | None = None) -> str:
    """The docker command, sent into the sandbox as the broker would reach it."""
    url = f"tcp://127.0.0.1:{state.port}"
    tls = ["--tlsverify", "--tlscacert", f"{home.authority}/ca.pem"]
    tls += ["--tlscert", f"{home.authority}/cert.pem", "--tlskey", f"{home.authority}/key.pem"]
    command = ["docker", "-H", url, *tls, *arguments]
    done = subprocess.run(command, input=input, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def test_three_sandboxes_come_up_run_containers_and_go_without_a_trace(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    before = host.names()
    states = await raised(engine, home, sandbox_base, *(wanted(name) for name in NAMES))
    assert [state.state for state in states.values()] == ["healthy"] * 3
    assert len({state.port for state in states.values()}) == 3
    for name, state in states.items():
        docker(home, state, "import", "-", "busybox", input=busybox_tree())
        assert docker(home, state, "run", "--rm", "busybox", "echo", name) == f"{name}\n"
    registered = home.registered()
    assert sorted(registered) == ["dind_api", "dind_environment", "dind_media"]
    assert registered["dind_api"]["url"] == f"tcp://127.0.0.1:{states['api'].port}"
    outcome = await sandboxes.down(engine, home, [home.sandbox(name) for name in NAMES], silent, volumes=True)
    assert outcome == dict.fromkeys(NAMES, True)
    assert host.names() == before
    assert not host.docker("volume", "ls", "-q", "--filter", "label=wyolo.sandbox")
    assert home.registered() == {}


async def test_a_second_up_changes_nothing(host: HostDaemon, engine: Engine, home: Home, sandbox_base: str) -> None:
    await raised(engine, home, sandbox_base, wanted("api"))
    first = host.inspect("dind_api")
    await raised(engine, home, sandbox_base, home.sandbox("api"))
    second = host.inspect("dind_api")
    assert (second["Id"], second["State"]["StartedAt"]) == (first["Id"], first["State"]["StartedAt"])
