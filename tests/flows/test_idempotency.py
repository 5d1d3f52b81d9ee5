"""A thousand submissions at once, many with the same key: one job for each key, and nobody goes without an answer."""

import asyncio
import random
from collections import Counter

from tests.flows.daemon import Client

KEYS, TIMES = 100, 10


async def _post(broker: Client, key: str, name: str) -> tuple[int, int]:
    """Status and job."""
    body = {"spec": {"work": {"kind": "command", "argv": ["true"]}}, "name": name, "hold": True}
    answer = await broker.http.post("/jobs", json=body, headers={"Idempotency-Key": key})
    return answer.status_code, answer.json().get("id", 0)


async def test_a_thousand_at_once_make_one_job_for_each_key(broker: Client) -> None:
    before = {job.id for job in await broker.jobs()}
    keys = [f"thousand-{number}" for number in range(KEYS)] * TIMES
    random.Random(7).shuffle(keys)
    answers = await asyncio.gather(*(_post(broker, key, key) for key in keys))
    assert Counter(status for status, _ in answers) == {201: KEYS, 200: KEYS * (TIMES - 1)}
    made: dict[str, set[int]] = {}
    for key, (_, job_id) in zip(keys, answers, strict=True):
        made.setdefault(key, set()).add(job_id)
    assert all(len(ids) == 1 for ids in made.values())
    there = {job.id: job.name for job in await broker.jobs() if job.id not in before}
    assert {job_id: key for key, [job_id] in made.items()} == there


async def test_of_different_bodies_under_one_key_one_is_taken(broker: Client) -> None:
    before = {job.id for job in await broker.jobs()}
    answers = await asyncio.gather(*(_post(broker, "contested", f"body-{n % 5}") for n in range(50)))
    assert Counter(status for status, _ in answers) == {201: 1, 200: 9, 409: 40}
    assert len({job_id for status, job_id in answers if status != 409}) == 1
    assert len(await broker.jobs()) == len(before) + 1
