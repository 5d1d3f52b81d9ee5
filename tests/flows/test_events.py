"""events: everything that happens, as it happens, without a gap or a repeat across reconnects."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from broker.protocol.event import FOLLOWER_EVENT, FollowerEvent, JobChanged
from tests.flows.daemon import Client, Daemon
from tests.waiting import until


class Follower:
    """What came so far, and whether the stream goes on."""

    def __init__(self) -> None:
        self.seen: list[FollowerEvent] = []
        self.connected = asyncio.Event()
        self.ended = False

    async def run(self, broker: Client, query: dict[str, int], headers: dict[str, str]) -> None:
        async with broker.http.stream("GET", "/events", params=query, headers=headers) as answer:
            async for line in answer.aiter_lines():
                self.connected.set()
                if line.startswith("data: "):
                    self.seen.append(FOLLOWER_EVENT.validate_json(line.removeprefix("data: ")))
        self.ended = True

    @property
    def durable(self) -> list[FollowerEvent]:
        return [event for event in self.seen if event.seq]

    def verbs(self, job_id: int) -> list[str]:
        return [event.verb for event in self.seen if isinstance(event, JobChanged) and event.job.id == job_id]


@asynccontextmanager
async def following(broker: Client, after: int | None = None, last: int | None = None) -> AsyncGenerator[Follower]:
    follower = Follower()
    query = {} if after is None else {"after": after}
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    task = asyncio.create_task(follower.run(broker, query, headers))
    await follower.connected.wait()
    yield follower
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def ended(follower: Follower, job_id: int) -> Callable[[], bool]:
    return lambda: "complete" in follower.verbs(job_id)


async def test_a_follower_sees_each_step_of_a_job(broker: Client) -> None:
    async with following(broker) as follower:
        job = await broker.shell("sleep 0.1")
        await until(ended(follower, job.id))
    assert follower.verbs(job.id) == ["submit", "place", "run", "complete"]
    seqs = [event.seq for event in follower.durable]
    assert seqs == sorted(set(seqs))


async def test_one_that_comes_back_gets_what_it_missed_and_goes_on_live(broker: Client) -> None:
    async with following(broker) as follower:
        first = await broker.submit("true")
        await until(ended(follower, first.id))
        mark = follower.durable[-1].seq
    missed = await broker.submit("true")
    await broker.reaches(missed.id)
    async with following(broker, after=mark) as follower:
        await until(ended(follower, missed.id))
        live = await broker.submit("true")
        await until(ended(follower, live.id))
    assert first.id not in {event.job.id for event in follower.seen if isinstance(event, JobChanged)}
    seqs = [event.seq for event in follower.durable]
    assert seqs == sorted(set(seqs)) and seqs[0] > mark


async def test_the_newest_of_after_and_last_event_id_counts(broker: Client) -> None:
    job = await broker.submit("true")
    await broker.reaches(job.id)
    newest = (await broker.http.get("/health")).json()["seq"]
    async with following(broker, after=0, last=newest) as follower:
        other = await broker.submit("true")
        await until(ended(follower, other.id))
    assert not follower.verbs(job.id)


async def test_nothing_falls_between_what_was_missed_and_what_is_live(broker: Client) -> None:
    mark = (await broker.http.get("/health")).json()["seq"]
    submitting = asyncio.gather(*(broker.submit("true", hold=True) for _ in range(100)))
    async with following(broker, after=mark) as follower:
        jobs = await submitting
        await until(lambda: len(follower.durable) >= 100)
    assert {event.job.id for event in follower.durable if isinstance(event, JobChanged)} == {job.id for job in jobs}
    seqs = [event.seq for event in follower.durable]
    assert len(seqs) == len(set(seqs))


async def test_a_number_from_another_life_of_the_broker_means_resync(broker: Client) -> None:
    async with following(broker, after=10**9) as follower:
        await until(lambda: follower.seen)
        assert follower.seen[0].kind == "resync"
        job = await broker.submit("true")
        await until(ended(follower, job.id))


async def test_gauges_come_every_few_seconds(broker: Client) -> None:
    async with following(broker) as follower:
        await until(lambda: any(event.kind == "sample" for event in follower.seen))
    node = (await broker.http.get("/nodes/local")).json()
    assert node["history"] and node["slots"] == 4
    assert (await broker.http.get("/nodes/lcoal")).json()["detail"].endswith("did you mean `local`?")


async def test_followers_are_let_go_when_the_broker_ends(daemon: Daemon) -> None:
    daemon.start()
    async with daemon.client() as broker, following(broker) as follower:
        assert daemon.stop() == 0
        await until(lambda: follower.ended)


async def test_of_a_long_history_the_newest_is_shown(broker: Client) -> None:
    job = await broker.shell("sleep 0.1")
    await broker.reaches(job.id)
    whole = await broker.events(job.id)

    async def asked(**query: int) -> list[int]:
        answer = await broker.http.get(f"/jobs/{job.id}/events", params=query)
        return [entry["seq"] for entry in answer.json()]

    seqs = [entry.seq for entry in whole]
    assert await asked(limit=2) == seqs[-2:]
    assert await asked(limit=2, after=0) == seqs[:2]
