"""wyolo sandbox and wyolo images as a person types them, against a real daemon."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dind.home import Home
from tests.docker.daemon import HostDaemon
from tests.running import broker_environment
from tests.waiting import until_sync

ROOT = Path(__file__).parents[2]


class Terminal:
    """wyolo with a data directory and a daemon of its own."""

    def __init__(self, host: HostDaemon, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.env = broker_environment(WYOLO_DATA_DIR=str(data_dir), DOCKER_HOST=host.url)

    def wyolo(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "wyolo_tui", *arguments]
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done

    def states(self) -> dict[str, dict[str, Any]]:
        return {state["name"]: state for state in json.loads(self.wyolo("sandbox", "status", "--json").stdout)}


@pytest.fixture
def terminal(host: HostDaemon, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(host, tmp_path / "data")
    yield terminal
    terminal.wyolo("sandbox", "down", "--force", "--volumes")


def test_from_nothing_to_an_image_on_a_sandbox_and_back(
    terminal: Terminal, host: HostDaemon, sandbox_base: str, tmp_path: Path
) -> None:
    (tmp_path / "sets").mkdir()
    up = ["sandbox", "up", "api", "media", "--base", sandbox_base, "--port", "0"]
    done = terminal.wyolo(*up, "--memory", "2G", "--data", str(tmp_path / "sets"))
    assert "✓ dind_api" in done.stdout
    assert "api: starting" in done.stderr
    states = terminal.states()
    assert {name: state["state"] for name, state in states.items()} == {
        "api": "healthy",
        "environment": "absent",
        "media": "healthy",
    }
    assert host.inspect("dind_media")["HostConfig"]["Memory"] == 2 * 2**30

    terminal.wyolo("sandbox", "up", "api", "--pids", "999")  # what was said before holds
    limits = host.inspect("dind_api")["HostConfig"]
    assert (limits["Memory"], limits["PidsLimit"]) == (2 * 2**30, 999)
    assert terminal.states()["api"]["port"] == states["api"]["port"]

    assert terminal.wyolo("sandbox", "shell", "api", "--", "hostname").stdout == "dind_api\n"
    terminal.wyolo("sandbox", "shell", "api", "--", "sh", "-c", "exit 7", code=7)
    assert "API listen on [::]:2376" in terminal.wyolo("sandbox", "logs", "media").stdout

    terminal.wyolo("images", "build", "--base", "busybox", "--no-install", "--image", "wyolo-test-cli")
    terminal.wyolo("images", "status", "--image", "wyolo-test-cli", code=1)
    pushed = terminal.wyolo("images", "push", "--image", "wyolo-test-cli")
    assert "dind_api has received wyolo-test-cli" in pushed.stdout
    assert "dind_media has received wyolo-test-cli" in pushed.stdout
    terminal.wyolo("images", "status", "--image", "wyolo-test-cli")
    assert "wyolo-test-cli" in terminal.wyolo("sandbox", "shell", "media", "--", "docker", "images").stdout

    down = terminal.wyolo("sandbox", "down", "media")
    assert down.stdout == "dind_media has been removed; what is in it is kept for the next `up`\n"
    assert sorted(Home(terminal.data_dir).registered()) == ["dind_api"]


def test_a_job_runs_in_a_sandbox_that_was_raised_for_it(terminal: Terminal, sandbox_base: str, tmp_path: Path) -> None:
    terminal.wyolo("sandbox", "up", "api", "--base", sandbox_base, "--port", "0")
    terminal.wyolo("images", "build", "--base", "busybox", "--no-install")
    terminal.wyolo("images", "push")
    config = tmp_path / "wyolo.toml"
    config.write_text("nodes = []\nport = 0\n")  # so that it can run in the sandbox alone
    terminal.env["WYOLO_CONFIG"] = str(config)
    terminal.wyolo("broker", "start")
    try:
        job = json.loads(terminal.wyolo("run", "--json", "--", "sh", "-c", "id -u; hostname; ls /wyolo").stdout)
        terminal.wyolo("wait", str(job["id"]), code=1)  # there is no /wyolo in its container
        said = terminal.wyolo("logs", str(job["id"])).stdout.splitlines()
        assert said[0] == "65534"
        job = json.loads(terminal.wyolo("run", "--json", "--", "echo", "hello").stdout)
        terminal.wyolo("wait", str(job["id"]))
        assert json.loads(terminal.wyolo("show", str(job["id"]), "--json").stdout)["state"] == "completed"
        assert terminal.wyolo("logs", str(job["id"])).stdout == "hello\n"
    finally:
        terminal.wyolo("broker", "stop")


def test_a_shell_in_a_sandbox_has_the_terminal(terminal: Terminal, sandbox_base: str) -> None:
    terminal.wyolo("sandbox", "up", "api", "--base", sandbox_base, "--port", "0")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "wyolo_tui", "sandbox", "shell", "api"]
    process = subprocess.Popen(command, env=terminal.env, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.set_blocking(ours, False)
    seen = bytearray()

    def shown(words: bytes) -> bool:
        with suppress(OSError):  # nothing yet, or it has ended
            seen.extend(os.read(ours, 65536))
        return words in seen

    try:
        until_sync(lambda: shown(b"# "), 30, "a prompt")
        os.write(ours, b"echo in-$(hostname); tty\n")
        until_sync(lambda: shown(b"in-dind_api"), 30, "what was typed is done")
        until_sync(lambda: shown(b"/dev/pts/"), 30, "it is a terminal")
        os.write(ours, b"exit 3\n")
        assert process.wait(30) == 3
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_each_refusal_says_what_to_do(terminal: Terminal, sandbox_base: str, tmp_path: Path) -> None:
    def said(*arguments: str, code: int = 1) -> str:
        return terminal.wyolo(*arguments, code=code).stderr

    assert "→ start it" in said("sandbox", "up", "--engine", f"unix://{tmp_path}/none.sock")
    assert "→ raise it: wyolo sandbox up" in said("sandbox", "logs", "api")
    assert "→ raise it: wyolo sandbox up" in said("sandbox", "shell", "api", "--", "true")
    assert "→ make it" in said("sandbox", "up", "api", "--data", str(tmp_path / "none"))
    assert "no amount of memory" in said("sandbox", "up", "--memory", "lots", code=2)
    assert "no name of a sandbox" in said("sandbox", "up", "A_B", code=2)
    assert "one port" in said("sandbox", "up", "--port", "23403", code=2)
    assert "no Docker node" in said("images", "push", "nowhere", code=2)
    assert "→ build it: wyolo images build" in said("images", "push", "--image", "wyolo-test-never")
    problem = json.loads(terminal.wyolo("sandbox", "logs", "api", "--json", code=1).stdout)
    assert (problem["code"], problem["title"]) == ("engine", "NoSandbox")


def test_init_lays_the_stack_down_in_the_data_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "wyolo_tui", "sandbox", "init"]
    env = broker_environment(WYOLO_DATA_DIR=str(tmp_path))
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"start it: cd {tmp_path}/stack && docker compose up -d" in done.stdout
    assert (tmp_path / "stack" / "compose.yaml").is_file()
