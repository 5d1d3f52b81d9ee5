"""The ledger's disk is full: nothing new is taken, everything can be read, what runs ends as it ended."""

import pytest

from broker.protocol.states import JobState
from tests.faults.conftest import Raise
from tests.faults.disk import full, small_disk
from tests.faults.oracle import sound
from tests.faults.scene import LONG_S, Scene, ended, healthy, runs
from tests.flows.daemon import Client
from tests.waiting import until_awaited

pytestmark = pytest.mark.faults


async def refused(client: Client) -> bool:
    """A submission is: problem 507."""
    answer = await client.http.post("/jobs", json={"spec": {"work": {"kind": "command", "argv": ["true"]}}})
    if answer.status_code == 201:
        return False
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full"), answer.text
    assert "free some space" in answer.json()["detail"]
    return True


async def test_a_full_disk_refuses_new_work_and_keeps_the_rest(raised: Raise) -> None:
    scene = raised("disk/data")
    scene.daemon.data_dir.parent.mkdir()
    with small_disk(scene.daemon.data_dir, 40) as disk, scene.nothing_left():
        scene.daemon.start()
        redis = scene.daemon.redis_pid
        async with scene.daemon.client() as client:
            await _fill_and_free(scene, client)
        with full(disk):
            scene.daemon.kill()
            scene.daemon.start()
            async with scene.daemon.client() as client:
                assert "whole" in {job.name for job in await client.jobs("state:completed")}
                assert await refused(client)
        async with scene.daemon.client() as client:
            await until_awaited(lambda: _taken(client), LONG_S, "a submission that is taken")
            await client.end_all()
        assert scene.daemon.redis_pid == redis, "the Redis that was there was not taken over"
        assert scene.daemon.stop() == 0
        assert not runs(redis)


async def _fill_and_free(scene: Scene, client: Client) -> None:
    gate, other = scene.folder / "gate", scene.folder / "other"
    whole = await client.submit(*scene.lines("whole", 50, gate=gate), name="whole")
    failing = await client.shell(f"while [ ! -e {other} ]; do sleep 0.05; done; exit 3")
    await scene.noted("whole", "said", 50)
    await client.reaches(failing.id, JobState.RUNNING)
    with full(scene.daemon.data_dir):
        other.touch()  # before the broker has met the full disk
        failed = await ended(client, failing.id)
        assert (failed.state, failed.reason) == (JobState.FAILED, "exit_code")
        assert "exit code 3" in failed.message
        await until_awaited(lambda: refused(client), LONG_S, "a refusal")
        assert (await client.http.get("/health")).json()["ledger"] == "read_only"
        assert len(await client.lines(whole.id)) == 50
        gate.touch()
        assert (await ended(client, whole.id)).state is JobState.COMPLETED
        await sound(client, scene.diaries, whole.id)
        assert await refused(client)
    await until_awaited(lambda: _taken(client), LONG_S, "a submission that is taken")
    await until_awaited(lambda: healthy(client), LONG_S, "health")


async def _taken(client: Client) -> bool:
    return not await refused(client)
