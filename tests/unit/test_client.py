"""The client against what networks and brokers do: lost answers, strange answers, brokers that moved."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.protocol.api import ErrorCode, Health, Problem, SubmitRequest
from broker.protocol.job import Job
from broker.protocol.states import JobState
from tests.unit.scripted import CUT, Scripted, answer
from wyolo_tui.client import BrokerClient
from wyolo_tui.unanswered import BrokerOut, ProblemError

JOB = Job(id=7, name="fruit", kind="train", state=JobState.QUEUED, submitted_at=datetime(2025, 1, 31, tzinfo=UTC))
HEALTH = Health(status="ok", redis="ok", ledger="ok", nodes={}, uptime_s=1.0, counts={}, seq=3)
REQUEST = SubmitRequest(config="model: yolov8n.yaml\n")


def keys(server: Scripted) -> list[str]:
    return [found[1] for request in server.requests if (found := re.search(r"(?i)idempotency-key: (\S+)", request))]


async def test_a_submission_whose_answer_was_lost_is_sent_again_with_the_same_key() -> None:
    heard = list[str]()
    async with (
        Scripted(CUT, CUT, answer(JOB.model_dump_json(), "200 OK")) as server,
        BrokerClient(server.url, patience_s=10, on_retry=heard.append) as broker,
    ):
        job, new = await broker.submit(REQUEST)
    assert (job.id, new) == (7, False)
    assert len(keys(server)) == 3 and len(set(keys(server))) == 1
    assert len(heard) == 1 and "was lost" in heard[0]


async def test_each_submission_has_a_key_of_its_own() -> None:
    created = answer(JOB.model_dump_json(), "201 Created")
    async with Scripted(created, created) as server, BrokerClient(server.url) as broker:
        assert [(await broker.submit(REQUEST))[1] for _ in range(2)] == [True, True]
    assert len(set(keys(server))) == 2


async def test_what_may_not_be_repeated_is_sent_once() -> None:
    async with (
        Scripted(CUT, answer(JOB.model_dump_json())) as server,
        BrokerClient(server.url, patience_s=10) as broker,
    ):
        with pytest.raises(BrokerOut):
            await broker.preempt(7)
    assert len(server.requests) == 1


async def test_a_submission_waits_for_a_broker_that_restarts() -> None:
    ending = Problem(title="ending", status=503, code=ErrorCode.SHUTTING_DOWN)
    async with (
        Scripted(answer(ending.model_dump_json(), "503 Gone"), answer(JOB.model_dump_json(), "201 Created")) as server,
        BrokerClient(server.url, patience_s=10) as broker,
    ):
        assert (await broker.submit(REQUEST))[0].id == 7


async def test_a_broker_that_moved_is_found_again() -> None:
    async with Scripted(answer(HEALTH.model_dump_json())) as new, Scripted() as old:
        async with BrokerClient(old.url, "old", patience_s=5, refind=lambda: (new.url, "new")) as broker:
            assert (await broker.health()).seq == 3
        assert "Authorization: Bearer new" in new.requests[0]


async def test_a_problem_is_told_with_its_findings() -> None:
    problem = Problem(title="bad", status=422, detail="train.epochs: unknown", code=ErrorCode.BAD_CONFIG)
    async with Scripted(answer(problem.model_dump_json(), "422 Bad")) as server, BrokerClient(server.url) as broker:
        with pytest.raises(ProblemError, match=r"train\.epochs: unknown") as caught:
            await broker.submit(REQUEST)
    assert caught.value.problem == problem


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "{}", "[1]"])
async def test_a_stranger_on_the_port_is_not_taken_for_a_broker(body: str) -> None:
    async with Scripted(answer(body), answer(body)) as server, BrokerClient(server.url) as broker:
        with pytest.raises(BrokerOut, match="does not speak as a wyolo broker"):
            await broker.health()
        with pytest.raises(BrokerOut, match="does not speak as a wyolo broker"):
            await broker.nodes()


async def test_an_error_page_of_a_stranger_is_no_word_of_the_broker() -> None:
    async with Scripted(answer("<h1>no</h1>", "404 Not Found")) as server, BrokerClient(server.url) as broker:
        with pytest.raises(BrokerOut, match="does not speak as a wyolo broker"):
            await broker.job("fruit salad/7")
    assert server.requests[0].startswith("GET /api/v1/jobs:find?ref=fruit+salad%2F7 ")


async def test_an_error_page_of_who_stands_before_the_broker_is_a_problem_with_its_status() -> None:
    async with Scripted(answer("<h1>who?</h1>", "401 Unauthorized")) as server, BrokerClient(server.url) as broker:
        with pytest.raises(ProblemError) as caught:
            await broker.jobs()
    assert caught.value.problem.code is ErrorCode.UNAUTHORISED


async def test_a_key_is_sent_as_it_is_whatever_it_is() -> None:
    async with Scripted(answer(HEALTH.model_dump_json())) as server, BrokerClient(server.url, "日本") as broker:
        await broker.health()
    assert "Authorization: Bearer 日本" in server.requests[0]


async def test_what_the_broker_would_refuse_is_not_sent() -> None:
    async with Scripted() as server, BrokerClient(server.url) as broker:
        for asked, where in ((broker.resume(7, 10**20), "epochs"), (broker.stop(7, float("inf")), "grace_s")):
            with pytest.raises(ProblemError) as caught:
                await asked
            assert [finding.where for finding in caught.value.problem.findings] == [where]
    assert server.requests == []


async def test_a_copied_file_is_whole_or_absent(tmp_path: Path) -> None:
    half = answer("0123456789").replace(b"Content-Length: 10", b"Content-Length: 20")
    seen = list[tuple[int, int]]()
    async with Scripted(half, answer("0123456789")) as server, BrokerClient(server.url) as broker:
        with pytest.raises(BrokerOut):
            await broker.fetch(7, "run/best.pt", tmp_path / "best.pt")
        assert list(tmp_path.iterdir()) == []
        assert (
            await broker.fetch(7, "run/best.pt", tmp_path / "best.pt", lambda done, total: seen.append((done, total)))
            == 10
        )
    assert (tmp_path / "best.pt").read_text() == "0123456789"
    assert seen == [(10, 10)]


async def test_a_url_that_is_none_is_called_so() -> None:
    async with BrokerClient("ftp://example") as broker:
        with pytest.raises(BrokerOut, match="no address of a broker"):
            await broker.health()
