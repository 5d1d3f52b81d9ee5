"""Sandboxes on a real daemon: raised, looked at, used and removed."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from broker.engines.container import on_node
from broker.settings import NodeSettings
from dind import sandboxes
from dind.engine import Engine, connected, silent
from dind.errors import (
    EngineAway,
    JobsRunning,
    MissingPath,
    NoGpuRuntime,
    NoImage,
    NotOurs,
    PortTaken,
    Unhealthy,
    WrongCertificate,
)
from dind.home import Home
from dind.sandboxes import State
from dind.spec import NAMES
from tests.docker.daemon import HostDaemon
from tests.docker.raising import docker, raised, wanted, with_busybox
from tests.waiting import until_awaited


async def test_three_sandboxes_come_up_run_containers_and_go_without_a_trace(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    before = host.names()
    states = await raised(engine, home, sandbox_base, *(wanted(name) for name in NAMES))
    assert [state.state for state in states.values()] == ["healthy"] * 3
    assert len({state.port for state in states.values()}) == 3
    for name, state in states.items():
        with_busybox(home, state)
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


async def test_a_sandbox_sees_jobs_data_and_weights_where_the_broker_is_told(
    engine: Engine, home: Home, sandbox_base: str, tmp_path: Path
) -> None:
    for name in ("sets", "weights"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "it").write_text(name)
    sandbox = wanted("api", data=(tmp_path / "sets",), weights=tmp_path / "weights")
    state = (await raised(engine, home, sandbox_base, sandbox))["api"]
    with_busybox(home, state)
    node = NodeSettings.model_validate(home.registered()["dind_api"])  # as the broker reads it
    job = home.jobs / "7"
    job.mkdir()
    mounts = [f"{on_node(path, node.path_map)}:{path}" for path in (tmp_path / "sets", tmp_path / "weights", job)]
    flags = [flag for mount in mounts for flag in ("-v", mount)]
    script = f"cat {tmp_path}/sets/it {tmp_path}/weights/it; echo done > {job}/result"
    assert docker(home, state, "run", "--rm", *flags, "busybox", "sh", "-c", script) == "setsweights"
    assert (job / "result").read_text() == "done\n"
    readonly = mounts[0]
    with pytest.raises(AssertionError, match="Read-only file system"):
        docker(home, state, "run", "--rm", "-v", readonly, "busybox", "touch", f"{tmp_path}/sets/new")


async def test_limits_reach_the_daemon_and_the_capabilities_are_few(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    await raised(engine, home, sandbox_base, wanted("api", cpus=1.5, memory_mib=1024, pids=500))
    limits = host.inspect("dind_api")["HostConfig"]
    assert (limits["NanoCpus"], limits["Memory"], limits["PidsLimit"]) == (1_500_000_000, 1024 * 2**20, 500)
    assert not limits["Privileged"]
    assert sorted(limits["CapAdd"]) == ["DAC_READ_SEARCH", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"]
    ports = [binding for bound in limits["PortBindings"].values() for binding in bound]
    assert [binding["HostIp"] for binding in ports] == ["127.0.0.1"]


async def test_nobody_without_a_certificate_of_ours_is_let_in(engine: Engine, home: Home, sandbox_base: str) -> None:
    state = (await raised(engine, home, sandbox_base, wanted("api")))["api"]
    with socket.create_connection(("127.0.0.1", state.port), timeout=5) as plain:
        plain.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP request to an HTTPS server" in plain.recv(4096)
    stranger = Home(home.data_dir / "stranger")
    stranger.prepare()
    with pytest.raises(WrongCertificate, match="trust") as error:
        async with sandboxes.inside(stranger, wanted("api"), state.port) as daemon:
            await daemon.info()
    assert "wyolo sandbox up" in error.value.remedy
    (home.authority / "cert.pem").write_bytes((stranger.authority / "cert.pem").read_bytes())
    (home.authority / "key.pem").write_bytes((stranger.authority / "key.pem").read_bytes())
    with pytest.raises(WrongCertificate, match=r"certificate|ca"):  # of an authority that the sandbox does not know
        async with sandboxes.inside(home, wanted("api"), state.port) as daemon:
            await daemon.info()
    keys = list(home.folder.rglob("*key.pem"))
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


async def test_down_and_a_changed_wish_leave_a_sandbox_alone_while_a_job_runs_in_it(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    state = (await raised(engine, home, sandbox_base, wanted("api")))["api"]
    with_busybox(home, state)
    docker(
        home, state, "run", "-d", "--init", "--name", "wyolo-7-1", "--label", "wyolo.job=7", "busybox", "sleep", "1000"
    )
    sandbox = home.sandbox("api")
    refused = (await sandboxes.down(engine, home, [sandbox], silent))["api"]
    assert isinstance(refused, JobsRunning)
    assert "wyolo-7-1" in str(refused)
    more = sandbox.model_copy(update={"pids": 900})
    refused = (await sandboxes.up(engine, home, [more], silent))["api"]
    assert isinstance(refused, JobsRunning)
    assert "left as it is" in str(refused)
    assert (await sandboxes.inspect(engine, home, sandbox)).jobs == ("wyolo-7-1",)
    # Told to, it goes; what was in it is there again when it comes back.
    assert await sandboxes.down(engine, home, [sandbox], silent, force=True) == {"api": True}
    state = (await raised(engine, home, sandbox_base, more))["api"]
    assert docker(home, state, "ps", "-a", "--format", "{{.Names}} {{.State}}") == "wyolo-7-1 exited\n"
    assert host.inspect("dind_api")["HostConfig"]["PidsLimit"] == 900


async def test_a_taken_port_is_named_and_nothing_is_left_behind(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        outcomes = await sandboxes.up(
            engine, home, [wanted("api", port=port), wanted("media")], silent, base=sandbox_base
        )
    assert isinstance(outcomes["api"], PortTaken)
    assert "--port" in outcomes["api"].remedy
    assert isinstance(outcomes["media"], State)  # it does not keep the other down
    assert "dind_api" not in host.names()
    assert sorted(home.registered()) == ["dind_media"]


async def test_a_container_of_somebody_else_is_left_alone(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    host.docker("create", "--name", "dind_api", "busybox", "sleep", "1")
    try:
        outcome = (await sandboxes.up(engine, home, [wanted("api")], silent, base=sandbox_base))["api"]
        assert isinstance(outcome, NotOurs)
        assert (await sandboxes.inspect(engine, home, wanted("api"))).state == "foreign"
        assert isinstance((await sandboxes.down(engine, home, [wanted("api")], silent, force=True))["api"], NotOurs)
        assert "dind_api" in host.names()
    finally:
        host.docker("rm", "dind_api")


async def test_another_data_directory_s_sandbox_is_left_alone(
    engine: Engine, home: Home, sandbox_base: str, tmp_path: Path
) -> None:
    await raised(engine, home, sandbox_base, wanted("api"))
    other = Home(tmp_path / "other")
    outcome = (await sandboxes.up(engine, other, [wanted("api")], silent))["api"]
    assert isinstance(outcome, NotOurs)
    assert str(home.data_dir) in outcome.remedy


async def test_a_base_that_cannot_be_got_is_named(engine: Engine, home: Home) -> None:
    missing = wanted("api", image="wyolo-test-none")
    with pytest.raises(NoImage, match=r"127\.0\.0\.1:9/nowhere") as error:
        await sandboxes.up(engine, home, [missing], silent, base="127.0.0.1:9/nowhere")
    assert "--base" in error.value.remedy


async def test_a_base_without_dockerd_says_so_in_its_last_words(engine: Engine, home: Home) -> None:
    odd = wanted("api", image="wyolo-test-odd")
    outcome = (await sandboxes.up(engine, home, [odd], silent, base="busybox", patience_s=20))["api"]
    assert isinstance(outcome, Unhealthy)
    assert "not found" in str(outcome)
    assert "wyolo sandbox logs api" in outcome.remedy


async def test_gpus_on_a_host_without_their_runtime_are_refused_with_the_way_out(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    outcome = (await sandboxes.up(engine, home, [wanted("api", gpus="all")], silent, base=sandbox_base))["api"]
    assert isinstance(outcome, NoGpuRuntime)
    assert "nvidia-container-toolkit" in outcome.remedy
    assert "dind_api" not in host.names()


async def test_a_folder_that_does_not_exist_stops_it_before_anything_is_made(engine: Engine, home: Home) -> None:
    with pytest.raises(MissingPath, match="/nowhere/sets"):
        await sandboxes.up(engine, home, [wanted("api", data=(Path("/nowhere/sets"),))], silent)
    assert not home.data_dir.exists()


async def test_a_daemon_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    socket_path = tmp_path / "docker.sock"
    with pytest.raises(EngineAway, match="no such socket"):
        async with connected(f"unix://{socket_path}"):
            pass
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path))  # there, and nobody listens
    with pytest.raises(EngineAway, match="Connection refused"):
        async with connected(f"unix://{socket_path}") as engine:
            await engine.info()


async def test_a_sandbox_that_lost_its_daemon_comes_back_by_itself(
    host: HostDaemon, engine: Engine, home: Home, sandbox_base: str
) -> None:
    await raised(engine, home, sandbox_base, wanted("api"))
    os.kill(host.inspect("dind_api")["State"]["Pid"], signal.SIGKILL)

    async def healthy() -> bool:
        state = await sandboxes.inspect(engine, home, home.sandbox("api"))
        return state.state == "healthy" and host.inspect("dind_api")["RestartCount"] > 0

    await until_awaited(healthy, 60, "the sandbox answers again")
    await raised(engine, home, sandbox_base, home.sandbox("api"))


async def test_containers_in_a_sandbox_reach_each_other_and_its_own_daemon_s_network(
    engine: Engine, home: Home, sandbox_base: str
) -> None:
    state = (await raised(engine, home, sandbox_base, wanted("api")))["api"]
    with_busybox(home, state)
    docker(home, state, "network", "create", "own")
    docker(
        home,
        state,
        "run",
        "-d",
        "--init",
        "--name",
        "server",
        "--network",
        "own",
        "-p",
        "8080:80",
        "busybox",
        "httpd",
        "-f",
    )
    ask = ["run", "--rm", "--network", "own", "busybox", "wget", "-q", "-O", "-", "http://server/bin/nowhere"]
    with pytest.raises(AssertionError, match="404"):
        docker(home, state, *ask)
