"""The routes of older wyolo: the same verbs, with the key."""

from collections.abc import AsyncIterator

import httpx
import pytest

from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon

CONFIG = b"command: sleep 60\n"


@pytest.fixture
async def older(shared_daemon: Daemon, broker: Client) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {shared_daemon.key}"}
    async with httpx.AsyncClient(base_url=shared_daemon.url, headers=headers, trust_env=False) as client:
        yield client


async def test_train_status_and_stop(older: httpx.AsyncClient, broker: Client) -> None:
    sent = await older.post("/train/", files={"file": ("job.yaml", CONFIG)}, data={"user_code": "ana"})
    assert sent.status_code == 200, sent.text
    said = sent.json()
    assert (said["task_id"], said["user_code"]) == (str(said["job_id"]), "ana")
    await broker.reaches(said["job_id"], JobState.RUNNING)
    assert (await older.get(f"/status/{said['task_id']}")).json()["status"] == "running"
    assert said["job_id"] in [task["job_id"] for task in (await older.get("/tasks")).json()]
    stopped = await older.post("/stop/", data={"user_code": "ana", "task_id": said["task_id"]})
    assert stopped.status_code == 200, stopped.text
    assert (await broker.reaches(said["job_id"])).state is JobState.STOPPED
    assert len(await broker.jobs()) == 1, "stopping queues nothing"


async def test_recreate_runs_it_again_or_goes_on(older: httpx.AsyncClient, broker: Client) -> None:
    job = await broker.submit("false", task_id="older-1")
    await broker.reaches(job.id)
    again = await older.post("/recreate/", data={"task_id": "older-1", "user_code": "ana"})
    assert again.json()["job_id"] != job.id
    resumed = await older.post("/recreate/", data={"task_id": "older-1", "last_model": "true"})
    assert resumed.json()["job_id"] == job.id
    await broker.reaches(job.id)
    resumed = await older.post("/train/", data={"task_id": "older-1", "resume": "true"})
    assert resumed.json()["job_id"] == job.id


async def test_a_task_id_may_look_like_a_path(older: httpx.AsyncClient, broker: Client) -> None:
    job = await broker.submit("true", hold=True, task_id="lab/7")
    for path in ("/status/lab/7", "/status/lab%2F7"):
        assert (await older.get(path)).json()["job_id"] == job.id


async def test_what_is_missing_is_said(older: httpx.AsyncClient) -> None:
    assert "no configuration" in (await older.post("/train/", data={"user_code": "ana"})).json()["detail"]
    assert "task_id" in (await older.post("/train/", data={"resume": "true"})).json()["detail"]
    assert (await older.post("/stop/", data={"user_code": "ana"})).json()["findings"][0]["where"] == "task_id"
    evaluated = await older.post("/evaluate/", data={"user_code": "ana"})
    assert evaluated.status_code == 501 and "yolo val" in evaluated.json()["detail"]


async def test_they_ask_for_the_key_too(shared_daemon: Daemon, older: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=shared_daemon.url, trust_env=False) as stranger:
        assert (await stranger.get("/tasks")).status_code == 401
        assert (await stranger.post("/stop/", data={"task_id": "1"})).status_code == 401
        assert (await stranger.get("/health")).status_code == 200
