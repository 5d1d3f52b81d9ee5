"""Sandboxes raised for a test, and the docker command sent into them."""

import subprocess
from typing import Any

from dind import sandboxes
from dind.engine import Engine, silent
from dind.errors import SandboxError
from dind.home import Home
from dind.sandboxes import State
from dind.spec import Sandbox
from tests.docker.daemon import COMMAND_S
from tests.docker.tree import pack_busybox


def wanted(name: str, **more: Any) -> Sandbox:
    """On any free port: the port map's may be in use on this machine."""
    return Sandbox(name=name, **more)


async def raised(engine: Engine, home: Home, base: str, *which: Sandbox, **more: Any) -> dict[str, State]:
    outcomes = await sandboxes.up(engine, home, which, silent, base=base, **more)
    for outcome in outcomes.values():
        if isinstance(outcome, SandboxError):
            raise outcome
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, State)}


def command(home: Home, state: State, *arguments: str) -> list[str]:
    """The docker command, as the broker would reach it."""
    tls = ["--tlsverify", "--tlscacert", f"{home.authority}/ca.pem"]
    tls += ["--tlscert", f"{home.authority}/cert.pem", "--tlskey", f"{home.authority}/key.pem"]
    return ["docker", "-H", f"tcp://127.0.0.1:{state.port}", *tls, *arguments]


def docker(home: Home, state: State, *arguments: str) -> str:
    """What it prints. Raises AssertionError with what it says when it fails."""
    done = subprocess.run(command(home, state, *arguments), capture_output=True, check=False, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def with_busybox(home: Home, state: State) -> None:
    """So that containers can run in it."""
    packed = home.data_dir / "busybox.tar"
    if not packed.exists():
        pack_busybox(packed)
    docker(home, state, "import", str(packed), "busybox")
