"""Redis: order, leases, intake, live progress and log tail. It carries ids, never truth.

Everything here may be lost at any moment; `rebuild` makes the order again from the ledger. Own keys begin with
`wyolo:<broker id>:`, so that brokers can share a Redis; other programs use `training_queue`, `training_queue:dead`,
`results_queue`, `progress:<task_id>` and `stream:<task_id>`. docs/redis.md describes each.
"""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TypeVar

from broker.errors import QueueDown
from broker.intake_message import IntakeMessage, Misfit, decode
from broker.protocol.states import Priority
from broker.redis_link import Link
from broker.redis_words import ANSWER_S, Command, Refused, Reply, Script

_log = logging.getLogger(__name__)

CHUNK = 5_000  # ids in one round trip: each is bounded by ANSWER_S
DEAD_CONSUMER_S = 60.0  # a broker reads its unacknowledged messages every few seconds; one that does not is gone
LIVE_S = 24 * 3600  # that progress:<task_id> and stream:<task_id> outlive their last change
TAIL_LINES, LINE_CHARACTERS = 1_000, 4_096
MOST_RESULTS, MOST_DEAD = 100_000, 10_000

STREAM, GROUP, DEAD, LIST = "training_queue", "wyolo", "training_queue:dead", "training_queue:list"
RESULTS = "results_queue"

T = TypeVar("T")
Entry = tuple[int, Priority, float]  # job id, priority, rank
Lease = tuple[int, int]  # job id, fence

# KEYS: ready sets in order. ARGV: how many ids.
_HEAD = Script("""
local ids = {}
for _, ready in ipairs(KEYS) do
  local missing = tonumber(ARGV[1]) - #ids
  if missing <= 0 then break end
  for _, id in ipairs(redis.call('ZRANGE', ready, 0, missing - 1)) do ids[#ids + 1] = id end
end
return ids
""")

# KEYS: three ready sets, then a lease for each job. ARGV: milliseconds, then member and fence for each job.
_LEASE = Script("""
for i = 4, #KEYS do
  local member, fence = ARGV[2 * i - 6], ARGV[2 * i - 5]
  for ready = 1, 3 do redis.call('ZREM', KEYS[ready], member) end
  local held = tonumber(redis.call('GET', KEYS[i]) or '0')
  if held <= tonumber(fence) then redis.call('SET', KEYS[i], fence, 'PX', ARGV[1]) end
end
return 1
""")

# KEYS: leases. ARGV: their fences.
_RELEASE = Script("""
for i, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[i] then redis.call('DEL', lease) end
end
return 1
""")

# KEYS: generation. ARGV: what a rebuild put there when it began, what it puts there at its end.
_FINISH = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
""")

# KEYS: stream, list. ARGV: group, how many. Older programs LPUSH their JSON: a list where the stream should be is
# renamed once, and the oldest of the list go into the stream. Added before it is removed: a refusal loses nothing.
_OPEN_INTAKE = Script("""
local stream, list = KEYS[1], KEYS[2]
if redis.call('TYPE', stream).ok == 'list' then
  if redis.call('EXISTS', list) == 0 then redis.call('RENAME', stream, list)
  else while redis.call('LMOVE', stream, list, 'RIGHT', 'LEFT') do end end
end
local made = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
for _ = 1, tonumber(ARGV[2]) do
  local text = redis.call('LINDEX', list, -1)
  if not text then break end
  redis.call('XADD', stream, '*', 'json', text)
  redis.call('RPOP', list)
