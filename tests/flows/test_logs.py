"""logs: by offset, from the end, from a time, followed; harmless and bounded whatever a job prints."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from broker.protocol.api import LogChunk
from broker.protocol.states import JobState
from tests.flows.daemon import Client, Daemon
from tests.waiting import until


async def followed(broker: Client, job_id: int, **query: Any) -> AsyncIterator[LogChunk]:
    """What the stream says, to its end."""
    async with broker.http.stream("GET", f"/jobs/{job_id}/logs/stream", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield LogChunk.model_validate_json(line.removeprefix("data: "))


async def test_a_log_is_read_in_parts_without_a_gap(broker: Client) -> None:
    job = await broker.shell("seq 1 2500")
    await broker.reaches(job.id)
    seen: list[str] = []
    offset, chunks = 0, 0
    while True:
        chunk = await broker.logs(job.id, offset=offset, limit=1000)
        seen += [line.text for line in chunk.lines]
        offset, chunks = chunk.next_offset, chunks + 1
        if chunk.eof:
            break
    assert seen == [str(n) for n in range(1, 2501)]
    assert chunks == 3


async def test_the_last_lines_are_found_from_the_end(broker: Client) -> None:
    job = await broker.shell("seq 1 100000; printf unfinished")
    await broker.reaches(job.id)
    assert await broker.lines(job.id, tail=3) == ["99999", "100000", "unfinished"]
    assert await broker.lines(job.id, tail=0) == []


async def test_what_stands_before_a_line_is_read_backwards(broker: Client) -> None:
    job = await broker.shell("seq 1 2500")
    await broker.reaches(job.id)
    last = await broker.logs(job.id, tail=1000)
    assert (last.lines[0].text, last.start) == ("1501", last.lines[0].offset)
    earlier = await broker.logs(job.id, tail=2000, before=last.start)
    assert [line.text for line in earlier.lines] == [str(n) for n in range(1, 1501)]
    assert (earlier.start, earlier.next_offset, earlier.eof) == (0, last.start, False)


async def test_a_followed_log_leaves_no_gap_where_a_trainer_said_something(broker: Client) -> None:
    event = r'\036{"event": "note", "n": 1, "at": "2026-01-01T00:00:00Z", "text": "x"}\n'
    job = await broker.shell(f"for n in $(seq 20); do printf '{event}'; sleep 0.02; echo $n; sleep 0.02; done")
    chunks = [chunk async for chunk in followed(broker, job.id)]
    told = [chunk for chunk in chunks if chunk.lines]
    assert [line.text for chunk in told for line in chunk.lines] == [str(n) for n in range(1, 21)]
    assert told[0].start == 0
    assert all(after.start == before.next_offset for before, after in pairwise(told))


async def test_lines_have_the_time_at_which_they_were_read(broker: Client) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    job = await broker.shell("echo one")
    await broker.reaches(job.id)
    [line] = (await broker.logs(job.id)).lines
    assert line.at is not None and before < line.at <= datetime.now(UTC)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await broker.lines(job.id, since=later) == []
    assert await broker.lines(job.id, since=before.isoformat()) == ["one"]


async def test_what_controls_a_terminal_is_made_harmless(broker: Client) -> None:
    job = await broker.shell(
        r"printf '\033]52;c;Y2xpcA==\007copied \033[31mred\033[0m \202\302\233 \033[2J\342\200\256x\n'"
    )
    await broker.reaches(job.id)
    [line] = await broker.lines(job.id)
    assert line.isprintable()
    assert "copied red" in line


async def test_a_huge_line_is_cut_and_counted(broker: Client) -> None:
    job = await broker.shell("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo after")
    await broker.reaches(job.id)
    long, after = await broker.lines(job.id)
    assert len(long) <= 4096 and long.startswith("xxx") and "more characters" in long
    assert after == "after"


async def test_a_trainers_events_are_no_log_and_what_only_looks_like_one_is(broker: Client) -> None:
    event = json.dumps({"event": "note", "n": 1, "at": "2026-01-01T00:00:00Z", "text": "hidden"})
    job = await broker.shell(f"echo a; printf '\\036%s\\n' '{event}'; printf '\\036not json\\n'; echo b")
    await broker.reaches(job.id)
    assert await broker.lines(job.id) == ["a", "␞not json", "b"]


async def test_following_shows_lines_as_they_come_and_ends_with_the_job(broker: Client, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = await broker.shell(f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; echo second")
    seen: list[str] = []
    ends: list[bool] = []
    async for chunk in followed(broker, job.id):
        seen += [line.text for line in chunk.lines]
        ends.append(chunk.eof)
        if "first" in seen and not go.exists():
            assert (await broker.job(job.id)).ended_at is None
            go.touch()
    assert seen == ["first", "second"]
    assert ends[-1] and not any(ends[:-1])
    assert (await broker.job(job.id)).state is JobState.COMPLETED


async def test_following_goes_on_with_the_next_attempt(broker: Client, tmp_path: Path) -> None:
    job = await broker.lasting()
    seen: list[tuple[int, str]] = []

    async def follow() -> None:
        async for chunk in followed(broker, job.id):
            seen.extend((chunk.attempt, line.text) for line in chunk.lines)

    following = asyncio.create_task(follow())
    await until(lambda: seen)
    await broker.verb(job.id, "preempt")
    await until(lambda: (2, "begun") in seen)
    await broker.verb(job.id, "kill")
    await asyncio.wait_for(following, 10)
    assert [line for line in seen if line[1] == "begun"] == [(1, "begun"), (2, "begun")]


async def test_following_a_job_that_never_started_ends_when_it_is_stopped(broker: Client) -> None:
    job = await broker.submit("true", hold=True)
    following = asyncio.create_task(_all(broker, job.id))
    await broker.verb(job.id, "stop")
    chunks = await asyncio.wait_for(following, 10)
    assert [(chunk.attempt, chunk.lines, chunk.eof) for chunk in chunks] == [(0, [], True)]


async def _all(broker: Client, job_id: int) -> list[LogChunk]:
    return [chunk async for chunk in followed(broker, job_id)]


async def test_files_that_a_job_left_can_be_fetched_and_no_others(
    broker: Client, shared_daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    job = await broker.shell(f"echo made > result.txt; ln -s {tmp_path}/secret link")
    await broker.reaches(job.id)
    listed = {entry["path"]: entry["size"] for entry in (await broker.http.get(f"/jobs/{job.id}/files")).json()}
    assert set(listed) == {"1.log", "1/result.txt"}
    assert listed["1/result.txt"] == 5
    assert (await broker.http.get(f"/jobs/{job.id}/files/1/result.txt")).text == "made\n"
    for path in ("1/link", "../../key", "%2e%2e/%2e%2e/key", str(shared_daemon.data_dir / "key"), "1", "nothing"):
        answer = await broker.http.get(f"/jobs/{job.id}/files/{path}")
        assert answer.status_code == 404, path


async def test_a_job_or_attempt_that_is_not_there_is_said_so(broker: Client) -> None:
    assert (await broker.http.get("/jobs/999999/logs")).status_code == 404
    job = await broker.submit("true")
    await broker.reaches(job.id)
    answer = await broker.http.get(f"/jobs/{job.id}/logs", params={"attempt": 7})
    assert "no attempt 7" in answer.json()["detail"]
    answer = await broker.http.get(f"/jobs/{job.id}/logs", params={"tail": "many"})
    assert (answer.status_code, answer.json()["findings"][0]["where"]) == (400, "tail")
