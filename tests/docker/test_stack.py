"""The compose stack says what the code says, keeps its secrets, and is read by both generations of compose."""

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from broker.settings import Settings
from dind import ports, spec, stack
from dind.errors import MissingPath, SandboxError
from dind.home import Home
from dind.spec import NAMES, Sandbox

# Keys of the Compose Specification (2.x) that version 1.29 reads too, by where they stand.
SERVICE_KEYS = {
    *("build", "cap_add", "command", "container_name", "depends_on", "deploy", "device_cgroup_rules", "environment"),
    *("hostname", "image", "init", "networks", "pids_limit", "ports", "profiles", "restart", "security_opt"),
    *("stop_grace_period", "user", "volumes"),
}
VARIABLE = re.compile(r"(?<!\$)\$(?!\$)(\{[A-Z_0-9]+(:[-?][^{}]*)?\})?")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data")


def compose() -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load((Path(stack.__file__).parent / "compose.yaml").read_text()))


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def published() -> dict[str, dict[int, int]]:
    """Service -> host port -> its own port."""
    found = dict[str, dict[int, int]]()
    for name, service in services().items():
        for text in service["ports"]:
            address, host, inside = text.split(":")
            assert address == "127.0.0.1", f"{name} would answer to the network"
            found.setdefault(name, {})[int(host)] = int(inside)
    return found


def read_by_compose(folder: Path, *arguments: str) -> dict[str, Any]:
    if shutil.which("docker-compose") is None:
        reason = "needs docker-compose (Debian: docker-compose)"
        if os.environ.get("WYOLO_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        ["docker-compose", *arguments, "config"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return cast(dict[str, Any], yaml.safe_load(done.stdout))


def test_every_port_is_the_port_map_s() -> None:
    expected = {
        "redis": {ports.SERVICES["redis"]: ports.INSIDE["redis"]},
        "mlflow": {ports.SERVICES["mlflow"]: ports.INSIDE["mlflow"]},
        "s3": {
            ports.SERVICES["s3"]: ports.INSIDE["s3"],
            ports.SERVICES["s3-console"]: ports.INSIDE["s3-console"],
        },
        "broker": {ports.SERVICES["broker"]: ports.INSIDE["broker"]},
        "redis-browser": {ports.SERVICES["redis-browser"]: ports.INSIDE["redis-browser"]},
    }
    for name, block in ports.BLOCKS.items():
        expected[f"dind_{name}"] = {block + ports.ENGINE: ports.DOCKER_INSIDE}
        expected[f"ssh_{name}"] = {block + ports.SSH: ports.SSH_INSIDE}
        expected[f"terminal_{name}"] = {block + ports.WEB_TERMINAL: ports.WEB_TERMINAL_INSIDE}
        expected[f"portainer_{name}"] = {block + ports.PORTAINER: ports.PORTAINER_INSIDE}
    assert published() == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_sandbox_of_the_stack_is_what_up_would_raise(name: str) -> None:
    service = services()[f"dind_{name}"]
    sandbox = Sandbox(name=name, port=ports.engine_port(name))
    body = spec.container(sandbox, Path("/certificates"), Path("/jobs"), "/home", ())
    host = body["HostConfig"]
    assert service["container_name"] == service["hostname"] == sandbox.container == body["Hostname"]
    assert service["cap_add"] == host["CapAdd"]
    assert service["security_opt"] == host["SecurityOpt"]
    assert service["device_cgroup_rules"] == host["DeviceCgroupRules"]
    assert service["pids_limit"] == host["PidsLimit"]
    assert service["stop_grace_period"] == f"{body['StopTimeout']}s"
    mounts = {text.removesuffix(":ro").rpartition(":")[2]: text.endswith(":ro") for text in service["volumes"]}
    assert mounts == {mount["Target"]: mount.get("ReadOnly", False) for mount in host["Mounts"]} | {
        spec.DATA_INSIDE: True,
        spec.WEIGHTS_INSIDE: True,
    }
    assert service["volumes"][0] == f"{sandbox.volume}:/var/lib/docker"
    assert compose()["volumes"][sandbox.volume] == {"name": sandbox.volume}


def test_it_holds_to_what_both_generations_of_compose_read() -> None:
    document = compose()
    assert {key for key in document if not key.startswith("x-")} == {"services", "networks", "volumes"}
    for name, service in services().items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service["networks"]) <= set(document["networks"])
        for text in service["volumes"]:
            source = text.removesuffix(":ro").rpartition(":")[0]
            assert source.startswith(("./", "${")) or source in document["volumes"], f"{name}: {source}"
    text = (Path(stack.__file__).parent / "compose.yaml").read_text()
    assert all(match[1] for match in VARIABLE.finditer(text)), "each variable is ${NAME}, with :- or :? at most"


