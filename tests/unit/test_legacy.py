"""What people write becomes a job: files of older wyolo unchanged, mistakes named with the nearest right thing."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import document
from broker.protocol.api import Finding
from broker.protocol.job import CommandWork, GpuRequest, JobSpec, TrainWork
from broker.protocol.legacy import paths_of, read
from broker.protocol.sources import STOCK_DATA
from broker.protocol.states import Priority
from broker.protocol.ultralytics_keys import KEYS

FOLDER = Path(__file__).parent / "legacy"
PATH_MAP = {"/datasets": "/mnt/data"}
COLOURBALL = "clasification/colorball.v8i.multiclass"
SWEEP = ("sweeper", "kept, not run yet")
DEAD_OF_WORKERS = [
    ("mlflow", "tracking is the operator's setting"),
    ("minio", "storage is the operator's setting"),
    ("redis", "the broker has its own queue"),
    ("dvc", "storage is the operator's setting"),
    ("default", "retries and timeouts"),
    ("tempfile", "own directory"),
    ("hydra", "own directory"),
    ("train.exist_ok", "own directory"),
    SWEEP,
]


def file_of(name: str) -> tuple[JobSpec, list[Finding], dict[str, Any]]:
    written = document.parse((FOLDER / name).read_text(encoding="utf-8"))
    result = read(written, PATH_MAP, "/submitted")
    assert result.spec is not None, result.findings
    return result.spec, result.findings, written


def of(text: str, base_dir: str | None = "/here") -> JobSpec:
    result = read(document.parse(text), PATH_MAP, base_dir)
    assert result.spec is not None, result.findings
    return result.spec


def findings_of(text: str, base_dir: str | None = "/here") -> list[Finding]:
    return read(document.parse(text), PATH_MAP, base_dir).findings


def training(lines: str = "", model: str = "yolov8n.pt") -> str:
    return f"model: {model}\ntrain:\n  data: coco8.yaml\n{lines}"


def the_error(text: str, base_dir: str | None = "/here") -> Finding:
    result = read(document.parse(text), PATH_MAP, base_dir)
    assert result.spec is None
    errors = [finding for finding in result.findings if finding.level == "error"]
    assert len(errors) == 1, errors
    return errors[0]


def assert_warnings(findings: list[Finding], expected: list[tuple[str, str]]) -> None:
    assert all(finding.level == "warning" for finding in findings)
    assert sorted(finding.where for finding in findings) == sorted(where for where, _ in expected)
    for where, words in expected:
        assert words in next(finding.message for finding in findings if finding.where == where)


def test_every_older_file_is_among_these_tests() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        "cs_classification.yaml",
        "production_config_train.basic.yaml",
        "production_test_to_send_invoker.yaml",
        "worker_head_base_config.yaml",
        "worker_seed_config.yaml",
        "wyolo_lib_template.yaml",
    }


def test_cs_classification_is_accepted_unchanged() -> None:
    spec, findings, written = file_of("cs_classification.yaml")
    assert spec == JobSpec(
        work=TrainWork(
            model="yolov8n-cls.pt",
            task="classify",
            args={"batch": -1, "data": f"/mnt/data/{COLOURBALL}", "epochs": 2, "imgsz": 640},
            sweep=written["sweeper"],
        ),
        name="color_ball_v2",
        resources={"gpu": GpuRequest(count=1, ids=[0], memory_fraction=0.95)},  # pyright: ignore[reportArgumentType]
        metadata=written["metadata"],
    )
    assert written["sweeper"]["search_space"]["train"]["lr0"] == ["loguniform", 1e-5, 1e-2]
    assert_warnings(findings, [SWEEP])


def test_production_config_is_accepted_unchanged() -> None:
    spec, findings, written = file_of("production_config_train.basic.yaml")
    work = spec.work
    assert isinstance(work, TrainWork)
    assert (work.model, work.family, work.task) == ("yolov8n-cls.pt", "yolo", "classify")
    assert work.args == {
        "batch": 0.85,
        "data": f"/mnt/data/examples/{COLOURBALL}",
        "epochs": 2,
        "imgsz": 640,
        "cos_lr": True,
        "lr0": 0.01,
        "lrf": 0.01,
        "dropout": 0.0,
        "erasing": 0.0,
        "workers": 8,
    }
    assert work.sweep == written["sweeper"]
    assert spec.priority is Priority.LOW
    assert spec.name == "color_ball_v3"
    assert spec.resources.gpu == GpuRequest(count=1, ids=[0], memory_fraction=0.95)
    assert spec.metadata["content"] == "Este es un experimento de clasificación de imágenes."
    assert_warnings(findings, [SWEEP, ("train.lr0", "Ultralytics finds its own")])


def test_the_invokers_file_is_accepted_unchanged() -> None:
    spec, findings, written = file_of("production_test_to_send_invoker.yaml")
    assert spec == JobSpec(
        work=TrainWork(
            model="yolov8n-cls.pt",
            task="classify",
            args={"batch": -1, "data": f"/mnt/data/examples/{COLOURBALL}", "epochs": 2, "imgsz": 640},
            sweep={"fitness": "metrics/accuracy_top1", "study_name": "exp_deteccion_headless"},
        ),
        name="exp_deteccion_headless",
        metadata=written["metadata"],
    )
    assert_warnings(findings, [SWEEP])


@pytest.mark.parametrize(
    ("name", "plots", "gpu", "more"),
    [
        ("worker_head_base_config.yaml", False, None, [("genetic", "older genetic search")]),
        ("worker_seed_config.yaml", True, GpuRequest(count=1, ids=[0], memory_fraction=0.6), []),
    ],
)
def test_a_workers_base_file_is_accepted_unchanged(
    name: str, plots: bool, gpu: GpuRequest | None, more: list[tuple[str, str]]
) -> None:
    spec, findings, written = file_of(name)
    work = spec.work
    assert isinstance(work, TrainWork)
    assert (work.model, work.task) == ("yolov8n.pt", "detect")
    assert work.args == {
        "data": "/app/dataset.yaml",
        "epochs": 10,
        "imgsz": 640,
        "batch": 16,
        "verbose": True,
        "plots": plots,
    }
    assert work.sweep == written["sweeper"]
    assert (spec.task_id, spec.name) == ("test_training_001", "test_experiment")
    assert spec.resources.gpu == gpu
    assert_warnings(findings, [*DEAD_OF_WORKERS, *more])


def test_the_librarys_template_is_accepted_unchanged() -> None:
    spec, findings, _ = file_of("wyolo_lib_template.yaml")
    work = spec.work
    assert isinstance(work, TrainWork)
    assert (work.model, work.family, work.task) == ("yolov8n.pt", "yolo", "detect")
    assert work.args == {
        "data": "coco8.yaml",
        "epochs": 50,
        "imgsz": 640,
        "batch": 16,
        "patience": 10,
        "optimizer": "AdamW",
        "lr0": 0.01,
        "lrf": 0.01,
    }
    assert work.val == {"split": "val", "save_json": True, "conf": 0.25}
    assert (spec.name, spec.task_id) == ("exp1", "unique-task-id-123")
    assert spec.resources.gpu == GpuRequest(count=1, ids=[0])  # or the CPU, for older wyolo took what there was
    expected = [
        ("mlflow", "tracking"),
        ("minio", "storage"),
        ("train.project", "own directory"),
        ("train.name", "names the job"),
        SWEEP,
    ]
    assert_warnings(findings, expected)


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        (training("  epochs: ten"), "train.epochs", "given 'ten' (text), expected a whole number", ""),
        (training("  epochs: 0"), "train.epochs", "given 0", ""),
        (training("  epochs: '3'"), "train.epochs", "given '3' (text)", "without quotes"),
        (training("  epochs:"), "train.epochs", "given nothing", ""),
        (training("  seed:"), "train.seed", "given nothing", "default (0)"),
        (training("  epoch: 3"), "train.epoch", "unknown key", "`epochs`"),
        (training("  imgz: 64"), "train.imgz", "unknown key", "`imgsz`"),
        (training("  lr0: 2"), "train.lr0", "expected a number from 0 to 1", ""),
        (training(f"  epochs: {'9' * 30}"), "train.epochs", "from 1 to 1,000,000", "too large"),
        (training("  epochs: 2000000"), "train.epochs", "from 1 to 1,000,000", ""),
        (training("  batch: 0"), "train.batch", "at most 65,536, -1, or a part", "70 %"),
        (training("  batch: 1000000000000"), "train.batch", "at most 65,536", "-1 finds the largest"),
        (training("  batch: 1.5"), "train.batch", "given 1.5", ""),
        (training("  cos_lr: 'true'"), "train.cos_lr", "expected true or false", "without quotes"),
        (training("  optimizer: adamv"), "train.optimizer", "one of auto, SGD", "`Adam`"),
        (training("  imgsz: big"), "train.imgsz", "a size in pixels", ""),
        (training("  cfg: other.yaml"), "train.cfg", "another file", "under `train`"),
        (training("  model: yolov8s.pt"), "train.model", "not read here", "top"),
        (training("  mode: val"), "train.mode", "trainings only", ""),
        (training("  device: tpu"), "train.device", "expected 0, [0, 1]", "GPU"),
        (training("  device: [0, 0]"), "train.device", "twice", ""),
        (training("  classes: [a]"), "train.classes", "class numbers", ""),
        (training("  workers: -1"), "train.workers", "0 to 256", ""),
        (training("  pretrained: https://x.org/w.pt"), "train.pretrained", "an address", "download"),
        (training("val: {splt: val}"), "val.splt", "unknown key", "`split`"),
        (training("epochs: 3"), "epochs", "unknown key", "`train.epochs`"),
        (training("modle: x"), "modle", "unknown key", "`model`"),
        (training("optimzer: SGD"), "optimzer", "unknown key", "`train.optimizer`"),
        ("command: ls\nprio: high", "prio", "unknown key", "`priority`"),
        (training("priority: urgent"), "priority", "high, normal or low", ""),
        (training("metadata: [a]"), "metadata", "given a list, expected a section", ""),
        (training("resources: {cpu: 2}"), "resources.cpu", "unknown key", "`cpus`"),
        (training("resources: {cpus: 0}"), "resources.cpus", "cores above 0", ""),
        (training("resources: {memory: lots}"), "resources.memory", "8GiB", ""),
        (training("resources: {gpus: many}"), "resources.gpus", "how many GPUs", ""),
        (training("extras: {gpu: {limit: 95}}"), "extras.gpu.limit", "up to 1", ""),
        (training("extras: {force_gpu: 1}"), "extras.force_gpu", "true or false", ""),
        (training("env: {A: 1}"), "env", "belongs to a command", "command"),
        (training("type: yoloo"), "type", "expected yolo or rtdetr", "`yolo`"),
        (training("task: segment"), "task", "yolov8n.pt is a model to detect", "`yolov8n-seg.pt`"),
        (training("type: rtdetr"), "type", "yolov8n.pt is a YOLO model", "`type: yolo`"),
        (training("name: " + "x" * 300), "name", "200 characters", ""),
        (training(model="yolov8n-wat"), "model", "neither a stock model nor", "yolov8n"),
        (training(model="model.onnx"), "model", "neither a stock model nor", ".pt or .yaml"),
        (training(model="http://169.254.169.254/x.pt"), "model", "an address", "download"),
        (training(model="~/x.pt"), "model", "whose home", "whole"),
        ("train: {data: coco8.yaml}", "model", "missing", "yolov8n.pt"),
        ("model: yolov8n.pt\ntrain: {epochs: 3}", "train.data", "missing", "coco8.yaml"),
        ("model: yolov8n.pt", "train.data", "missing", "coco8.yaml"),
        ("model: yolov8n.pt\ntrain: 3", "train", "expected a section", "indent"),
        ("model: yolov8n.pt\ntrain:\n  data:x", "train", "given 'data:x' (text)", "space"),
        ("model: yolov8n.pt\ntrain: {data: 3}", "train.data", "a name or a path", ""),
        ("command: python 'x", "command", "never closed", ""),
        ("command: []", "command", "no program", ""),
        (f"command: {'a ' * 5000}", "command", "5,000 words, at most 4,096", "script"),
        ("command: {a: 1}", "command", "a line such as", ""),
        ("command: ls\nargv: [ls]", "argv", "`command` is there too", ""),
        ("command: ls\ntrain: {epochs: 3}", "train", "belongs to a training", "two files"),
        ("command: ls\nenv: {A: [1]}", "env.A", "expected text", ""),
    ],
)
def test_a_mistake_is_named_with_where_what_and_a_remedy(text: str, where: str, message: str, hint: str) -> None:
    finding = the_error(text)
    assert finding.where == where
    assert message in finding.message
    assert hint in finding.hint


def test_a_relative_path_without_a_folder_is_refused() -> None:
    finding = the_error("model: yolov8n.pt\ntrain: {data: mine/data.yaml}", base_dir=None)
    assert "relative" in finding.message


def test_paths_are_mapped_and_made_whole() -> None:
    spec = of(
        "model: ../best.pt\ntype: yolo\ntask: segment\ntrain:\n  data: mine/data.yaml\n  pretrained: /datasets/w.pt"
    )
    work = spec.work
    assert isinstance(work, TrainWork)
    assert (work.model, work.task) == ("/here/../best.pt", "segment")
    assert work.args == {"data": "/here/mine/data.yaml", "pretrained": "/mnt/data/w.pt"}
    assert paths_of(work) == {
        "model": "/here/../best.pt",
        "train.data": "/here/mine/data.yaml",
        "train.pretrained": "/mnt/data/w.pt",
    }


def test_a_prefix_is_mapped_by_whole_folders_and_the_longest_wins() -> None:
    mapping = {"/datasets": "/mnt/data", "/datasets/big": "/mnt/big"}
    for written, mapped in (
        ("/datasets/a.yaml", "/mnt/data/a.yaml"),
        ("/datasets/big/a.yaml", "/mnt/big/a.yaml"),
        ("/datasets2/a.yaml", "/datasets2/a.yaml"),
    ):
        result = read({"model": "yolov8n.pt", "train": {"data": written}}, mapping)
        assert result.spec is not None
        assert isinstance(result.spec.work, TrainWork)
        assert result.spec.work.args["data"] == mapped


def test_a_path_that_was_mapped_beneath_its_own_prefix_stays_when_it_is_read_again() -> None:
    for written in ("/data/a.yaml", "/data/real/a.yaml"):
        result = read({"model": "yolov8n.pt", "train": {"data": written}}, {"/data": "/data/real"})
        assert result.spec is not None
        assert isinstance(result.spec.work, TrainWork)
        assert result.spec.work.args["data"] == "/data/real/a.yaml"


def test_names_that_ultralytics_knows_are_no_paths() -> None:
    work = of(training()).work
    assert isinstance(work, TrainWork)
    assert paths_of(work) == {}
    assert of("model: yolov8n\ntrain: {data: ./coco8.yaml}").work == TrainWork(
        model="yolov8n.pt", task="detect", args={"data": "/here/coco8.yaml"}
    )


def _share_of(number: int, required: bool) -> GpuRequest:
    return GpuRequest(count=1, ids=[number], memory_fraction=0.5, required=required)


@pytest.mark.parametrize(
    ("lines", "request_", "warned"),
    [
        ("  device: 0", GpuRequest(count=1, ids=[0], required=True), []),
        ("  device: '1,0'", GpuRequest(count=1, ids=[0], required=True), ["resources.gpus"]),
        ("  device: [0, 1]", GpuRequest(count=1, ids=[0], required=True), ["resources.gpus"]),
        ("  device: cuda:1", GpuRequest(count=1, ids=[1], required=True), []),
        ("  device: cpu", GpuRequest(count=0), []),
        ("  device: -1", GpuRequest(count=1), []),
        ("  device: [-1, -1]", GpuRequest(count=1), ["resources.gpus"]),
        ("  device:", None, []),
        ("resources: {gpus: 2}", GpuRequest(count=1), ["resources.gpus"]),
        ("resources: {gpus: [3]}", GpuRequest(count=1, ids=[3], required=True), []),
        ("resources: {gpus: [3]}\nextras: {gpu: {limit: 0.5}}", _share_of(3, required=True), []),
        ("  device: 3\nextras: {gpu: {limit: 0.5}}", _share_of(3, required=True), []),
        ("  device: 3\nextras: {force_gpu: false}", GpuRequest(count=1, ids=[3]), []),
        ("extras: {gpu: {id: 3, limit: 0.5}}", _share_of(3, required=False), []),
        ("extras: {gpu: {id: 3, limit: 0.5}, force_gpu: true}", _share_of(3, required=True), []),
        ("extras: {force_gpu: true}", GpuRequest(count=1, required=True), []),
        ("extras: {force_cpu: true, gpu: {id: 0}}", GpuRequest(count=0), ["extras.gpu.id"]),
        ("extras: {force_cpu: true, force_gpu: true}", GpuRequest(count=0), ["extras.force_gpu"]),
        ("extras: {gpu: {limit: 0.5}}", GpuRequest(count=1, memory_fraction=0.5), []),
        ("extras: {gpu: }", None, []),
        ("  device: 1\nextras: {gpu: {id: 0}}", GpuRequest(count=1, ids=[1]), ["extras.gpu.id"]),
        ("  device: 0\nresources: {gpus: 0}", GpuRequest(count=0), ["train.device"]),
    ],
)
def test_what_is_said_about_gpus_becomes_one_request(
    lines: str, request_: GpuRequest | None, warned: list[str]
) -> None:
    spec = of(training(lines))
    assert spec.resources.gpu == request_
    assert isinstance(spec.work, TrainWork)
    assert "device" not in spec.work.args
    assert [finding.where for finding in findings_of(training(lines))] == warned


@pytest.mark.parametrize(
    ("written", "mib"), [("8GiB", 8192), ("8 GB", 8192), ("512", 512), ("1.5g", 1536), ("2T", 2_097_152), ("64M", 64)]
)
def test_memory_is_read_with_its_unit(written: str, mib: int) -> None:
    assert of(training(f"resources: {{memory: {written}}}")).resources.memory_mib == mib


@pytest.mark.parametrize(
    ("lines", "args"),
    [
        ("  epochs: 3.0", {"epochs": 3}),
        ("  batch: 16.0", {"batch": 16}),
        ("  patience: 5.0", {"patience": 5}),
        ("  optimizer: adamw", {"optimizer": "AdamW"}),
        ("  cache: RAM", {"cache": "ram"}),
        ("  lrf: 1", {"lrf": 1}),
        ("  freeze: [0, 1]", {"freeze": [0, 1]}),
        ("  save_period: -1", {"save_period": -1}),
        ("  auto_augment:", {"auto_augment": None}),
        ("  pretrained: false", {"pretrained": False}),
        ("  save: true", {}),
        ("  mode: train", {}),
        ("  resume: false", {}),
    ],
)
def test_arguments_are_handed_on_as_ultralytics_wants_them(lines: str, args: dict[str, Any]) -> None:
    work = of(training(lines)).work
    assert isinstance(work, TrainWork)
    assert work.args == {"data": "coco8.yaml", **args}
    assert findings_of(training(lines)) == []


@pytest.mark.parametrize(
    ("lines", "where", "message"),
    [
        ("  imgsz: 100", "train.imgsz", "rounds it up to 128"),
        ("  imgsz: [64, 96]", "train.imgsz", "takes 96"),
        ("  lr0: 0.1", "train.lr0", "finds its own"),
        ("  optimizer: auto\n  momentum: 0.9", "train.momentum", "finds its own"),
        ("  resume: true", "train.resume", "begins at epoch 1"),
        ("  save: false", "train.save", "always kept"),
        ("  half: true", "train.half", "`quantize`"),
        ("  keras: true", "train.keras", "no such argument"),
        ("  save_dir: x", "train.save_dir", "own directory"),
        ("test: {conf: 0.01}", "test", "follows `val`"),
        ("extras: {gpus: 1}", "extras.gpus", "not used"),
        ("priority: debug", "priority", "read as `high`"),
        ("user: ana\nuser_code: ben", "user_code", "`user` says otherwise"),
        ("fallback: {batch: 4}", "fallback", "halves the batch"),
    ],
)
def test_what_is_not_used_warns_by_name(lines: str, where: str, message: str) -> None:
    (finding,) = findings_of(training(lines))
    assert (finding.level, finding.where) == ("warning", where)
    assert message in finding.message


def test_a_default_of_ultralytics_is_always_accepted() -> None:
    kept = {"cfg", "data", "device", "mode", "model", "source", "task", "augmentations"}
    for name, key in KEYS.items():
        if name not in kept and key.default is not None:
            result = read({"model": "yolov8n.pt", "train": {"data": "coco8.yaml", name: key.default}}, {})
            assert result.spec is not None, result.findings


def test_rtdetr_is_known_by_its_name() -> None:
    work = of(training(model="rtdetr-l.pt")).work
    assert isinstance(work, TrainWork)
    assert (work.family, work.task) == ("rtdetr", "detect")
    (finding,) = findings_of(training("type: yolo", model="rtdetr-l.pt"))
    assert "trained as one" in finding.message


def test_a_command_is_a_job() -> None:
    text = "command: python prep.py --out 'a b'\ncwd: prep\nenv: {N: 3, FAST: true}\nuser: ana\ntask_id: 12"
    assert of(text) == JobSpec(
        work=CommandWork(argv=["python", "prep.py", "--out", "a b"], cwd="/here/prep", env={"N": "3", "FAST": "true"}),
        user="ana",
        task_id="12",
    )
    assert of("argv: [sleep, 1]").work == CommandWork(argv=["sleep", "1"], cwd="/here")


def test_a_command_that_needs_a_shell_is_told_so() -> None:
    (finding,) = findings_of("command: cat a | wc")
    assert "`|`" in finding.message
    assert "bash" in finding.hint


def test_many_mistakes_are_bounded_and_counted() -> None:
    text = training("\n".join(f"  key{number}: 1" for number in range(10_000)))
    findings = findings_of(text)
    assert len(findings) == 51  # fifty, and how many more there are
    assert findings[-1].message == "and 9,950 more errors like these"


def test_the_data_sets_that_ultralytics_brings_are_known() -> None:
    installed = find_spec("ultralytics")
    assert installed is not None
    assert installed.origin is not None
    brought = {path.stem for path in (Path(installed.origin).parent / "cfg" / "datasets").glob("*.yaml")}
    others = {name for name in brought if "depth" in name or name.startswith(("cityscapes", "ade20k", "ImageNet"))}
    assert brought - others == STOCK_DATA


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("yolov8n.yaml", "mnist160", "`mnist160` is a data set to classify, and the model is for detect"),
        ("yolov8n-cls.pt", "coco8.yaml", "`coco8.yaml` is a data set to detect, and the model is for classify"),
        ("yolov8n-pose.pt", "coco8", "`coco8` is a data set to detect, and the model is for pose"),
        ("yolov8n.pt", "coco8-pose.yaml", "`coco8-pose.yaml` is a data set for pose, and the model is for detect"),
        ("yolov8n-seg.pt", "coco8.yaml", "`coco8.yaml` is a data set to detect, and the model is for segment"),
        ("rtdetr-l.pt", "imagenette", "`imagenette` is a data set to classify, and the model is for detect"),
        ("yolov8n.pt", "coco8-seg.yaml", ""),
        ("yolov8n.pt", "dota8.yaml", ""),
        ("yolov8n-seg.pt", "coco.yaml", ""),
        ("yolov8n-cls.pt", "mnist160", ""),
        ("./own.pt", "mnist160", ""),
    ],
)
def test_a_data_set_of_ultralytics_must_be_for_the_task_of_the_model(model: str, data: str, said: str) -> None:
    for section in (f"train: {{data: {data}}}", f"train: {{data: ./own}}\nval: {{data: {data}}}"):
        errors = [finding for finding in findings_of(f"model: {model}\n{section}\n") if finding.level == "error"]
        assert [finding.message for finding in errors] == [said] * bool(said)
        assert all("take one such as" in finding.hint for finding in errors)


def test_a_data_set_of_ultralytics_without_test_images_is_not_validated_on_them() -> None:
    text = "model: yolov8n.pt\ntrain: {data: coco8.yaml}\nval: {split: test}\n"
    [finding] = findings_of(text)
    assert finding.message == "`coco8.yaml` has no test images, and `split: test` asks for them"
    assert findings_of(text.replace("coco8", "VOC")) == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
SECTIONS = [
    *("model", "type", "task", "val", "test", "sweeper", "extras", "resources", "metadata", "priority", "name"),
    *("user", "user_code", "task_id", "command", "argv", "cwd", "env", "mlflow", "other"),
]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(SECTIONS), ANYTHING, max_size=5),
    st.dictionaries(st.sampled_from([*KEYS, "half", "nothing"]), ANYTHING, max_size=5),
)
def test_nothing_that_a_person_writes_raises(top: dict[str, Any], train: dict[str, Any]) -> None:
    result = read({"model": "yolov8n.pt", **top, "train": train}, PATH_MAP, "/here")
    assert (result.spec is None) == any(finding.level == "error" for finding in result.findings)
