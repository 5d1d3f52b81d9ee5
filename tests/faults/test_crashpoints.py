"""The broker dies at each named instant (broker/crashpoint.py): the next start brings the job to its one end."""

import signal

import httpx
import pytest

from broker.crashpoint import INSTANTS, Instant
from tests.faults.oracle import ended_well
from tests.faults.scene import LONG_S, Scene, ended
from tests.waiting import until

pytestmark = pytest.mark.faults


async def submitted(scene: Scene, name: str, body: dict[str, object]) -> int | None:
    """The job's number; None when the broker died before it answered."""
    try:
        async with scene.daemon.client() as client:
            answer = await client.http.post("/jobs", json=body, headers={"Idempotency-Key": name})
    except httpx.TransportError:
        return None
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()["id"]


@pytest.mark.parametrize("instant", INSTANTS)
async def test_a_broker_that_dies_there_leaves_a_job_that_ends_once(scene: Scene, instant: Instant) -> None:
    gate = scene.folder / "gate"
    if "final" in instant:
        gate.touch()
    argv = scene.lines("job", 20, gate=gate)
    body: dict[str, object] = {"spec": {"work": {"kind": "command", "argv": argv}, "name": "job"}}
    scene.daemon.start(env={"WYOLO_CRASH_AT": instant})
    told = await submitted(scene, "job", body)
    await until(lambda: not scene.daemon.alive, LONG_S, f"death at {instant}")
    assert scene.daemon.ended() == -signal.SIGKILL
    assert (told is None) or instant != "after-submit-commit"
    scene.daemon.start()
    again = await submitted(scene, "job", body)
    assert again is not None and told in (None, again)
    gate.touch()
    async with scene.daemon.client() as client:
        await ended(client, again)
        assert len(await client.jobs()) == 1
        assert [entry.what for entry in scene.diary("job") if entry.what != "said"] == ["start", "end"]
        await ended_well(client, scene.diaries, [again], "one run" if instant in NEVER_RAN else "one attempt")


# A first attempt was, or may have been, given up before anything of it ran: nothing started twice, but the fence is 2.
NEVER_RAN = {"after-starting-commit", "after-claim"}
