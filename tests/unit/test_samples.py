"""Every sample can be submitted as it stands, and the pages that explain configurations miss nothing."""

import re
from pathlib import Path

import pytest

from broker.preflight import check
from broker.protocol import document
from broker.protocol.job import CommandWork, JobSpec, Task, TrainWork
from broker.protocol.legacy import DEAD, read
from wyolo_tui.shapes import make

ROOT = Path(__file__).parent.parent.parent
SAMPLES = sorted((ROOT / "sample_configs").glob("*.yaml"))
TASKS: dict[str, Task] = {
    "demo": "detect",
    "detect": "detect",
    "minimal": "detect",
    "rtdetr": "detect",
    "segment": "segment",
    "classify": "classify",
    "pose": "pose",
    "obb": "obb",
}


def spec_of(path: Path) -> JobSpec:
    result = read(document.parse(path.read_text(encoding="utf-8")), {}, str(path.parent))
    assert result.findings == []
    assert result.spec is not None
    return result.spec


def test_there_is_a_sample_for_each_task_and_for_a_command() -> None:
    assert {path.stem for path in SAMPLES} == {*TASKS, "command"}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_accepted_without_a_warning(path: Path) -> None:
    work = spec_of(path).work
    if path.stem == "command":
        assert isinstance(work, CommandWork)
    else:
        assert isinstance(work, TrainWork)
        assert work.task == TASKS[path.stem]
        assert work.family == ("rtdetr" if path.stem == "rtdetr" else "yolo")


@pytest.mark.parametrize("name", [name for name in TASKS if name != "demo"])
def test_a_sample_fits_a_data_set_of_its_task(name: str, tmp_path: Path) -> None:
    work = spec_of(ROOT / "sample_configs" / f"{name}.yaml").work
    assert isinstance(work, TrainWork)
    data = make(tmp_path, TASKS[name], images=4, val=2, size=64)
    summary, findings = check(work.model_copy(update={"args": {**work.args, "data": str(data)}}), 10)
    assert [finding for finding in findings if finding.level == "error"] == []
    assert summary is not None


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_begins_by_saying_what_it_is_for(path: Path) -> None:
    assert re.match(r"# [A-Z].+[.:]", path.read_text(encoding="utf-8"))


def test_the_page_on_configurations_names_every_dead_key() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key in DEAD if f"`{key}`" not in page] == []


def test_the_examples_of_the_page_on_configurations_are_accepted() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        written = document.parse(example)
        if "command" not in written:
            needed = {"model": "yolov8n.pt", "train.data": "coco8.yaml"}
            written = document.assign(written, {key: value for key, value in needed.items() if not _has(example, key)})
        result = read(written, {"/datasets": "/mnt/data"}, "/here")
        assert result.spec is not None, (example, result.findings)


def _has(text: str, path: str) -> bool:
    """Whether the key itself stands there, not only the section that it would be in."""
    section = path.rpartition(".")[0]
    return document.position(text, path) not in {"", document.position(text, section) if section else ""}
