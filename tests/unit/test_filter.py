"""The filter line: what each term means, and what is said of one that means nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.filter import FilterError, metric_key, parse
from broker.protocol.job import Job
from broker.protocol.states import EndReason, JobState, Priority

JOB = Job(
    id=7,
    name="Red fruit",
    kind="train",
    state=JobState.FAILED,
    reason=EndReason.OOM_CUDA,
    priority=Priority.HIGH,
    user="ana",
    task_id="T-1",
    model="yolov8n.pt",
    task="detect",
    data="/datasets/coco8/data.yaml",
    node="gpu-box",
    epoch=10,
    epochs=100,
    fitness=0.5,
    best_fitness=0.75,
    submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
)
METRICS = {"metrics/mAP50(B)": 0.61, "metrics/mAP50-95(B)": 0.4, "val/box_loss": 1.25}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "fruit",
        "RED FRU",
        "yolov8",
        "yolov8n.pt",
        "coco8 ana",
        "t-1",
        '"red fruit"',
        "state:failed",
        "state:completed,failed",
        "state:ended",
        "-state:active",
        "@gpu-box",
        "node:gpu-box,other",
        "-@other",
        "user:an",
        'user:"ana"',
        "name:fru",
        "model:yolov8n.pt",
        "data:coco8",
        "task:detect",
        "kind:train",
        "priority:high",
        "reason:oom_cuda",
        "id:7",
        "id:1,7",
        "id>6",
        "task_id:T-1",
        "epoch>=10",
        "epoch:10",
        "epochs=100",
        "fitness<0.6",
        "best>=75%",
        "map50>0.6",
        "mAP50>60%",
        "map50_95<=0.4",
        "metrics/mAP50(B)>0.6",
        "val/box_loss=1.25",
        "-map50>0.7",
        "-nothing>0",
        "!apple",
        "![[#]",
        "!^fruit",
        '!"red apple"',
        "-!fruit",
        "state:failed @gpu-box user:ana map50>0.6 !apple fruit",
    ],
)
def test_the_job_is_found(text: str):
    assert parse(text).matches(JOB, METRICS)


@pytest.mark.parametrize(
    "text",
    [
        "apple",
        "ruit",
        "fruit apple",
        '"red frui"',
        '"fruit red"',
        "-fruit",
        "state:running",
        "state:waiting",
        "@gpu",
        "user:na",
        'user:"an"',
        "name:ana",
        "task_id:t-1",
        "id:8",
        "epoch>10",
        "best<0.75",
        "map50>0.61",
        "nothing>0",
        "!FRUIT",
        "!red.fruit",
        "priority:low,normal",
    ],
)
def test_the_job_is_not_found(text: str):
    assert not parse(text).matches(JOB, METRICS)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("stat:failed", 0, "state"),
        ("fruit usr:ana", 6, "user"),
        ("http://x", 0, "quote it"),
        ("state:complete", 6, "completed"),
        ("state:running,faild", 14, "failed"),
        ("kind:job", 5, "command, train"),
        ("epoch>ten", 6, "a number, not 'ten'"),
        ("map50>", 6, "a number"),
        ("user>3", 0, "user:3"),
        ("state:", 6, "needs a value"),
        ("id:x", 3, "not a job's number"),
        ("fruit @", 7, "node's name"),
        ("!", 1, "pattern is missing"),
        ("!(", 1, "not a pattern"),
        ("!(a+)+b", 1, "too long"),
        ("!a*b*c*d*e", 1, "too long"),
        (f"!{'a?' * 23}X", 1, "too long"),
        (f"!{'a{0,9}' * 5}X", 1, "too long"),
        (f"!{'(a|a)' * 20}X", 1, "too long"),
        ("!(a{1,}){2}b", 1, "too long"),
        ("!(?x)(a+) +b", 1, "too long"),
        ("***", 0, "no word"),
        ('"red', 0, "not closed"),
        ("-", 0, "no word"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_remedy(text: str, position: int, says: str):
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.position == position
    assert says in str(caught.value)


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_filter_or_a_named_mistake(text: str):
    try:
        found = parse(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
    else:
        assert isinstance(found.matches(JOB), bool)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("metrics/mAP50(B)", "map50"),
        ("metrics/mAP50-95(B)", "map50_95"),
        ("metrics/mAP50(M)", "map50_m"),
        ("metrics/accuracy_top1", "accuracy_top1"),
        ("val/box_loss", "val_box_loss"),
        ("lr/pg0", "lr_pg0"),
    ],
)
def test_metrics_have_the_names_that_people_use(name: str, key: str):
    assert metric_key(name) == key


def test_a_metric_needs_the_broker_and_says_so():
    found = parse("map50>0.5 user:ana -lr/pg0<1")
    assert found.metric_keys == {"map50", "lr_pg0"}
    assert not found.matches(JOB)


def test_a_job_without_a_value_is_neither_above_nor_below():
    empty: dict[str, Any] = {"fitness": None, "node": None}
    job = JOB.model_copy(update=empty)
    assert not parse("fitness>0").matches(job)
    assert not parse("fitness<=0").matches(job)
    assert not parse("@gpu-box").matches(job)
