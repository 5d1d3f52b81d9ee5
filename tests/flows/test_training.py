"""A real training through the real broker: stopped, resumed at exactly the next epoch, extended past its end."""

from pathlib import Path
from typing import Any

import pytest

from broker.protocol.api import MetricTable
from broker.protocol.states import EndReason, JobState
from tests.flows.daemon import Client
from tests.waiting import until_awaited
from wyolo_tui import shapes

pytestmark = [pytest.mark.train, pytest.mark.timeout(400)]
SLOW_S = 180.0  # a machine that is busy with other tests


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.make(tmp_path_factory.mktemp("shapes"), "detect", images=16, val=4, size=64)


def config(data: Path, epochs: int) -> str:
    train = f"{{data: {data}, epochs: {epochs}, imgsz: 64, batch: 4, workers: 0, plots: false, amp: false}}"
    return f"name: flow\nmodel: yolov8n.yaml\nresources: {{gpus: 0}}\ntrain: {train}\n"


async def submitted(broker: Client, text: str, **more: Any) -> int:
    answer = await broker.http.post("/jobs", json={"config": text, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def metrics(broker: Client, job_id: int) -> MetricTable:
    return MetricTable.model_validate_json((await broker.http.get(f"/jobs/{job_id}/metrics")).content)


async def test_stop_and_resume_give_every_epoch_once_and_the_end_can_be_moved(broker: Client, data: Path) -> None:
    job_id = await submitted(broker, config(data, epochs=5))

    async def two_epochs() -> bool:
        return (await broker.job(job_id)).epoch >= 2

    await until_awaited(two_epochs, SLOW_S, "two epochs")
    await broker.verb(job_id, "stop")
    stopped = await broker.reaches(job_id, timeout=60)
    assert (stopped.state, stopped.reason) == (JobState.STOPPED, EndReason.USER_STOP)
    assert f"epoch {stopped.epoch} is kept" in stopped.message
    before = await metrics(broker, job_id)

    await broker.verb(job_id, "resume")
    done = await broker.reaches(job_id, timeout=SLOW_S)
    assert (done.state, done.epoch, done.fence) == (JobState.COMPLETED, 5, 2), done.message
    after = await metrics(broker, job_id)
    assert after.epochs == [1, 2, 3, 4, 5]
    assert after.attempts == [1] * stopped.epoch + [2] * (5 - stopped.epoch)
    losses = after.columns["train/box_loss"]
    assert losses[: stopped.epoch] == before.columns["train/box_loss"], "what was measured before the stop stays"
    assert None not in losses

    await broker.verb(job_id, "resume", epochs=6)
    further = await broker.reaches(job_id, timeout=SLOW_S)
    assert (further.state, further.epoch) == (JobState.COMPLETED, 6), further.message
    assert (await metrics(broker, job_id)).epochs == [1, 2, 3, 4, 5, 6]


async def test_bad_input_is_refused_with_where_and_what_and_nothing_is_queued(broker: Client, data: Path) -> None:
    before = len(await broker.jobs())
    (broken := data.parent / "labels" / "train").mkdir(exist_ok=True)
    label = min(broken.glob("*.txt"))
    kept = label.read_text()
    label.write_text("77 0.5 0.5 0.2 0.2\n")
    try:
        cases = {
            config(data, 3): (f"{label.name}:1", "77"),
            config(data, 3).replace("epochs", "epoch"): ("train.epoch", "epochs"),
            config(data, 3).replace("epochs: 3", "epochs: ten"): ("train.epochs", "whole number"),
            config(data / "nowhere.yaml", 3): ("train.data", "nowhere.yaml"),
            "model: [yolov8n.pt\ntrain: {": ("line", "column"),
        }
        for text, (where, what) in cases.items():
            answer = await broker.http.post("/jobs", json={"config": text})
            assert answer.status_code in {400, 422}, answer.text
            assert where in answer.text, answer.text
            assert what in answer.text, answer.text
    finally:
        label.write_text(kept)
    assert len(await broker.jobs()) == before
