"""Programs that only know Redis: what they queue is taken once, whatever dies, and they hear of every end once."""

import json
import signal
from typing import Any

import pytest

from broker.protocol.job import Job
from broker.protocol.states import JobState
from tests.faults.oracle import ended_well
from tests.faults.scene import LONG_S, Scene, ended
from tests.flows.daemon import Client
from tests.waiting import until, until_awaited

pytestmark = pytest.mark.faults


async def jobs_are(client: Client, count: int) -> list[Job]:
    async def there() -> list[Job]:
        found = await client.jobs()
        return found if len(found) >= count else []

    return await until_awaited(there, LONG_S, f"{count} jobs")


def flat(fields: list[str]) -> dict[str, str]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


async def test_text_and_file_are_queued_and_what_cannot_be_read_is_buried_with_the_reason(scene: Scene) -> None:
    scene.daemon.start()
    file = scene.folder / "config.yaml"
    file.write_text("name: from a file\ncommand: /bin/true\n")
    async with scene.daemon.client() as client, scene.redis() as ask:
        text = "name: from text\ncommand: /bin/true\n"
        await ask("XADD", "training_queue", "*", "config", text, "user_code", "ana", "priority", "high")
        bad = await ask("XADD", "training_queue", "*", "config", "commnd: true")
        gone = await ask("XADD", "training_queue", "*", "config_path", "/nowhere/at.yaml")
        await ask("XADD", "training_queue", "*", "config_path", str(file), "trial_number", "4", "task_id", "t-4")
        jobs = {job.name: job for job in await jobs_are(client, 2)}
        assert (jobs["from text"].user, jobs["from text"].priority) == ("ana", "high")
        assert jobs["from a file"].task_id == "t-4"
        for job in jobs.values():
            assert (await ended(client, job.id)).state is JobState.COMPLETED

        async def buried() -> list[list[str]]:
            found = await ask("XRANGE", "training_queue:dead", "-", "+")
            return [fields for _, fields in found] if len(found) == 2 else []

        dead = {flat(fields)["original_id"]: flat(fields) for fields in await until_awaited(buried, LONG_S, "the dead")}
        assert "commnd" in dead[bad]["error"] and dead[bad]["config"] == "commnd: true"
        assert "/nowhere/at.yaml cannot be read" in dead[gone]["error"]
        await _all_taken(ask)


async def _all_taken(ask: Any) -> None:
    async def none_left() -> bool:
        return await ask("XLEN", "training_queue") == 0

    await until_awaited(none_left, LONG_S, "an empty training_queue")


async def test_what_a_dying_broker_had_in_the_ledger_is_not_queued_twice(scene: Scene) -> None:
    """It dies between the commit and the acknowledgement."""
    scene.daemon.start(env={"WYOLO_CRASH_AT": "after-submit-commit"})
    config = "name: once\ncommand: " + " ".join(scene.lines("once", 3))
    async with scene.redis() as ask:
        await ask("XADD", "training_queue", "*", "config", config)
        await until(lambda: not scene.daemon.alive, LONG_S, "its death")
        assert scene.daemon.ended() == -signal.SIGKILL
        assert await ask("XLEN", "training_queue") == 1
        scene.daemon.start()
        async with scene.daemon.client() as client:
            await _all_taken(ask)
            [job] = await client.jobs()
            await ended(client, job.id)
            await ended_well(client, scene.diaries, [job.id])


async def test_each_end_is_told_once(scene: Scene) -> None:
    scene.daemon.start()
    async with scene.daemon.client() as client, scene.redis() as ask:
        jobs = [await client.submit("sh", "-c", f"exit {code}", task_id=f"end-{code}") for code in (0, 1, 2)]
        held = await client.submit("true", hold=True)
        await client.verb(held.id, "stop")
        again = await client.submit("true")
        for job in (*jobs, again):
            await ended(client, job.id)

        async def told() -> list[dict[str, str]]:
            found = [flat(fields) for _, fields in await ask("XRANGE", "results_queue", "-", "+")]
            return found if len(found) >= 5 else []

        results = await until_awaited(told, LONG_S, "five results")
        assert sorted(int(result["job_id"]) for result in results) == [job.id for job in (*jobs, held, again)]
        by_task = {result["task_id"]: result for result in results if "task_id" in result}
        assert {name: result["state"] for name, result in by_task.items()} == {
            "end-0": "completed", "end-1": "failed", "end-2": "failed",
        }  # fmt: skip
        assert by_task["end-2"]["reason"] == "exit_code" and "exit code 2" in by_task["end-2"]["message"]


async def test_progress_has_the_documented_fields(scene: Scene) -> None:
    scene.daemon.start(env=scene.trainer(gates=[3]))
    config = "model: yolov8n.yaml\ntrain:\n  data: coco8.yaml\n  epochs: 4\n"
    async with scene.daemon.client() as client, scene.redis() as ask:
        fields = ("config", config, "task_id", "study-7", "trial_number", "7")
        await ask("XADD", "training_queue", "*", *fields)
        [job] = await jobs_are(client, 1)
        await scene.noted(job.id, "epoch", 2)

        async def there() -> dict[str, str]:
            found = flat(await ask("HGETALL", "progress:study-7"))
            return found if found.get("EPOCH") == "3" else {}

        seen = await until_awaited(there, LONG_S, "the third epoch")
        assert (seen["task_id"], seen["TRIAL_NUMBER"], seen["TOTAL_EPOCHS"]) == ("study-7", "7", "4")
        assert float(seen["elapsed_time"]) >= 0 and float(seen["result_time"]) >= 0
        assert 0 <= float(seen["EPOCH_PROGRESS"]) <= 1
        assert json.loads(seen["metrics"]) == {"loss": 0.5}
        assert 0 < await ask("TTL", "progress:study-7") <= 24 * 3600

        async def said() -> bool:
            tail = await ask("XRANGE", "stream:study-7", "-", "+")
            return [line for _, [_, line] in tail if line.startswith("epoch")] == ["epoch 1", "epoch 2"]

        await until_awaited(said, LONG_S, "both epochs in its tail")  # written right after its progress
        scene.go(job.id, "go", 3)
        await ended(client, job.id)
        await ended_well(client, scene.diaries, [job.id])
