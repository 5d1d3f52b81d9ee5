"""Data sets, weights, limits and GPUs, as a trainer finds them. Nothing here needs torch."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.protocol.job import Task
from broker.protocol.states import EndReason
from trainer import dataset, environment, limits, weights
from trainer.dataset import Dataset
from trainer.failures import TrainingError
from trainer.gpu import visible
from wyolo_tui import shapes


def prepared(path: object, directory: Path, task: Task = "detect") -> Dataset:
    return dataset.prepare(path, task, directory, directory / "datasets", offline=True)


def refused(path: object, directory: Path, task: Task = "detect") -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        prepared(path, directory, task)
    return caught.value


def test_a_new_data_yaml_has_known_keys_and_absolute_paths_only(tmp_path: Path) -> None:
    original = shapes.make(tmp_path / "shapes", "pose", images=2, val=1, size=32)
    original.write_text(
        f"{original.read_text()}download: |\n  import os\nroboflow: {{workspace: me}}\n", encoding="utf-8"
    )
    clean = Path(prepared(str(original), tmp_path, "pose").path)
    written = yaml.safe_load(clean.read_text(encoding="utf-8"))
    assert written.keys() == {"path", "train", "val", "names", "kpt_shape", "flip_idx"}
    assert written["train"] == [str(original.parent / "images" / "train")]
    assert written["kpt_shape"] == [3, 3]
    assert list(written["names"].values()) == ["disc", "square", "triangle"]


def test_images_are_counted_in_folders_and_in_lists(tmp_path: Path) -> None:
    original = shapes.make(tmp_path / "shapes", "detect", images=3, val=2, size=32)
    names = [f"./images/val/{path.name}" for path in (original.parent / "images" / "val").iterdir()]
    (original.parent / "val.txt").write_text("\n".join(names) + "\n\n", encoding="utf-8")
    original.write_text(original.read_text().replace("val: images/val", "val: val.txt"), encoding="utf-8")
    data = prepared(str(original), tmp_path)
    assert (data.count("train"), data.count("val"), data.count("test")) == (3, 2, 0)


def test_a_folder_with_a_data_yaml_will_do(tmp_path: Path) -> None:
    original = shapes.make(tmp_path / "shapes", "detect", images=1, val=1, size=32)
    assert prepared(str(original.parent), tmp_path).count("train") == 1


def test_paths_are_found_as_ultralytics_finds_them(tmp_path: Path) -> None:
    """`path` beside the data.yaml or among the data sets, `../train` from an export of a labelling tool."""
    for folder in ("sets/fruit/images", "export/train", "export/valid"):
        (tmp_path / folder).mkdir(parents=True)
    described = tmp_path / "fruit.yaml"
    described.write_text("path: fruit\ntrain: images\nval: images\nnames: [a]\n", encoding="utf-8")
    found = dataset.prepare(str(described), "detect", tmp_path, tmp_path / "sets", offline=True)
    assert found.splits["train"] == (tmp_path / "sets" / "fruit" / "images",)
    exported = tmp_path / "export" / "data.yaml"
    exported.write_text("train: ../train\nval: ../valid\nnames: [a]\n", encoding="utf-8")
    assert prepared(str(exported), tmp_path).splits["train"] == (tmp_path / "export" / "train",)


def test_a_cache_that_a_killed_trainer_left_half_written_goes(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [f"{'0' * 32}.cache", f"{'1' * 32}.{ended.pid}", f"{'2' * 32}.{os.getpid()}", f"mine.{ended.pid}"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    dataset.drop_partial_caches(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[0], *names[2:]])


def test_classes_are_folders(tmp_path: Path) -> None:
    folder = shapes.make(tmp_path / "shapes", "classify", images=3, val=3, size=32)
    data = prepared(str(folder), tmp_path, "classify")
    assert Path(data.path) == folder
    assert (data.count("train"), data.count("val")) == (3, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: nowhere\nval: nowhere\nnames: [a]\n", "nowhere, which does not exist"),
        ("val: .\nnames: [a]\n", "'train:' is missing"),
        ("train: .\nnames: [a]\n", "'val:' is missing"),
        ("- a\n- b\n", "the file is a list"),
        ("train: &a [*a]\n", "alias"),
        ("train: [\n", "line"),
    ],
)
def test_what_is_wrong_with_a_data_yaml_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    error = refused(str(path), tmp_path)
    assert error.reason is EndReason.BAD_DATA
    assert said in error.what


@pytest.mark.parametrize("line", ["", "test: nowhere\n"])
def test_test_images_need_not_be_there_unless_the_last_validation_is_on_them(tmp_path: Path, line: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(f"train: .\nval: .\nnames: [a]\n{line}", encoding="utf-8")
    assert prepared(str(path), tmp_path).count("val") == 0
    with pytest.raises(TrainingError, match="'test:'") as caught:
        dataset.prepare(str(path), "detect", tmp_path, tmp_path, offline=True, measured="test")
    assert caught.value.reason is EndReason.BAD_DATA


@pytest.mark.parametrize("data", ["/nowhere/data.yaml", "https://127.0.0.1/x.zip", "coco8.yaml", "unheard-of.yaml"])
def test_what_is_not_here_is_not_fetched(tmp_path: Path, data: str) -> None:
    assert refused(data, tmp_path).reason is EndReason.BAD_DATA


@pytest.mark.parametrize("data", [["a.yaml", "b.yaml"], None, ""])
def test_one_data_set_is_trained_on(tmp_path: Path, data: object) -> None:
    assert refused(data, tmp_path).reason is EndReason.BAD_CONFIG


def test_weights_are_found_by_name_before_anything_is_downloaded(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (second / "yolov8n.pt").write_bytes(b"")
    found = weights.find("yolov8n", [first, second])
    assert (found.path, found.missing) == (str(second / "yolov8n.pt"), None)
    assert weights.find("yolov8s.pt", [first, second]).missing == "yolov8s.pt"
    assert weights.find("yolo11n.yaml", [first]).path == "yolo11n.yaml"


@pytest.mark.parametrize(
    ("model", "reason", "hint"),
    [
        ("mine.pt", EndReason.WEIGHTS_MISSING, "yolov8n.pt"),
        ("yolov8m-sge.pt", EndReason.WEIGHTS_MISSING, "yolov8m-seg.pt"),
        ("yolov8n.onnx", EndReason.BAD_CONFIG, "stock model"),
        ("http://127.0.0.1/yolov8n.pt", EndReason.BAD_CONFIG, "path"),
    ],
)
def test_a_model_that_cannot_be_used_is_answered_with_one_that_can(
    tmp_path: Path, model: str, reason: EndReason, hint: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        weights.find(model, [tmp_path])
    assert caught.value.reason is reason
    assert hint in caught.value.remedy


@pytest.mark.parametrize("activation", ["nn.SiLU()", "torch.nn.ReLU(inplace=True)", "nn.LeakyReLU(0.1)"])
def test_layers_are_activations(activation: str) -> None:
    weights.check_activation({"activation": activation}, "mine.yaml")


@pytest.mark.parametrize(
    "activation", ["open('x', 'w')", "nn.SiLU() or exit()", "nn.SiLU(__import__('os').system('id'))", "nn.ReLU(exit())"]
)
def test_programs_are_not(activation: str) -> None:
    with pytest.raises(TrainingError, match="activation"):
        weights.check_activation({"activation": activation}, "mine.yaml")


def test_settings_are_private_and_report_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(os, "environ", before)
    environment.prepare(tmp_path, environment.folders(str(tmp_path / "weights")), online=False)
    assert (before["YOLO_OFFLINE"], before["YOLO_AUTOINSTALL"], before["ULTRALYTICS_SAFE_LOAD"]) == ("1", "0", "1")
    folder = Path(before["YOLO_CONFIG_DIR"]) / "Ultralytics"
    settings = json.loads((folder / "settings.json").read_bytes())
    assert settings["sync"] is False
    assert settings["weights_dir"] == str(tmp_path / "weights")
    assert (folder / "Arial.ttf").is_file()


def cgroup(tmp_path: Path, **files: str) -> tuple[Path, Path]:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/jobs/one\n", encoding="ascii")
    for name, text in files.items():
        path = tmp_path / "fs" / "/".join(name.split("__")[:-1]) / name.split("__")[-1].replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return tmp_path / "fs", membership


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root, membership = cgroup(
        tmp_path,
        jobs__cpu_max="150000 100000",
        jobs__one__cpu_max="max 100000",
        jobs__memory_max="1000000",
        jobs__memory_current="400000",
        jobs__one__memory_max="max",
    )
    assert limits.cpus(root, membership) == min(2, len(os.sched_getaffinity(0)))
    assert limits.memory(root, membership) == 600_000


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert limits.memory(tmp_path, tmp_path / "none") is None
    assert limits.cpus(tmp_path, tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        (None, {0, 1, 2}),
        ("", set[int]()),
        ("1", {1}),
        ("2,0", {0, 2}),
        ("GPU-b", {1}),
        ("1,9,0", {1}),
        ("-1", set[int]()),
    ],
)
def test_only_visible_gpus_are_sampled(setting: str | None, chosen: set[int]) -> None:
    assert visible([(0, "GPU-a"), (1, "GPU-b"), (2, "GPU-c")], setting) == chosen
