"""The verbs that only look: what they print for a person and for a program."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from broker.protocol.api import FileEntry, Health, JobPage, MetricTable
from broker.protocol.event import FOLLOWER_EVENT, AuditEntry
from broker.protocol.fleet import Node
from broker.protocol.job import Attempt, Job
from tests.flows.command import Wyolo
from tests.flows.daemon import Client, Daemon


@pytest.fixture
def wyolo(shared_daemon: Daemon, tmp_path: Path) -> Wyolo:
    return Wyolo(shared_daemon.data_dir, tmp_path)


async def test_jobs_lists_filters_sorts_and_cuts(wyolo: Wyolo, broker: Client) -> None:
    names = ["ripe-apple", "ripe-pear", "sour-plum"]
    for name in names:
        await broker.reaches((await broker.submit("true", name=name)).id)
    table = (await wyolo("jobs")).out
    assert table.startswith("ID") and all(name in table for name in names)
    assert "\x1b" not in table
    columns = (await wyolo("jobs", "--filter", "name:ripe-pear", "--columns", "id,name")).out.splitlines()
    assert columns[0].split() == ["ID", "NAME"] and [line.split()[1] for line in columns[1:]] == ["ripe-pear"]
    page = JobPage.model_validate_json((await wyolo("jobs", "--sort", "-name", "--limit", "1", "--json")).out)
    assert [job.name for job in page.jobs] == ["sour-plum"]
    assert "--limit" in (await wyolo("jobs", "--limit", "1")).err
    assert "filter" in (await wyolo("jobs", "--filter", "colour:red", expect=2)).err.lower()
    assert "no job fits" in (await wyolo("jobs", "--filter", "name:nothing")).err


async def test_a_job_is_found_by_a_name_or_task_id_with_any_characters_in_it(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.submit("true", hold=True, name="fruit/v2?#%2F", task_id="lab/7/logs")
    for ref in ("fruit/v2?#%2F", "lab/7/logs", str(job.id)):
        assert (await wyolo("show", ref, "--json")).job.id == job.id
    for ref in ("", "..", "fruit/v3"):
        assert f"there is no job {ref!r}" in (await wyolo("show", ref, expect=2)).err


async def test_jobs_watch_needs_a_terminal_or_tells_programs_each_event(wyolo: Wyolo, broker: Client) -> None:
    assert "--watch --json" in (await wyolo("jobs", "--watch", expect=2)).err
    async with wyolo.started("jobs", "--watch", "--json") as watching:
        assert watching.stdout is not None
        JobPage.model_validate_json(await watching.stdout.readline())
        job = await broker.submit("true", name="seen")
        async with asyncio.timeout(20):
            while True:
                event = FOLLOWER_EVENT.validate_json(await watching.stdout.readline())
                if event.kind == "job" and event.job.id == job.id and event.job.state == "completed":
                    break


async def test_show_has_everything_about_a_job(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.shell("exit 4", name="shown", user="ana")
    await broker.reaches(job.id)
    said = (await wyolo("show", "shown")).out
    for part in ("shown", "failed", "exit code 4", "ana", "ATTEMPT", "argv:", "kind: command"):
        assert part in said
    whole = json.loads((await wyolo("show", "shown", "--json")).out)
    assert Job.model_validate(whole).id == job.id
    assert [Attempt.model_validate(attempt).exit_code for attempt in whole["attempts"]] == [4]
    assert whole["checkpoints"] == []


async def test_show_says_why_a_job_waits(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    assert f"`wyolo release {job.id}`" in (await wyolo("show", str(job.id))).out


async def test_events_tell_the_history_of_a_job_and_follow_all(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.submit("true", name="lived")
    await broker.reaches(job.id)
    table = (await wyolo("events", "lived")).out
    assert all(verb in table for verb in ("submit", "place", "complete"))
    entries = TypeAdapter(list[AuditEntry]).validate_json((await wyolo("events", "lived", "--json")).out)
    assert entries[0].verb == "submit" and entries[-1].to_state == "completed"
    busy = asyncio.create_task(_busy(broker))
    done = await wyolo.interrupted("events", once=b"busy submit, held")
    busy.cancel()
    assert done.code == 130 and "lived" not in done.out


async def _busy(broker: Client) -> None:
    while True:
        await broker.submit("true", hold=True, name="busy")
        await asyncio.sleep(0.1)  # its pace: whoever looks waits for one of these


async def test_events_after_a_number_are_all_that_came_after_it_each_once_and_then_what_comes(
    wyolo: Wyolo, broker: Client
) -> None:
    mark = (await broker.http.get("/health")).json()["seq"]
    first = await broker.submit("true")
    await broker.reaches(first.id)
    async with wyolo.started("events", "--after", str(mark), "--json") as following:
        assert following.stdout is not None
        told = list[AuditEntry]()
        second = None
        async with asyncio.timeout(20):
            while second is None or (told[-1].job_id, told[-1].to_state) != (second.id, "completed"):
                told.append(AuditEntry.model_validate_json(await following.stdout.readline()))
                if second is None and told[-1].to_state == "completed":
                    second = await broker.submit("true")
    assert [entry.seq for entry in told] == sorted({entry.seq for entry in told}) and told[0].seq == mark + 1
    for job in (first, second):
        assert [entry.verb for entry in told if entry.job_id == job.id] == await broker.verbs(job.id)
    done = await wyolo.interrupted("events", "--after", str(mark), once=f"job {second.id} complete".encode())
    assert done.code == 130
    assert all(f"job {first.id} {verb}" in done.out for verb in await broker.verbs(first.id))


async def test_nodes_files_metrics_and_status_are_what_the_broker_answers(
    wyolo: Wyolo, broker: Client, tmp_path: Path
) -> None:
    job = await broker.shell("echo hello", name="left")
    await broker.reaches(job.id)
    nodes = TypeAdapter(list[Node]).validate_json((await wyolo("nodes", "--json")).out)
    assert [node.name for node in nodes] == ["local"]
    assert "local" in (await wyolo("nodes")).out
    files = TypeAdapter(list[FileEntry]).validate_json((await wyolo("files", "left", "--json")).out)
    assert "1.log" in {entry.path for entry in files}
    assert "1.log" in (await wyolo("files", "left")).out
    await wyolo("files", "left", "--get", "1.log")
    assert (tmp_path / "1.log").read_text() == "hello\n"
    assert "exists already" in (await wyolo("files", "left", "--get", "1.log", expect=2)).err
    assert "there is no file" in (await wyolo("files", "left", "--get", "../../key", expect=2)).err
    assert MetricTable.model_validate_json((await wyolo("metrics", "left", "--json")).out).epochs == []
    assert "no training" in (await wyolo("metrics", "left")).err
    assert Health.model_validate_json((await wyolo("broker", "status", "--json")).out).status == "ok"


async def test_a_reader_that_has_seen_enough_is_no_error(wyolo: Wyolo, broker: Client) -> None:
    job = await broker.shell("seq 100000")
    await broker.reaches(job.id)
    async with wyolo.started("logs", str(job.id)) as child:
        assert child.stdout is not None and child.stderr is not None
        assert await child.stdout.readline() == b"1\n"
        child.stdout._transport.close()  # type: ignore[attr-defined]  # as `head -1` does
        assert await child.stderr.read() == b""
        assert await child.wait() == 0


async def test_ids_and_names_of_jobs_complete_in_the_shell(
    shared_daemon: Daemon, broker: Client, tmp_path: Path
) -> None:
    job = await broker.submit("true", name="watermelon", hold=True)
    asked = {"_WYOLO_COMPLETE": "complete_bash", "COMP_WORDS": "wyolo show water", "COMP_CWORD": "2"}
    assert (await Wyolo(shared_daemon.data_dir, tmp_path, asked)()).out.split() == ["watermelon"]
    asked["COMP_WORDS"] = f"wyolo stop {job.id}"
    assert str(job.id) in (await Wyolo(shared_daemon.data_dir, tmp_path, asked)()).out.split()


async def test_a_wrong_key_is_called_so(shared_daemon: Daemon, broker: Client, tmp_path: Path) -> None:
    del broker
    stranger = Wyolo(tmp_path / "none", tmp_path, {"WYOLO_URL": shared_daemon.url, "WYOLO_KEY": "wrong"})
    assert "WYOLO_KEY" in (await stranger("jobs", expect=3)).err
    known = Wyolo(tmp_path / "none", tmp_path, {"WYOLO_URL": shared_daemon.url, "WYOLO_KEY": shared_daemon.key})
    await known("jobs")


async def test_exec_runs_beside_a_local_job_in_its_directory(wyolo: Wyolo, broker: Client, tmp_path: Path) -> None:
    job = await broker.lasting(name="beside", work={"env": {"SEED": "3"}})
    script = 'pwd; echo "gpus[$CUDA_VISIBLE_DEVICES] $SEED"; exit 5'
    there, said = (await wyolo("exec", "beside", "--", "sh", "-c", script, expect=5)).out.splitlines()
    assert (Path(there).parts[-2:], said) == ((str(job.id), "1"), "gpus[] 3")
    assert "needs a terminal" in (await wyolo("exec", "beside", expect=2)).err
    assert "nothing: " in (await wyolo("exec", "beside", "--", "/nothing", expect=127)).err
    await broker.verb(job.id, "kill")
    await broker.reaches(job.id)
    assert "nothing of it runs" in (await wyolo("exec", "beside", "--", "true", expect=2)).err
