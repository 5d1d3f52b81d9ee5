"""drain, pause and resume a node: nothing new starts there, what runs ends or moves, and all of it is remembered."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.protocol.event import AuditEntry
from broker.protocol.fleet import Node, NodeState
from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited

TWO = {"WYOLO_NODES": '[{"name": "attic", "slots": 1, "gpus": "none"}, {"name": "media", "slots": 1, "gpus": "none"}]'}


async def said(broker: Client, name: str, verb: str, expect: int = 200, by: str = "ann", **body: Any) -> Any:
    answer = await broker.http.post(f"/nodes/{name}/{verb}", json=body, headers={"X-Wyolo-User": by})
    assert answer.status_code == expect, answer.text
    return Node.model_validate_json(answer.content) if expect == 200 else answer.json()


async def trail(broker: Client, name: str, **query: Any) -> list[AuditEntry]:
    answer = await broker.http.get(f"/nodes/{name}/events", params=query)
    assert answer.status_code == 200, answer.text
    return [AuditEntry.model_validate(entry) for entry in answer.json()]


async def waits(broker: Client, job_id: int, text: str) -> None:
    async def told() -> bool:
        return text in (await broker.job(job_id)).waits_for

    await until_awaited(told, 10.0, f"job {job_id} says it waits because {text!r}")


async def test_a_paused_node_takes_no_new_job_and_ends_the_one_it_has(broker: Client) -> None:
    first = await broker.lasting()
    node = await said(broker, "local", "pause", for_s=3600)
    assert (node.state, node.jobs) == (NodeState.PAUSED, [first.id])
    second = await broker.submit("true")
    await waits(broker, second.id, f"local is {node.withheld.words(datetime.now(UTC))}")
    assert "by ann" in node.withheld.words(datetime.now(UTC))
    assert (await broker.job(first.id)).state is JobState.RUNNING
    assert (await said(broker, "local", "resume")).withheld is None
    assert (await broker.reaches(second.id)).state is JobState.COMPLETED


async def test_a_pause_ends_by_itself(broker: Client) -> None:
    await said(broker, "local", "pause", for_s=0.5)
    job = await broker.submit("true")
    assert (await broker.reaches(job.id)).state is JobState.COMPLETED
    entries = [entry for entry in await trail(broker, "local") if entry.job_id is None][-2:]
    assert [(entry.verb, entry.by, entry.message) for entry in entries] == [
        ("pause", "ann", ""),
        ("resume", "", "the pause is over"),
    ]


async def test_with_now_what_runs_goes_on_elsewhere_before_all_that_wait(daemon: Daemon) -> None:
    daemon.start(TWO)
    async with daemon.client() as broker:
        moved = await broker.lasting()
        other = await broker.lasting()
        behind = await broker.submit("true")
        assert {(await broker.job(job.id)).node for job in (moved, other)} == {"attic", "media"}
        left = (await broker.job(moved.id)).node
        assert left is not None
        await said(broker, left, "drain", now=True)
        await waits(broker, moved.id, "slot")
        await broker.verb(other.id, "kill")
        again = await broker.reaches(moved.id, JobState.RUNNING)
        assert (again.fence, again.node != left, again.intent) == (2, True, None)
        assert (await broker.job(behind.id)).state is JobState.QUEUED
        happened = [(entry.verb, entry.job_id, entry.by) for entry in await trail(broker, left)]
        assert happened[-3:] == [("drain", None, "ann"), ("evict", moved.id, "ann"), ("requeue", moved.id, "")]


async def test_what_was_said_of_a_node_survives_the_broker(daemon: Daemon) -> None:
    daemon.start(TWO)
    async with daemon.client() as broker:
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
        await said(broker, "media", "pause", until=end.isoformat())
        await said(broker, "attic", "drain", by="jonas")
    daemon.kill()
    daemon.start(TWO)
    async with daemon.client() as broker:
        answer = await broker.http.get("/nodes")
        nodes = {node["name"]: Node.model_validate(node) for node in answer.json()}
        assert nodes["media"].withheld is not None and nodes["media"].withheld.until == end
        assert (nodes["attic"].state, nodes["media"].state) == (NodeState.DRAINING, NodeState.PAUSED)
        job = await broker.submit("true")
        await waits(broker, job.id, "attic is draining by jonas; media is paused until")
        assert (await broker.http.get("/health")).json()["status"] == "ok"


@pytest.mark.parametrize(
    ("verb", "body", "status", "text"),
    [
        ("loca/drain", {}, 404, "did you mean `local`?"),
        ("local/pause", {"for_s": 0}, 400, "a pause of 0 s is none"),
        ("local/pause", {"for_s": 1e9}, 400, "at most 366 days"),
        ("local/pause", {"until": "2020-01-01T12:00:00Z"}, 400, "has passed"),
        ("local/pause", {"until": "2020-01-01T12:00:00"}, 400, "until"),
        ("local/pause", {"for_s": 60, "until": "2099-01-01T12:00:00Z"}, 400, "keep one of them"),
        ("local/drain", {"nwo": True}, 400, "did you mean `now`?"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    broker: Client, verb: str, body: dict[str, Any], status: int, text: str
) -> None:
    assert text in json.dumps(await said(broker, *verb.split("/"), expect=status, **body))
    assert (await broker.http.get("/nodes/local")).json()["withheld"] is None


async def test_followers_are_told_of_a_node_at_once(broker: Client) -> None:
    async with broker.http.stream("GET", "/events") as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        await said(broker, "local", "drain")
        async for line in lines:
            if line.startswith("data: ") and json.loads(line[6:])["kind"] == "node":
                assert json.loads(line[6:])["node"]["withheld"]["state"] == "draining"
                break
    await said(broker, "local", "resume")
