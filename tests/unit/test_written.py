"""A spec written out as a configuration reads as itself: what cloning, editing and running again are made of."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import legacy
from broker.protocol.document import parse
from broker.protocol.job import CommandWork, GpuRequest, JobSpec, Resources, TrainWork
from broker.protocol.states import Priority
from broker.protocol.written import document_of, text_of

TRAIN = TrainWork(model="yolov8n.yaml", task="detect", args={"data": "coco8.yaml", "epochs": 3})
COMMAND = CommandWork(argv=["/bin/true"])
SPECS = [
    JobSpec(work=TRAIN, name="fruit", user="ana", task_id="t", priority=Priority.HIGH, metadata={"author": "ana"}),
    JobSpec(
        work=TrainWork(model="rtdetr-l.pt", family="rtdetr", task="detect", args={"data": "/d/data.yaml"}), name="r"
    ),
    JobSpec(work=TRAIN.model_copy(update={"val": {"conf": 0.1}, "sweep": {"n_trials": 3}}), name="x"),
    JobSpec(work=COMMAND, name="c", resources=Resources(cpus=2.5, memory_mib=512, node="big")),
    JobSpec(work=CommandWork(argv=["python", "-c", "print('a b')"], cwd="/tmp", env={"A": "1"}), name="c"),
    JobSpec(work=TRAIN, name="g", resources=Resources(gpu=GpuRequest(count=0))),
    JobSpec(work=COMMAND, name="g", resources=Resources(gpu=GpuRequest(count=2))),
    JobSpec(work=COMMAND, name="g", resources=Resources(gpu=GpuRequest(count=2, ids=[0, 3]))),
    JobSpec(work=COMMAND, name="g", resources=Resources(gpu=GpuRequest(count=2, ids=[1]))),
    JobSpec(work=TRAIN, name="g", resources=Resources(gpu=GpuRequest(memory_fraction=0.5, required=True))),
    JobSpec(work=COMMAND, name="g", resources=Resources(gpu=GpuRequest(memory_fraction=0.5))),
    JobSpec(work=TRAIN, name="i", resources=Resources(image="ghcr.io/us/trainer:2", network="bridge")),
    JobSpec(work=COMMAND, name="i", resources=Resources(image="busybox", gpu=GpuRequest(count=0))),
    JobSpec(work=COMMAND, name="l", resources=Resources(labels={"zone": "lab", "rack": "7"})),
]


@pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))
def test_a_spec_written_out_reads_as_itself(spec: JobSpec) -> None:
    assert legacy.read(document_of(spec), {}).spec == spec
    assert legacy.read(parse(text_of(spec)), {}).spec == spec


def test_what_is_left_at_its_default_is_not_written() -> None:
    text = text_of(JobSpec(work=TRAIN, name="x"), "name", "priority")
    assert text == "model: yolov8n.yaml\ntype: yolo\ntask: detect\ntrain:\n  data: coco8.yaml\n  epochs: 3\n"


def test_a_script_in_a_command_keeps_its_lines() -> None:
    spec = JobSpec(work=CommandWork(argv=["bash", "-c", "cd /tmp\nls\n"]), name="x")
    assert text_of(spec, "name", "priority") == "argv:\n- bash\n- -c\n- |\n  cd /tmp\n  ls\n"


# No NUL, which nothing that is started could be given, and no half of a surrogate pair, which is no Unicode.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["1e-5", "007", "0o17", "yes", "Null", "12:30", "2025-01-31", "1_000", ".5", "-1", "a: b", "# a", "&a", "*a", "- a"]
)
WORD = TEXT.map(str.strip).filter(bool)
NAME = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
PATH = NAME.map(lambda name: f"/data/{name}")
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def gpus(draw: st.DrawFn, most: int) -> GpuRequest:
    count = draw(st.integers(0, most))
    ids = draw(st.lists(st.integers(0, 99), unique=True, max_size=count))
    part = st.none() | st.floats(0.001, 1)
    more: dict[str, Any] = {"memory_fraction": draw(part), "required": draw(st.booleans())} if count else {}
    return GpuRequest(count=count, ids=sorted(ids), **more)


def needs(most: int) -> st.SearchStrategy[Resources]:
    return st.builds(
        Resources,
        cpus=st.floats(0.01, 1024),
        memory_mib=st.integers(0, 10**7),
        gpu=st.none() | gpus(most),
        node=st.none() | WORD,
        labels=st.dictionaries(WORD, WORD, max_size=3),
        image=st.none() | st.just("ghcr.io/us/trainer:2"),
        network=st.none() | st.just("bridge"),
    )


COMMANDS = st.builds(
    CommandWork,
    argv=st.tuples(WORD, st.lists(TEXT, max_size=3)).map(lambda line: [line[0], *line[1]]),
    cwd=st.none() | PATH,
    env=st.dictionaries(WORD, TEXT, max_size=3),
)
ARGUMENTS = st.fixed_dictionaries(
    {"data": PATH.map(lambda path: f"{path}.yaml")},
    optional={
        "epochs": st.integers(1, 1000),
        "imgsz": st.sampled_from([640, [640, 480]]),
        "batch": st.sampled_from([-1, 16, 0.7]),
        "lr0": st.floats(1e-9, 1),
        "cos_lr": st.booleans(),
        "optimizer": st.sampled_from(["SGD", "AdamW", "auto"]),
        "classes": st.lists(st.integers(0, 9), max_size=3),
        "time": st.none() | st.floats(0.1, 9),
        "pretrained": st.booleans() | PATH,
    },
)
TRAININGS = st.builds(
    TrainWork,
    model=st.sampled_from(["yolov8n.pt", "yolo11s.yaml", "/m/own.pt"]),
    task=st.just("detect"),
    args=ARGUMENTS,
    val=st.fixed_dictionaries({}, optional={"conf": st.floats(0, 1), "split": st.sampled_from(["val", "test"])}),
    sweep=st.none() | st.fixed_dictionaries({"n_trials": st.integers(1, 9), "space": ANYTHING}),
)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "name": WORD,
    "user": NAME,
    "task_id": st.none() | WORD,
    "priority": st.sampled_from(Priority),
    "metadata": st.dictionaries(TEXT, ANYTHING, max_size=3),
}


@settings(max_examples=150, deadline=None)
@given(
    st.builds(JobSpec, work=COMMANDS, resources=needs(4), **COMMON)
    | st.builds(JobSpec, work=TRAININGS, resources=needs(1), **COMMON)
)
def test_whatever_a_job_is_its_yaml_reads_as_the_same_job(spec: JobSpec) -> None:
    read = legacy.read(parse(text_of(spec)), {})
    assert read.spec == spec, read.findings
