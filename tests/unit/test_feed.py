"""The feed across lost connections: nothing durable is missed, nothing comes twice."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from broker.protocol.api import ErrorCode, LogChunk, LogLine, Problem
from broker.protocol.event import EpochDone, FollowerEvent, Progressed
from tests.unit.scripted import CUT, Scripted, answer, stream
from wyolo_tui import feed
from wyolo_tui.client import BrokerClient
from wyolo_tui.feed import Feed, LinkDown, LinkUp, follow_log
from wyolo_tui.unanswered import ProblemError

T = TypeVar("T")
AT = datetime(2025, 1, 31, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(feed, "LONGEST_WAIT_S", 0.02)


def epoch(seq: int) -> EpochDone:
    return EpochDone(seq=seq, at=AT, job_id=1, attempt=1, epoch=seq, values={"metrics/mAP50(B)": 0.5})


def frame(event: FollowerEvent) -> str:
    return f"event: {event.kind}\ndata: {event.model_dump_json()}\n\n" + (f"id: {event.seq}\n" if event.seq else "")


def chunk(offset: int, *lines: str, eof: bool = False) -> str:
    shown = [LogLine(offset=offset, text=line) for line in lines]
    return f"data: {LogChunk(job_id=1, attempt=2, lines=shown, next_offset=offset, eof=eof).model_dump_json()}\n\n"


async def taken(items: AsyncGenerator[T], count: int) -> list[T]:
    found = list[T]()
    async with aclosing(items):
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


async def test_after_a_lost_connection_it_goes_on_behind_the_last_event() -> None:
    async with (
        Scripted(stream(frame(epoch(5)), frame(epoch(6))), CUT, stream(frame(epoch(6)), frame(epoch(7)))) as server,
        BrokerClient(server.url, "secret") as broker,
    ):
        items = await taken(Feed(broker, 4).follow(), 7)
    assert [type(item) for item in items] == [LinkUp, EpochDone, EpochDone, LinkDown, LinkDown, LinkUp, EpochDone]
    assert [item.seq for item in items if isinstance(item, EpochDone)] == [5, 6, 7]
    assert [request.split(" ")[1] for request in server.requests] == [
        f"/api/v1/events?after={seq}" for seq in (4, 6, 6)
    ]
    assert "Last-Event-ID: 6" in server.requests[2] and "Bearer secret" in server.requests[2]


async def test_events_without_a_number_are_all_passed_on() -> None:
    progress = Progressed(at=AT, job_id=1, epoch=1, epochs=3, epoch_progress=0.5)
    async with Scripted(stream(frame(progress), frame(progress))) as server, BrokerClient(server.url) as broker:
        assert (await taken(Feed(broker, 9).follow(), 3))[1:] == [progress, progress]


async def test_frames_may_come_in_any_pieces() -> None:
    whole = ": still here\r\n\r\n" + frame(epoch(1)).replace("\n", "\r\n") + frame(epoch(2))
    async with Scripted(stream(*whole)) as server, BrokerClient(server.url) as broker:
        assert (await taken(Feed(broker, 0).follow(), 3))[1:] == [epoch(1), epoch(2)]


async def test_a_kind_of_a_later_version_is_passed_over() -> None:
    strange = 'data: {"kind": "weather", "seq": 1, "at": "2025-01-31T00:00:00Z"}\n\ndata: nonsense\n\n'
    async with Scripted(stream(strange, frame(epoch(2)))) as server, BrokerClient(server.url) as broker:
        assert (await taken(Feed(broker, 0).follow(), 2))[1:] == [epoch(2)]


async def test_a_wrong_key_ends_it() -> None:
    problem = Problem(title="no", status=401, code=ErrorCode.UNAUTHORISED)
    async with Scripted(answer(problem.model_dump_json(), "401 No")) as server, BrokerClient(server.url) as broker:
        with pytest.raises(ProblemError):
            await taken(Feed(broker, 0).follow(), 1)


async def test_a_log_goes_on_at_the_byte_where_it_was_cut() -> None:
    async with (
        Scripted(stream(chunk(10, "one")), stream(chunk(20, "two\u2028still two"), chunk(20, eof=True))) as server,
        BrokerClient(server.url) as broker,
    ):
        items = await taken(follow_log(broker, 1, tail=100), 99)
    assert [line.text for item in items if isinstance(item, LogChunk) for line in item.lines] == [
        "one",
        "two\u2028still two",
    ]
    assert server.requests[0].startswith("GET /api/v1/jobs/1/logs/stream?tail=100 ")
    assert server.requests[1].startswith("GET /api/v1/jobs/1/logs/stream?attempt=2&offset=10 ")
