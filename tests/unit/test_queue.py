import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from broker.errors import BadInput, QueueDown
from broker.protocol.states import Priority
from broker.queue import Entry, Queue
from broker.redis_server import RedisServer
from tests.redis_fixtures import Ask, ask, frozen, oldest_redis, queue, redis
from tests.waiting import until_awaited

__all__ = ["ask", "oldest_redis", "queue", "redis"]

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


async def _from(entries: Sequence[Entry], step: int = 1_000) -> AsyncIterator[Sequence[Entry]]:
    """As the ledger gives them: in batches."""
    for start in range(0, len(entries), step):
        yield entries[start : start + step]


# order


async def test_high_comes_before_normal_before_low_and_each_in_its_order(queue: Queue) -> None:
    await queue.put([(1, LOW, 1.0), (2, NORMAL, 9.0), (3, HIGH, 5.0), (4, NORMAL, 3.5), (5, HIGH, -2.0)])
    assert await queue.head(10) == [5, 3, 4, 2, 1]
    assert await queue.head(3) == [5, 3, 4]
    assert await queue.head(0) == []
    assert await queue.length() == 5


async def test_jobs_of_equal_rank_come_in_the_order_of_their_ids(queue: Queue) -> None:
    await queue.put([(job_id, NORMAL, 0.0) for job_id in (10, 9, 100, 2)])
    assert await queue.head(10) == [2, 9, 10, 100]


async def test_put_moves_a_job_and_never_has_it_twice(queue: Queue) -> None:
    await queue.put([(1, NORMAL, 1.0), (2, NORMAL, 2.0)])
    await queue.put([(2, NORMAL, 0.5)])
    assert await queue.head(10) == [2, 1]
    await queue.put([(1, HIGH, 1.0)])
    await queue.put([(1, HIGH, 1.0)])
    assert await queue.head(10) == [1, 2]
    assert await queue.length() == 2


async def test_dropped_jobs_are_gone_and_dropping_again_is_harmless(queue: Queue) -> None:
    await queue.put([(1, HIGH, 1.0), (2, NORMAL, 1.0), (3, LOW, 1.0)])
    await queue.drop([1, 3, 77])
    await queue.drop([1])
    await queue.drop([])
    assert await queue.head(10) == [2]


async def test_brokers_on_one_redis_do_not_see_each_other(redis: RedisServer, queue: Queue) -> None:
    other = Queue(redis.url, "there")
    await other.put([(1, NORMAL, 1.0)])
    await queue.rebuild(_from([(2, NORMAL, 1.0)]))
    assert await other.head(5) == [1]
    assert await queue.head(5) == [2]
    assert await other.lost()
    await other.close()


# losing everything


async def test_an_emptied_redis_is_noticed_and_100_000_waiting_jobs_are_put_back(queue: Queue, ask: Ask) -> None:
    entries = [(n, (HIGH, NORMAL, LOW)[n % 3], float(n)) for n in range(1, 100_001)]
    assert await queue.lost()
    await queue.rebuild(_from(entries))
    assert not await queue.lost()
    await ask("FLUSHALL")
    assert await queue.lost()
    assert await queue.rebuild(_from(entries)) == 100_000
    assert not await queue.lost()
    assert await queue.length() == 100_000
    assert await queue.head(2) == [3, 6]


async def test_rebuild_forgets_what_the_ledger_does_not_have(queue: Queue) -> None:
    await queue.put([(1, NORMAL, 1.0), (2, HIGH, 1.0)])
    await queue.rebuild(_from([(1, LOW, 1.0), (3, NORMAL, 1.0)]))
    assert await queue.head(5) == [3, 1]


async def test_what_is_put_during_a_rebuild_stays(queue: Queue) -> None:
    async def entries() -> AsyncIterator[Sequence[Entry]]:
        yield [(1, NORMAL, 1.0)]
        await queue.put([(9, NORMAL, 9.0)])
        yield [(2, NORMAL, 2.0)]

    await queue.rebuild(entries())
    assert await queue.head(5) == [1, 2, 9]


async def test_data_lost_during_a_rebuild_is_noticed(queue: Queue, ask: Ask) -> None:
    async def entries() -> AsyncIterator[Sequence[Entry]]:
        yield [(1, NORMAL, 1.0)]
        await ask("FLUSHALL")
        yield [(2, NORMAL, 2.0)]

    with pytest.raises(QueueDown, match="filled again"):
        await queue.rebuild(entries())
    assert await queue.lost()


