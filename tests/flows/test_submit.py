"""submit, by JSON, by YAML, in batches, twice; and what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker.protocol.api import BatchAnswer, Validation
from broker.protocol.job import CommandWork
from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon

COMMAND = {"kind": "command", "argv": ["true"]}


async def test_a_command_runs_and_its_output_is_kept(broker: Client, tmp_path: Path) -> None:
    job = await broker.shell("echo in $PWD; echo $GREETING", work={"cwd": str(tmp_path), "env": {"GREETING": "hello"}})
    assert job.name == "sh -c echo in $PWD; echo $GREETING"[:60]
    done = await broker.reaches(job.id)
    assert (done.state, done.fence) == (JobState.COMPLETED, 1)
    assert await broker.lines(job.id) == [f"in {tmp_path}", "hello"]
    assert await broker.verbs(job.id) == ["submit", "place", "complete"] or "run" in await broker.verbs(job.id)


async def test_a_command_that_fails_says_its_exit_code_and_last_lines(broker: Client) -> None:
    job = await broker.shell("echo no such disk >&2; exit 3")
    done = await broker.reaches(job.id)
    assert (done.state, done.reason) == (JobState.FAILED, "exit_code")
    assert "3" in done.message


async def test_yaml_text_is_a_submission_too(broker: Client, tmp_path: Path) -> None:
    (tmp_path / "hello.sh").write_text("#!/bin/sh\necho $1\n")
    (tmp_path / "hello.sh").chmod(0o755)
    config = "name: greeting\nuser: ana\npriority: high\ncommand: ./hello.sh one\n"
    body = {"config": config, "base_dir": str(tmp_path), "set": {"argv": None}, "name": "greeted"}
    body.pop("set")
    answer = await broker.http.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = await broker.reaches(answer.json()["id"])
    assert (job.name, job.user, job.priority) == ("greeted", "ana", "high")
    assert await broker.lines(job.id) == ["one"]


async def test_fields_of_the_submission_go_before_what_the_spec_says(broker: Client) -> None:
    spec = {"work": COMMAND, "name": "spec", "user": "spec", "priority": "low", "task_id": "spec-task"}
    body = {"spec": spec, "name": "mine", "user": "me", "priority": "high", "task_id": "my-task", "hold": True}
    job = (await broker.http.post("/jobs", json=body)).json()
    assert (job["name"], job["user"], job["priority"], job["task_id"]) == ("mine", "me", "high", "my-task")
    assert job["state"] == "held"


async def test_set_changes_a_value_by_its_path(broker: Client) -> None:
    job = await broker.submit("true", set={"resources.cpus": 2, "env.COLOUR": "red"})
    spec = (await broker.job(job.id)).spec
    assert spec is not None and isinstance(spec.work, CommandWork)
    assert (spec.resources.cpus, spec.work.env) == (2, {"COLOUR": "red"})


async def test_the_same_key_queues_once_however_often_it_is_sent(broker: Client) -> None:
    first = await broker.submit("true", key="once")
    again = await asyncio.gather(*(broker.submit("true", key="once") for _ in range(5)))
    assert {job.id for job in again} == {first.id}
    body = {"spec": {"work": COMMAND}}
    answer = await broker.http.post("/jobs", json=body, headers={"Idempotency-Key": "fresh"})
    repeated = await broker.http.post("/jobs", json=body, headers={"Idempotency-Key": "fresh"})
    assert (answer.status_code, repeated.status_code) == (201, 200)


async def test_the_same_key_with_another_body_is_a_conflict(broker: Client) -> None:
    await broker.submit("true", key="taken")
    body = {"spec": {"work": {"kind": "command", "argv": ["false"]}}}
    answer = await broker.http.post("/jobs", json=body, headers={"Idempotency-Key": "taken"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


async def test_a_batch_is_queued_in_its_order(broker: Client) -> None:
    jobs = [{"spec": {"work": COMMAND}, "name": f"batch {n}", "hold": True} for n in range(50)]
    answer = await broker.http.post("/jobs:batch", json={"jobs": jobs}, headers={"Idempotency-Key": "batch"})
    assert answer.status_code == 201, answer.text
    ids = answer.json()["ids"]
    assert [(await broker.job(i)).name for i in ids[:3]] == ["batch 0", "batch 1", "batch 2"]
    again = await broker.http.post("/jobs:batch", json={"jobs": jobs}, headers={"Idempotency-Key": "batch"})
    assert again.json()["ids"] == ids


async def test_what_is_worth_knowing_of_a_batchs_jobs_is_said_in_the_answer(broker: Client) -> None:
    jobs = [{"spec": {"work": COMMAND, "task_id": task_id}} for task_id in ("twin", "other", "twin")]
    for _ in range(2):
        sent = await broker.http.post("/jobs:batch", json={"jobs": jobs}, headers={"Idempotency-Key": "twins"})
        told = BatchAnswer.model_validate_json(sent.content)
        assert list(told.warnings) == [told.ids[2]]
        assert f"`twin` is also that of job {told.ids[0]}" in told.warnings[told.ids[2]][0]


async def test_a_batch_with_a_bad_job_queues_none_and_says_which(broker: Client) -> None:
    before = len(await broker.jobs())
    jobs = [{"spec": {"work": COMMAND}}, {"spec": {"work": {"kind": "command", "argv": ["no-such-program"]}}}]
    answer = await broker.http.post("/jobs:batch", json={"jobs": jobs})
    assert answer.status_code == 422
    assert [finding["where"] for finding in answer.json()["findings"]] == ["jobs.1.argv"]
    assert len(await broker.jobs()) == before


BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("nothing", {}, 400, "", "neither `config` nor `spec`"),
    ("both", {"config": "a: 1", "spec": {"work": COMMAND}}, 400, "", "both"),
    ("unknown field", {"spce": {}}, 400, "spce", "unknown field"),
    ("unknown field of the spec", {"spec": {"work": COMMAND, "nmae": "x"}}, 400, "spec.nmae", "unknown field"),
    ("unknown field of the work", {"spec": {"work": COMMAND | {"argw": []}}}, 400, "spec.work.argw", "unknown field"),
    (
        "wrong type",
        {"spec": {"work": COMMAND, "resources": {"cpus": "many"}}},
        400,
        "spec.resources.cpus",
        "valid number",
    ),
    ("no such program", {"spec": {"work": {"kind": "command", "argv": ["nope"]}}}, 422, "argv", "no program"),
    ("no such folder", {"spec": {"work": COMMAND | {"cwd": "/nope"}}}, 422, "cwd", "no folder"),
    ("no such node", {"spec": {"work": COMMAND, "resources": {"node": "lcoal"}}}, 422, "resources.node", "no node"),
    ("broken YAML", {"config": "name: [1"}, 422, "line", ""),
    ("unknown key", {"config": "commnd: echo"}, 422, "commnd", "unknown key"),
    ("relative folder", {"config": "command: echo", "base_dir": "here"}, 400, "base_dir", "whole path"),
]


@pytest.mark.parametrize(("body", "status", "where", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_bad_input_is_refused_with_its_place(
    broker: Client, body: dict[str, Any], status: int, where: str, said: str
) -> None:
    answer = await broker.http.post("/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    finding = answer.json()["findings"][0]
    assert finding["where"].startswith(where)
    assert said in finding["message"]


async def test_an_unknown_name_comes_with_the_nearest_known_one(broker: Client) -> None:
    answer = await broker.http.post("/jobs", json={"spec": {"work": COMMAND, "resources": {"cpsu": 1}}})
    assert answer.json()["findings"][0]["hint"] == "did you mean `cpus`?"
    answer = await broker.http.post("/jobs", json={"spec": {"work": COMMAND, "resources": {"node": "lcoal"}}})
    assert answer.json()["findings"][0]["hint"] == "did you mean `local`?"


async def test_a_large_or_hostile_body_is_refused_and_the_broker_lives(broker: Client) -> None:
    aliases = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{c}: &{c} [*{p},*{p}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
    )
    for config in ("[" * 60_000, aliases, "x: 1\n" * 50_000):
        answer = await broker.http.post("/jobs", json={"config": config})
        assert answer.status_code == 422, answer.text
    answer = await broker.http.post("/jobs", content=b" " * (50 << 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert (await broker.http.get("/health")).status_code == 200


async def test_a_body_of_unknown_length_is_bounded_too(broker: Client) -> None:
    async def endless():
        for _ in range(40):
            yield b" " * 65_536

    answer = await broker.http.post("/jobs", content=endless())
    assert answer.status_code == 413


async def test_validate_says_what_would_happen_and_queues_nothing(broker: Client) -> None:
    for waiting in await broker.jobs("state:queued"):  # of other tests
        await broker.reaches(waiting.id)
    before = len(await broker.jobs())
    answer = await broker.http.post("/jobs:validate", json={"spec": {"work": COMMAND}})
    good = Validation.model_validate_json(answer.content)
    assert good.ok and good.spec is not None and good.spec.name == "true"
    assert good.would_start == "now on local"
    bad = await broker.http.post("/jobs:validate", json={"config": "commnd: echo"})
    assert (bad.status_code, bad.json()["ok"]) == (200, False)
    assert bad.json()["findings"][0]["where"].startswith("commnd")
    assert len(await broker.jobs()) == before


async def test_who_asks_is_written_down(broker: Client) -> None:
    answer = await broker.http.post("/jobs", json={"spec": {"work": COMMAND}}, headers={"X-Wyolo-User": "ana"})
    job_id = answer.json()["id"]
    assert answer.json()["user"] == "ana"
    assert (await broker.events(job_id))[0].by == "ana"


async def test_nothing_is_answered_without_the_key(shared_daemon: Daemon, broker: Client) -> None:
    for sent in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}):
        answer = await broker.http.get("/jobs", headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorised")
        assert (await broker.http.get("/health", headers=sent)).status_code == 200
        assert (await broker.http.get("/version", headers=sent)).status_code == 200
    assert (shared_daemon.data_dir / "key").stat().st_mode & 0o777 == 0o600
    assert shared_daemon.data_dir.stat().st_mode & 0o777 == 0o700
