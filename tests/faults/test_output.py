"""What a job prints harms nobody: control sequences, endless lines, broken events, floods."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psutil
import pytest

from broker.protocol.states import JobState
from tests.faults.oracle import sound
from tests.faults.scene import Scene, ended, train
from tests.flows.daemon import Client

pytestmark = pytest.mark.faults

GROWTH_MIB = 80  # that reading it may cost the broker, buffers and all


@asynccontextmanager
async def memory_watched(pid: int) -> AsyncGenerator[None]:
    """The broker's resident memory does not grow by more than GROWTH_MIB inside."""
    process = psutil.Process(pid)
    before = peak = process.memory_info().rss
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            try:
                await asyncio.wait_for(done.wait(), 0.02)
            except TimeoutError:
                continue

    watching = asyncio.create_task(watch())
    yield
    done.set()
    await watching
    assert (peak - before) >> 20 < GROWTH_MIB


async def test_a_flood_is_bounded_in_memory_and_on_disk_and_the_job_ends_as_it_ended(scene: Scene) -> None:
    scene.daemon.start(env={"WYOLO_LOG_KEEP_MIB": "8"})
    async with scene.daemon.client() as client, memory_watched(scene.daemon.pid):
        flood = await client.shell("timeout 2 yes; echo; echo the end; exit 5", name="flood")
        other = await client.submit(*scene.lines("beside", 50), name="beside")
        assert (await ended(client, other.id)).state is JobState.COMPLETED  # nobody waits for it
        await sound(client, scene.diaries, other.id)
        done = await ended(client, flood.id)
        assert (done.state, done.reason) == (JobState.FAILED, "exit_code")
        assert "exit code 5" in done.message
        notes = [event.message for event in await client.events(flood.id) if event.verb == "note"]
        assert len([note for note in notes if "the log has reached 8 MiB" in note]) == 1
        assert (await client.lines(flood.id, tail=1)) != []


async def test_a_line_of_ten_megabytes_is_cut_and_the_next_is_read(scene: Scene) -> None:
    scene.daemon.start()
    async with scene.daemon.client() as client, memory_watched(scene.daemon.pid):
        job = await client.shell("echo before; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo after")
        assert (await ended(client, job.id)).state is JobState.COMPLETED
        chunks = [await client.logs(job.id)]
        while not chunks[-1].eof:
            chunks.append(await client.logs(job.id, offset=chunks[-1].next_offset))
        lines = [line.text for chunk in chunks for line in chunk.lines]
        assert (lines[0], lines[-1]) == ("before", "after")
        assert max(map(len, lines)) <= 4_200
        assert len(json.dumps([chunk.model_dump(mode="json") for chunk in chunks])) < 100_000


BAD_EVENTS = [
    b"\x1enot json\n",
    b'\x1e{"event": "epoch"}\n',
    b'\x1e{"n": 2, "event": "nobody knows"}\n',
    b"\x1e" + b"[" * 50_000 + b"\n",
    b'\x1e{"n": 3, "event": "note", "text": "' + b"x" * 200_000 + b'"}\n',
]
CONTROL = b"\x1b]52;c;Y2xpcA==\x07copied \x1b[31mred\x1b[0m \xc2\x9b2J \xe2\x80\xaegnp.exe\n"


async def test_broken_events_are_shown_harmless_counted_and_change_no_verdict(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(bytes=(b"".join(BAD_EVENTS) + CONTROL).hex()))
    async with scene.daemon.client() as client, memory_watched(scene.daemon.pid):
        job = await train(client, epochs=3)
        done = await ended(client, job.id)
        assert (done.state, done.epoch) == (JobState.COMPLETED, 3)
        await sound(client, scene.diaries, job.id)
        notes = [event.message for event in await client.events(job.id) if event.verb == "note"]
        assert notes == [f"{len(BAD_EVENTS)} events could not be read, 0 are missing"]
        assert any("copied" in line for line in await client.lines(job.id))
        await _nothing_controls_a_terminal(client, job.id)


async def _nothing_controls_a_terminal(client: Client, job_id: int) -> None:
    for line in await client.lines(job_id):
        assert not any((ord(c) < 32 and c != "\t") or 127 <= ord(c) < 160 or c == "\u202e" for c in line), repr(line)


async def test_a_log_that_is_no_text_is_shown_all_the_same(scene: Scene) -> None:
    scene.daemon.start()
    async with scene.daemon.client() as client:
        job = await client.shell("head -c 300000 /dev/urandom; echo; echo after")
        assert (await ended(client, job.id)).state is JobState.COMPLETED
        assert (await client.lines(job.id, tail=1)) == ["after"]
        await _nothing_controls_a_terminal(client, job.id)