async def test_a_restarted_redis_counts_as_lost_though_it_kept_its_data(redis: RedisServer, queue: Queue) -> None:
    """It may have gone back to older data: only the ledger knows."""
    await queue.rebuild(_from([(1, NORMAL, 1.0)]))
    await redis.stop()
    await redis.start()
    assert await queue.head(1) == [1]
    assert await queue.lost()
    await queue.rebuild(_from([(1, NORMAL, 1.0)]))
    assert not await queue.lost()


async def test_a_new_broker_trusts_nothing_that_it_finds(redis: RedisServer, queue: Queue) -> None:
    await queue.rebuild(_from([(1, NORMAL, 1.0)]))
    successor = Queue(redis.url, "here")
    assert await successor.lost()
    await successor.close()


# leases


async def test_a_claimed_job_is_taken_out_and_leased(queue: Queue, ask: Ask) -> None:
    await queue.put([(1, HIGH, 1.0), (2, NORMAL, 1.0), (3, LOW, 1.0)])
    await queue.claim([(1, 1), (3, 4)], ttl_s=30)
    assert await queue.head(5) == [2]
    assert await ask("GET", "wyolo:here:lease:3") == "4"
    assert 29_000 < await ask("PTTL", "wyolo:here:lease:1") <= 30_000


async def test_an_older_attempt_can_neither_take_nor_release_the_lease_of_a_newer(queue: Queue, ask: Ask) -> None:
    await queue.claim([(1, 2)], ttl_s=30)
    await queue.claim([(1, 1)], ttl_s=30)
    await queue.renew([(1, 1)], ttl_s=30)
    await queue.release([(1, 1)])
    assert await ask("GET", "wyolo:here:lease:1") == "2"
    await queue.claim([(1, 10)], ttl_s=30)  # compared as numbers
    assert await ask("GET", "wyolo:here:lease:1") == "10"
    await queue.release([(1, 10), (5, 1)])
    assert await ask("EXISTS", "wyolo:here:lease:1") == 0


async def test_renewing_prolongs_and_brings_back_a_lost_lease(queue: Queue, ask: Ask) -> None:
    await queue.claim([(1, 1)], ttl_s=1)
    await queue.renew([(1, 1), (2, 7)], ttl_s=60)
    assert await ask("PTTL", "wyolo:here:lease:1") > 50_000
    assert await ask("GET", "wyolo:here:lease:2") == "7"


async def test_a_lease_that_nobody_renews_ends(queue: Queue, ask: Ask) -> None:
    await queue.claim([(1, 1)], ttl_s=0.05)
    await until_awaited(lambda: _missing(ask, "wyolo:here:lease:1"), what="the lease ends")


async def _missing(ask: Ask, key: str) -> bool:
    return await ask("EXISTS", key) == 0


async def test_many_leases_go_in_one_call(queue: Queue, ask: Ask) -> None:
    leases = [(n, 1) for n in range(1, 12_001)]
    await queue.claim(leases, ttl_s=60)
    assert await ask("DBSIZE") == 12_000
    await queue.release(leases)
    assert await ask("DBSIZE") == 0


# faults


async def test_redis_killed_and_started_again_serves_the_same_queue(redis: RedisServer, queue: Queue) -> None:
    watching = asyncio.create_task(redis.watch())
    await queue.put([(1, NORMAL, 1.0)])
    os.kill(redis.pid, signal.SIGKILL)

    async def back() -> bool:
        try:
            return await queue.head(1) == [1]
        except QueueDown:
            return False

    await until_awaited(back, what="Redis is back with its data")
    watching.cancel()


async def test_a_frozen_redis_is_told_to_each_of_many_callers_within_the_bound_and_used_again_afterwards(
    redis: RedisServer, queue: Queue
) -> None:
    await queue.put([(1, NORMAL, 1.0)])
    with frozen(redis.pid):
        few = queue.head(1), queue.put([(2, LOW, 1.0)]), queue.intake(), queue.lost()
        async with asyncio.timeout(5.5):
            answers = await asyncio.gather(*few, *(queue.ping() for _ in range(200)), return_exceptions=True)
        assert all(isinstance(answer, QueueDown) for answer in answers)
        assert "did not answer within" in str(answers[0])
    assert (await queue.head(2))[0] == 1
    await queue.intake(block_s=0.01)
    await asyncio.gather(*(queue.ping() for _ in range(200)))


async def test_an_absent_redis_is_told_at_once(tmp_path: Path) -> None:
    queue = Queue(f"unix://{tmp_path}/none.sock", "here")
    async with asyncio.timeout(1):
        with pytest.raises(QueueDown, match=f"{tmp_path}/none.sock cannot be reached"):
            await queue.put([(1, NORMAL, 1.0)])
    await queue.close()


