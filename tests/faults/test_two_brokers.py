"""One data directory is one broker's, one port is one program's: the second says who has it, and changes nothing."""

import socket

import pytest

from tests.faults.scene import Scene
from tests.running import run_broker

pytestmark = pytest.mark.faults


async def test_a_second_broker_on_the_same_data_names_the_first_and_leaves(scene: Scene) -> None:
    scene.daemon.start()
    second = run_broker("--data-dir", str(scene.daemon.data_dir), "--port", "0")
    assert second.returncode == 2
    [said] = second.stderr.splitlines()
    assert f"process id {scene.daemon.pid}" in said
    assert scene.daemon.url in said
    async with scene.daemon.client() as client:  # the first one still answers, and can be found
        job = await client.submit("true")
        await client.reaches(job.id)
    assert (scene.daemon.data_dir / "broker.json").exists()


async def test_who_was_killed_holds_nothing(scene: Scene) -> None:
    scene.daemon.start()
    scene.daemon.kill()
    scene.daemon.start()
    async with scene.daemon.client() as client:
        assert (await client.http.get("/health")).status_code == 200


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(scene: Scene) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = run_broker("--data-dir", str(scene.daemon.data_dir), "--port", str(port))
    assert refused.returncode == 2
    [said] = refused.stderr.splitlines()
    assert f"127.0.0.1:{port} is taken by another program" in said and "--port" in said
    assert not scene.daemon.redis_pid
    assert not (scene.daemon.data_dir / "broker.json").exists()