def test_the_older_compose_reads_it_with_every_profile(home: Home, tmp_path: Path) -> None:
    laid = stack.init(home, tmp_path / "stack")
    found = read_by_compose(laid.folder)
    assert f"{home.data_dir}/jobs:{spec.JOBS_INSIDE}:rw" in found["services"]["dind_api"]["volumes"]
    profiles = ["ssh", "web-terminal", "portainer", "redis-browser"]
    everything = read_by_compose(laid.folder, *(flag for name in profiles for flag in ("--profile", name)))
    assert set(everything["services"]) == set(services())
    assert {name for service in services().values() for name in service.get("profiles", [])} == set(profiles)


def test_the_older_compose_hands_gpus_on_where_they_were_asked_for(home: Home, tmp_path: Path) -> None:
    laid = stack.init(home, tmp_path / "stack", gpus=True)
    devices = read_by_compose(laid.folder)["services"]["dind_media"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"capabilities": ["gpu"], "count": "all", "driver": "nvidia"}]
    assert [node["gpus"] for node in broker_toml(laid.folder)["nodes"]] == ["all"] * 3


def test_compose_says_what_to_run_where_nothing_was_laid_down(tmp_path: Path) -> None:
    shutil.copy(Path(stack.__file__).parent / "compose.yaml", tmp_path)
    with pytest.raises(AssertionError, match="run wyolo sandbox init"):
        read_by_compose(tmp_path)


def broker_toml(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "secrets" / "broker.toml").read_text())


def test_the_broker_of_the_stack_understands_its_settings(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("WYOLO_")]:
        monkeypatch.delenv(name)
    sets = tmp_path / "sets"
    sets.mkdir()
    laid = stack.init(home, tmp_path / "stack", sets=sets)
    settings = Settings(**broker_toml(laid.folder))
    assert [node.name for node in settings.nodes] == ["dind_api", "dind_environment", "dind_media"]
    assert settings.path_map == {str(sets): spec.DATA_INSIDE}
    assert settings.redis_url is not None
    assert "WYOLO_REDIS_PASSWORD=" in (laid.folder / ".env").read_text()


def test_secrets_are_random_private_and_kept(home: Home, tmp_path: Path) -> None:
    laid = stack.init(home, tmp_path / "stack")
    first = (laid.folder / ".env").read_text()
    assert stat.S_IMODE((laid.folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((laid.folder / "secrets").stat().st_mode) == 0o700
    passwords = {line.partition("=")[2] for line in first.splitlines() if "PASSWORD=" in line}
    assert len(passwords) == 4
    assert min(len(password) for password in passwords) >= 32
    other = stack.init(Home(tmp_path / "other"), tmp_path / "other-stack")
    assert not passwords & set((other.folder / ".env").read_text().replace("=", "\n").splitlines())

    (laid.folder / ".env").write_text(f"{first}WYOLO_REDIS_IMAGE=redis:8\n")
    again = stack.init(home, laid.folder)
    assert not again.fresh
    kept = (laid.folder / ".env").read_text()
    assert set(first.splitlines()) <= set(kept.splitlines())
    assert "WYOLO_REDIS_IMAGE=redis:8" in kept


def test_no_password_stands_in_what_docker_inspect_would_show(home: Home, tmp_path: Path) -> None:
    laid = stack.init(home, tmp_path / "stack")
    env = (laid.folder / ".env").read_text().splitlines()
    passwords = [line.partition("=")[2] for line in env if "PASSWORD=" in line]
    everything = [
        "--profile",
        "ssh",
        "--profile",
        "web-terminal",
        "--profile",
        "portainer",
        "--profile",
        "redis-browser",
    ]
    shown = json.dumps(read_by_compose(laid.folder, *everything))
    assert not [password for password in passwords if password in shown]


def test_what_the_images_are_built_from_has_no_secret_beside_it(home: Home, tmp_path: Path) -> None:
    laid = stack.init(home, tmp_path / "stack")
    contexts = {service["build"]["context"] for service in services().values() if "build" in service}
    assert contexts == {"build"}
    files = {str(path.relative_to(laid.folder / "build")) for path in (laid.folder / "build").rglob("*.py")}
    assert "src/broker/daemon.py" in files
    assert not (laid.folder / "build" / "secrets").exists()
    for service in services().values():
        if "build" in service:
            assert (laid.folder / "build" / service["build"].get("dockerfile", "Dockerfile")).is_file()


def test_a_folder_that_does_not_exist_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match="nowhere"):
        stack.init(home, tmp_path / "stack", sets=tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SandboxError, match=f"cannot write {tmp_path}/file"):
        stack.init(home, tmp_path / "file" / "stack")