end
return 1
""")

# KEYS: stream, dead. ARGV: group, id, longest dead stream, then names and values. Refused as a whole or not at all.
_BURY = Script("""
local words = {}
for i = 4, #ARGV do words[#words + 1] = ARGV[i] end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(words))
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
return 1
""")


class Queue:
    """Every method raises QueueDown when Redis does not answer in time. None blocks for longer than 5 s; a call with
    very many ids goes in round trips of 5,000, each bounded like that."""

    def __init__(self, url: str, broker_id: str) -> None:
        """Connects with the first call. Raises BadInput when `url` names no Redis."""
        self._link = Link(url, f"wyolo-{broker_id}", (_HEAD, _LEASE, _RELEASE, _FINISH, _BURY))
        self._intake = Link(url, f"wyolo-{broker_id}-intake", (_OPEN_INTAKE,), connections=1)
        self._consumer = broker_id
        self._prefix = f"wyolo:{broker_id}:"
        self._ready = {priority: f"{self._prefix}ready:{priority.value}" for priority in _ORDER}
        self._generation_key = f"{self._prefix}generation"
        self._broker_id = broker_id
        self._generation = ""  # what Redis must hold to be trusted; "" until the first rebuild
        self._run_id = b""  # of the server that was rebuilt

    async def close(self) -> None:
        await self._intake.close()
        await self._link.close()

    async def ping(self) -> None:
        await self._link.one("ping", ("PING",))

    # --- order ---

    async def put(self, entries: Sequence[Entry]) -> None:
        """Make jobs ready (or move them): id, priority, rank. Idempotent."""
        for chunk in _chunks(entries):
            commands: list[Command] = []
            for priority, ready in self._ready.items():
                inside = [(_member(job_id), rank) for job_id, wanted, rank in chunk if wanted is priority]
                outside = [_member(job_id) for job_id, wanted, _ in chunk if wanted is not priority]
                if inside:
                    commands.append(("ZADD", ready, *(word for member, rank in inside for word in (rank, member))))
                if outside:
                    commands.append(("ZREM", ready, *outside))
            await self._link.run("put", *commands, atomic=True)

    async def drop(self, job_ids: Sequence[int]) -> None:
        for chunk in _chunks(job_ids):
            members = [_member(job_id) for job_id in chunk]
            await self._link.run("drop", *(("ZREM", ready, *members) for ready in self._ready.values()), atomic=True)

    async def head(self, count: int) -> list[int]:
        """The first `count` ready ids: high before normal before low, by rank within each, then by id. Nothing is
        taken. Hints: an id whose job the ledger does not call queued is to be dropped."""
        return [int(member) for member in await self._link.one("head", _HEAD.call(self._ready_keys, [count]))]

    async def length(self) -> int:
        return sum(await self._link.run("length", *(("ZCARD", ready) for ready in self._ready_keys)))

    async def lost(self) -> bool:
        """True when Redis must be rebuilt: it does not hold this broker's generation, or it is another server (or a
        new start of the same) than the one that was filled, and may have gone back to older data."""
        held, server = await self._link.run("lost", ("GET", self._generation_key), ("INFO", "server"))
        return not self._generation or held != self._generation.encode() or _run_id(server) != self._run_id

    async def rebuild(self, entries: AsyncIterator[Sequence[Entry]]) -> int:
        """Replace the ready sets with these, then set the generation. Returns how many.

        What is put meanwhile stays. Raises QueueDown also when Redis lost its data again before the end.
        """
        token = f"{self._broker_id}:{secrets.token_hex(8)}"
        begun = f"rebuilding:{token}"
        self._generation = ""
        server, *_ = await self._link.run(
            "rebuild", ("INFO", "server"), ("DEL", *self._ready_keys), ("SET", self._generation_key, begun), atomic=True
        )
        count = 0
        async for batch in entries:
            await self.put(batch)
            count += len(batch)
        if not await self._link.one("rebuild", _FINISH.call([self._generation_key], [begun, token])):
            raise QueueDown("Redis lost its data while it was being filled: it is filled again from the ledger.")
        self._generation, self._run_id = token, _run_id(server)
        return count

    # --- leases ---

    async def claim(self, claims: Sequence[Lease], ttl_s: float) -> None:
        """(job id, fence): out of the ready sets, lease written; one round trip. A lease of a higher fence stays."""
        for chunk in _chunks(claims):
            keys = [*self._ready_keys, *(self._lease(job_id) for job_id, _ in chunk)]
            words = [word for job_id, fence in chunk for word in (_member(job_id), fence)]
            await self._link.one("lease", _LEASE.call(keys, [max(1, round(ttl_s * 1000)), *words]))

    async def renew(self, leases: Sequence[Lease], ttl_s: float) -> None:
        """As `claim`: a lease that Redis lost is written again."""
        await self.claim(leases, ttl_s)

    async def release(self, leases: Sequence[Lease]) -> None:
        """Only where the lease still has this fence."""
        for chunk in _chunks(leases):
            keys = [self._lease(job_id) for job_id, _ in chunk]
            await self._link.one("release", _RELEASE.call(keys, [fence for _, fence in chunk]))

    # --- intake, for other programs ---

    async def intake(self, block_s: float = 2.0, count: int = 100) -> list[IntakeMessage]:
        """New messages of `training_queue`, own unacknowledged ones first (and at once: pause before asking again
        when one could not be taken). Messages that are no text are buried. One call at a time."""
        waiting = await self._unacknowledged(count)
        if waiting is None:
            waiting = await self._new(min(block_s, 2.0), count)
        taken: list[IntakeMessage] = []
        for message_id, flat in waiting:
            message = decode(message_id.decode(), flat)
            if isinstance(message, Misfit):
                await self._bury(message)
            else:
                taken.append(message)
        return taken

    async def ack(self, ids: Sequence[str]) -> None:
        """Acknowledge and delete: the ledger has them."""
        for chunk in _chunks(ids):
            await self._link.run("ack", ("XACK", STREAM, GROUP, *chunk), ("XDEL", STREAM, *chunk), atomic=True)

    async def bury(self, message: IntakeMessage, why: str) -> None:
        """To `training_queue:dead` with the reason, then acknowledge."""
        kept = [
            (name.encode(errors="replace"), value.encode(errors="replace")) for name, value in message.fields.items()
        ]
        await self._bury(Misfit(message.id, kept, why))

    # --- live, for other programs ---

    async def progress(self, task_id: str, fields: Mapping[str, str]) -> None:
        """Merge fields into `progress:<task_id>`, kept for a day."""
        if fields:
            key = f"progress:{task_id}"
            await self._write(key, [("HSET", key, *_flat(fields)), ("EXPIRE", key, LIVE_S)])

    async def tail(self, task_id: str, lines: Sequence[str]) -> None:
        """Append to `stream:<task_id>`, about the last 1,000 lines, kept for a day."""
        if lines:
            key = f"stream:{task_id}"
            bound = ("MAXLEN", "~", TAIL_LINES)
            added = [("XADD", key, *bound, "*", "line", line[:LINE_CHARACTERS]) for line in lines[-TAIL_LINES:]]
            await self._write(key, [*added, ("EXPIRE", key, LIVE_S)])

    async def results(self, entries: Sequence[Mapping[str, str]]) -> None:
        """Append to `results_queue`, about the last 100,000."""
        for chunk in _chunks(entries):
            bound = ("MAXLEN", "~", MOST_RESULTS)
            await self._write(RESULTS, [("XADD", RESULTS, *bound, "*", *_flat(entry)) for entry in chunk if entry])

    # --- inside ---

    @property
    def _ready_keys(self) -> list[str]:
        return list(self._ready.values())

    def _lease(self, job_id: int) -> str:
        return f"{self._prefix}lease:{job_id}"

    async def _unacknowledged(self, count: int) -> list[tuple[bytes, list[bytes]]] | None:
        """Messages that this broker read and did not acknowledge, and those of brokers that are gone; None: none.

        A living broker's messages are never idle: it reads them again each time it comes here.
        """
        idle_ms = round(DEAD_CONSUMER_S * 1000)
        *_, read = await self._intake.run(
            "intake",
            _OPEN_INTAKE.call([STREAM, LIST], [GROUP, count]),
            ("XAUTOCLAIM", STREAM, GROUP, self._consumer, idle_ms, "0-0", "COUNT", count, "JUSTID"),
            ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count, "STREAMS", STREAM, "0"),
        )
        messages = _messages(read)
        deleted = [message_id.decode() for message_id, flat in messages if flat is None]
        if deleted:  # somebody removed them from the stream: nothing is left to do
            await self.ack(deleted)
        return [(message_id, flat) for message_id, flat in messages if flat is not None] or None

    async def _new(self, block_s: float, count: int) -> list[tuple[bytes, list[bytes]]]:
        block_ms = max(1, round(block_s * 1000))
        group = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", count)
        try:
            (read,) = await self._intake.run(
                "intake", (*group, "BLOCK", block_ms, "STREAMS", STREAM, ">"), within_s=block_s + ANSWER_S
            )
        except Refused as error:
            if error.kind in {"NOGROUP", "UNBLOCKED"}:  # flushed while we waited: the next call makes it again
                return []
            raise
        return [(message_id, flat) for message_id, flat in _messages(read) if flat is not None]

    async def _bury(self, misfit: Misfit) -> None:
        _log.warning("message %s of %s is set aside: %s", misfit.id, STREAM, misfit.why)
        words = [word for pair in misfit.kept for word in pair]
        last: list[str] = ["error", misfit.why[:LINE_CHARACTERS], "original_id", misfit.id]
        await self._write(DEAD, [_BURY.call([STREAM, DEAD], [GROUP, misfit.id, MOST_DEAD, *words, *last])])

    async def _write(self, key: str, commands: Sequence[Command]) -> None:
        """Where an older program left another kind of value under this key, that is renamed and stays."""
        if not commands:
            return
        try:
            await self._link.run(f"write {key}", *commands)
        except Refused as error:
            if error.kind != "WRONGTYPE":
                raise
            aside = f"{key}:aside-{time.time_ns()}"
            _log.warning("%s held another kind of value: it is now called %s", key, aside)
            await self._link.run(f"write {key}", ("RENAMENX", key, aside), ("PERSIST", aside), *commands)


_ORDER = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


def _member(job_id: int) -> str:
    """Padded, so that equal ranks come in the order of their ids."""
    return f"{job_id:012d}"


def _flat(fields: Mapping[str, str]) -> Iterator[str]:
    for name, value in fields.items():
        yield name
        yield value


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _run_id(info: bytes) -> bytes:
    """Of `INFO server`: made anew at each start of a server."""
    found = re.search(rb"run_id:(\w+)", info)
    return found[1] if found else b""


def _messages(read: Reply) -> list[tuple[bytes, list[bytes] | None]]:
    """Of XREADGROUP's answer for one stream; None in place of the fields of one that was deleted."""
    return [(message_id, flat) for message_id, flat in read[0][1]] if read else []
