"""node and events --node through the command line: what is said, shown and refused."""

import json
from pathlib import Path

import pytest

from broker.protocol.api import Problem
from broker.protocol.fleet import Node
from broker.protocol.states import JobState
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon
from tests.waiting import until_awaited


@pytest.fixture
def wyolo(shared_daemon: Daemon, tmp_path: Path) -> Wyolo:
    return Wyolo(shared_daemon.data_dir, tmp_path)


async def test_a_node_is_drained_and_given_back_and_its_trail_tells_who_did(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.lasting()
    drained = await wyolo("node", "drain", "local")
    assert "local: draining" in drained.out and f"job {job.id} goes on to its end (--now moves it)" in drained.out
    assert "draining" in (await wyolo("nodes")).out
    waiting = await broker.submit("true")

    async def why() -> bool:
        return "local is draining" in (await wyolo("show", str(waiting.id))).out

    await until_awaited(why)
    paused = Node.model_validate_json((await wyolo("node", "pause", "local", "--for", "1h30m", "--now", "--json")).out)
    assert paused.withheld is not None and paused.withheld.until is not None
    assert (paused.withheld.until - paused.withheld.since).total_seconds() == 5400
    await broker.reaches(job.id, JobState.QUEUED)
    assert "jobs may start there" in (await wyolo("node", "resume", "local")).out
    await broker.reaches(waiting.id)
    trail = (await wyolo("events", "--node", "local", "-n", "50")).out
    assert "drain" in trail and "what ran there was moved away" in trail and str(job.id) in trail
    verbs = [entry["verb"] for entry in json.loads((await wyolo("events", "--node", "local", "--json")).out)]
    assert [verb for verb in verbs if verb in {"drain", "pause", "evict", "resume"}] == [
        "drain",
        "pause",
        "evict",
        "resume",
    ]


async def test_a_label_that_no_node_has_is_refused(wyolo: Wyolo, broker: Client) -> None:
    refused = await wyolo("run", "--label", "zone=roof", "--", "true", expect=2)
    assert "no node has the label zone=roof" in refused.err and "wyolo.toml" in refused.err
    assert not await broker.jobs("state:queued")


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (("drain", "locl"), "no node is called locl", "did you mean `local`?"),
        (("pause", "local", "--for", "0m"), "is no time at all", "1h30m"),
        (("pause", "local", "--for", "soon"), "is no length of time", "1h30m"),
        (("pause", "local", "--until", "2020-01-01T12:00"), "has passed", "for another day"),
        (("pause", "local", "--until", "noon"), "is no time", "17:00"),
        (("pause", "local", "--for", "1h", "--until", "17:00"), "both say how long", "keep one"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_remedy(
    wyolo: Wyolo, broker: Client, arguments: tuple[str, ...], said: str, remedy: str
) -> None:
    refused = await wyolo("node", *arguments, expect=2)
    assert said in refused.err and remedy in refused.err
    as_json = await wyolo("node", *arguments, "--json", expect=2)
    assert said in Problem.model_validate_json(as_json.out).detail
    assert (await broker.http.get("/nodes/local")).json()["withheld"] is None