async def test_a_full_redis_says_so_and_reading_goes_on(queue: Queue, ask: Ask) -> None:
    await queue.put([(1, NORMAL, 1.0)])
    await ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(QueueDown, match="out of memory"):
        await queue.put([(2, NORMAL, 1.0)])
    assert await queue.head(5) == [1]
    await ask("CONFIG", "SET", "maxmemory", "0")
    await queue.put([(2, NORMAL, 1.0)])
    assert await queue.head(5) == [1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs needs root: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


async def test_a_full_disk_is_told_and_the_queue_goes_on_once_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    async with RedisServer(small_disk / "redis") as redis:
        queue = Queue(redis.url, "here")
        await queue.put([(1, NORMAL, 1.0)])

        async def refused() -> str:
            try:
                await queue.results([{"filler": "x" * 200_000}])
            except QueueDown as error:
                return str(error)
            return ""

        assert "cannot write to its disk" in await until_awaited(refused, what="the disk is full")
        with pytest.raises(QueueDown, match="cannot write to its disk"):
            await queue.put([(2, NORMAL, 1.0)])
        assert await queue.head(5) == [1]
        ballast.unlink()

        async def taken() -> bool:
            try:
                await queue.put([(2, NORMAL, 1.0)])
            except QueueDown:
                return False
            return True

        await until_awaited(taken, what="Redis takes jobs again")
        assert await queue.head(5) == [1, 2]
        await queue.close()


async def test_a_read_only_replica_is_named_as_such(queue: Queue, ask: Ask) -> None:
    await ask("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(QueueDown, match="read-only replica"):
        await queue.put([(1, NORMAL, 1.0)])


async def test_the_password_opens_and_is_never_shown(redis: RedisServer, queue: Queue, ask: Ask) -> None:
    await queue.ping()
    await ask("CONFIG", "SET", "requirepass", "s3cret pass/word")
    socket = redis.url.removeprefix("unix://")
    right = Queue(f"unix://:s3cret%20pass%2Fword@{socket}", "here")
    await right.ping()
    wrong = Queue(f"unix://:w0rd@{socket}", "here")
    with pytest.raises(QueueDown, match="password") as caught:
        await wrong.ping()
    assert "w0rd" not in str(caught.value)
    for used in (right, wrong):
        await used.close()


def test_a_url_that_names_no_redis_is_bad_input_without_its_password() -> None:
    for url in ("mysql://user:s3cret@host/1", "nonsense", "redis://:s3cret@host:99999999/x", ""):
        with pytest.raises(BadInput) as caught:
            Queue(url, "here")
        assert "s3cret" not in str(caught.value)


async def test_forgotten_scripts_are_told_again(queue: Queue, ask: Ask) -> None:
    await queue.put([(1, NORMAL, 1.0)])
    await queue.head(1)
    await ask("SCRIPT", "FLUSH")
    assert await queue.head(1) == [1]


# intake


async def test_a_message_is_given_until_it_is_acknowledged(queue: Queue, ask: Ask) -> None:
    first = await ask("XADD", "training_queue", "*", "config", "model: yolov8n.pt", "user_code", "ana")
    await ask("XADD", "training_queue", "*", "config_path", "/x.yaml")
    messages = await queue.intake()
    assert [dict(message.fields) for message in messages] == [
        {"config": "model: yolov8n.pt", "user_code": "ana"},
        {"config_path": "/x.yaml"},
    ]
    assert messages[0].id == first
    assert await queue.intake() == messages
    await queue.ack([message.id for message in messages])
    assert await queue.intake(block_s=0.01) == []
    assert await ask("XLEN", "training_queue") == 0


async def test_a_message_wakes_a_broker_that_waits(queue: Queue, ask: Ask) -> None:
    await queue.intake(block_s=0.01)
    waiting = asyncio.create_task(queue.intake(block_s=2))
    await until_awaited(lambda: _blocked(ask), what="the broker waits in Redis")
    await ask("XADD", "training_queue", "*", "config", "x")
    async with asyncio.timeout(1):
        assert len(await waiting) == 1


async def _blocked(ask: Ask) -> bool:
    return "blocked_clients:1" in await ask("INFO", "clients")


async def test_messages_sent_before_the_first_broker_came_are_taken(queue: Queue, ask: Ask) -> None:
    for n in range(250):
        await ask("XADD", "training_queue", "*", "config", str(n))
    seen: list[str] = []
    while messages := await queue.intake(block_s=0.01):
        seen += [message.fields["config"] for message in messages]
        await queue.ack([message.id for message in messages])
    assert seen == [str(n) for n in range(250)]


async def test_a_restarted_broker_gets_what_it_had_not_acknowledged(redis: RedisServer, queue: Queue, ask: Ask) -> None:
    await ask("XADD", "training_queue", "*", "config", "x")
    messages = await queue.intake()
    successor = Queue(redis.url, "here")
    assert await successor.intake() == messages
    await successor.close()


async def test_messages_of_a_dead_broker_are_taken_over_and_those_of_a_living_one_left(
    redis: RedisServer, queue: Queue, ask: Ask
) -> None:
    other = Queue(redis.url, "there")
    await ask("XADD", "training_queue", "*", "config", "x")
    (message,) = await other.intake()
    assert await queue.intake(block_s=0.01) == []
    assert await other.intake() == [message]  # which also shows that it lives
    # as if its last sign of life were two minutes old
    await ask("XCLAIM", "training_queue", "wyolo", "there", "0", message.id, "IDLE", "120000")
    assert await queue.intake(block_s=0.01) == [message]
    assert await other.intake(block_s=0.01) == []
    await other.close()


async def test_reading_its_own_messages_again_shows_that_a_broker_lives(queue: Queue, ask: Ask) -> None:
    await ask("XADD", "training_queue", "*", "config", "x")
    (message,) = await queue.intake()
    await ask("XCLAIM", "training_queue", "wyolo", "here", "0", message.id, "IDLE", "50000")
    await queue.intake()
    assert await ask("XPENDING", "training_queue", "wyolo", "IDLE", "40000", "-", "+", "9") == []


async def test_a_buried_message_keeps_its_fields_and_the_reason(queue: Queue, ask: Ask) -> None:
    await ask("XADD", "training_queue", "*", "config", "modle: x", "user_code", "ana")
    (message,) = await queue.intake()
    await queue.bury(message, "unknown key `modle`: did you mean `model`?")
    assert await ask("XLEN", "training_queue") == 0
    assert await queue.intake(block_s=0.01) == []
    assert await _dead(ask) == [
        {
            "config": "modle: x",
            "user_code": "ana",
            "error": "unknown key `modle`: did you mean `model`?",
            "original_id": message.id,
        }
    ]


async def _dead(ask: Ask) -> list[dict[str, str]]:
    return [_pairs(fields) for _, fields in await ask("XRANGE", "training_queue:dead", "-", "+")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((b"config", b"caf\xe9"), "`config` is not UTF-8"),
        ((b"\xff\xfe", b"x"), "name is not UTF-8"),
        ((b"config", b"x" * (1 << 20)), "bytes"),
        (tuple(b"f%d" % n for n in range(202)), "101 fields"),
        ((b"json", b"{'single': 1}"), "not JSON"),
        ((b"json", b"[1, 2]"), "no object"),
        ((b"json", b"[" * 100_000), "nested"),
    ],
)
async def test_a_message_that_nobody_can_read_is_set_aside_with_the_reason(
    queue: Queue, ask: Ask, fields: Sequence[bytes], reason: str
) -> None:
    await ask("XADD", "training_queue", "*", *fields)
    await ask("XADD", "training_queue", "*", "config", "good")
    (message,) = await queue.intake()
    assert message.fields == {"config": "good"}
    (dead,) = await _dead(ask)
    assert reason in dead["error"]
    assert max(map(len, dead.values())) <= 4_096


@pytest.mark.usefixtures("oldest_redis")  # a newer one forgets it by itself
async def test_a_message_deleted_by_its_sender_does_not_come_back(queue: Queue, ask: Ask) -> None:
    await ask("XADD", "training_queue", "*", "config", "x")
    (message,) = await queue.intake()
    await ask("XDEL", "training_queue", message.id)
    assert await queue.intake(block_s=0.01) == []
    assert await ask("XPENDING", "training_queue", "wyolo", "-", "+", "9") == []


async def test_redis_emptied_while_a_broker_waits_loses_only_what_was_in_it(queue: Queue, ask: Ask) -> None:
    await queue.intake(block_s=0.01)
    waiting = asyncio.create_task(queue.intake(block_s=2))
    await until_awaited(lambda: _blocked(ask), what="the broker waits in Redis")
    await ask("FLUSHALL")
    assert await waiting == []
    await ask("XADD", "training_queue", "*", "config", "x")
    assert len(await queue.intake()) == 1


async def test_the_list_of_an_older_wyolo_is_taken_oldest_first_and_nothing_twice(queue: Queue, ask: Ask) -> None:
    for n in range(3):
        older = {"task_id": f"t{n}", "config_path": "/x.yaml", "user_code": "ana", "db_count": n, "note": None}
        await ask("LPUSH", "training_queue", json.dumps(older))
    messages = await queue.intake()
    assert [message.fields["task_id"] for message in messages] == ["t0", "t1", "t2"]
    assert messages[2].fields == {"task_id": "t2", "config_path": "/x.yaml", "user_code": "ana", "db_count": "2"}
    await queue.ack([message.id for message in messages])
    assert await queue.intake(block_s=0.01) == []
    assert await ask("TYPE", "training_queue") == "stream"
    await ask("LPUSH", "training_queue:list", json.dumps({"task_id": "t3"}))  # where older programs may go on
    assert [message.fields["task_id"] for message in await queue.intake()] == ["t3"]


async def test_a_list_stays_whole_while_redis_takes_nothing(queue: Queue, ask: Ask) -> None:
    await ask("LPUSH", "training_queue:list", '{"task_id": "a"}')
    await queue.intake(block_s=0.01)
    await ask("DEL", "training_queue")
    await ask("LPUSH", "training_queue:list", '{"task_id": "b"}')
    await ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(QueueDown, match="out of memory"):
        await queue.intake(block_s=0.01)
    assert await ask("LLEN", "training_queue:list") == 1
    await ask("CONFIG", "SET", "maxmemory", "0")
    assert [message.fields for message in await queue.intake()] == [{"task_id": "b"}]


async def test_a_training_queue_that_is_neither_stream_nor_list_is_told(queue: Queue, ask: Ask) -> None:
    await ask("SET", "training_queue", "x")
    with pytest.raises(QueueDown, match="another kind of value"):
        await queue.intake()


# live


async def test_other_programs_read_progress_tail_and_results(queue: Queue, ask: Ask) -> None:
    await queue.progress("t1", {"EPOCH": "1", "TOTAL_EPOCHS": "3"})
    await queue.progress("t1", {"EPOCH": "2"})
    await queue.progress("t1", {})
    await queue.tail("t1", ["one", "two"])
    await queue.tail("t1", [])
    await queue.results([{"task_id": "t1", "state": "completed"}])
    assert _pairs(await ask("HGETALL", "progress:t1")) == {"EPOCH": "2", "TOTAL_EPOCHS": "3"}
    lines = await ask("XRANGE", "stream:t1", "-", "+")
    assert [_pairs(fields) for _, fields in lines] == [{"line": "one"}, {"line": "two"}]
    ((_, result),) = await ask("XRANGE", "results_queue", "-", "+")
    assert _pairs(result) == {"task_id": "t1", "state": "completed"}
    for key in ("progress:t1", "stream:t1"):
        assert 0 < await ask("TTL", key) <= 24 * 3600


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def test_the_tail_stays_bounded(queue: Queue, ask: Ask) -> None:
    for _ in range(5):
        await queue.tail("t1", [f"{n} " + "x" * 10_000 for n in range(1_500)])
    assert await ask("XLEN", "stream:t1") < 1_200
    ((_, last),) = await ask("XREVRANGE", "stream:t1", "+", "-", "COUNT", "1")
    assert len(_pairs(last)["line"]) == 4_096
    assert _pairs(last)["line"].startswith("1499 ")


async def test_lines_that_are_no_text_are_shown_all_the_same(queue: Queue, ask: Ask) -> None:
    await queue.tail("t1", ["bad \udcff byte"])
    ((_, line),) = await ask("XRANGE", "stream:t1", "-", "+")
    assert _pairs(line)["line"] == "bad ? byte"


@pytest.mark.parametrize("key", ["results_queue", "training_queue:dead", "progress:t1", "stream:t1"])
async def test_an_older_value_under_one_of_the_names_is_renamed_and_kept(queue: Queue, ask: Ask, key: str) -> None:
    await ask("LPUSH", key, "older")
    await ask("XADD", "training_queue", "*", "config", "x")
    (message,) = await queue.intake()
    await queue.bury(message, "no")
    await queue.progress("t1", {"EPOCH": "1"})
    await queue.tail("t1", ["line"])
    await queue.results([{"task_id": "t1"}])
    (aside,) = await ask("KEYS", f"{key}:aside-*")
    assert await ask("LRANGE", aside, "0", "-1") == ["older"]
    assert await ask("TTL", aside) == -1
    assert await ask("TYPE", key) in {"stream", "hash"}
