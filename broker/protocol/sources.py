"""Where a model and its data come from: names that Ultralytics knows by itself, or paths. URLs are refused. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from broker.protocol.findings import Findings, near
from broker.protocol.job import Family, Task
from broker.protocol.ultralytics_keys import DATA, DATA_FOR, DATA_WITH_TEST, MODELS

STOCK_MODELS = frozenset(name for names in MODELS.values() for name in names)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_TASKS: tuple[tuple[str, Task], ...] = (
    ("-seg", "segment"),
    ("-cls", "classify"),
    ("-pose", "pose"),
    ("-obb", "obb"),
)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Data sets that Ultralytics brings a description of and fetches when they are first used.
STOCK_DATA = frozenset(name for names in DATA.values() for name in names)
# The same to classify: folders, of which it keeps no list.
STOCK_FOLDERS = _names(
    """
    caltech101 caltech256 cifar10 cifar100 fashion-mnist imagenet imagenet10 imagenet100 imagenette imagenette160
    imagenette320 imagewoof imagewoof160 imagewoof320 mnist mnist160
    """
)
# What labels for one task are good for in another: boxes are made of outlines and corners, and outlines of corners.
_ALSO: dict[Task, tuple[Task, ...]] = {"detect": ("segment", "obb"), "segment": ("obb",), "obb": ("segment",)}


@dataclass(frozen=True, slots=True)
class Model:
    name: str  # a stock name, or an absolute path
    family: Family
    task: Task | None


@dataclass(frozen=True, slots=True)
class Paths:
    """How a path that a person wrote becomes one of this machine."""

    path_map: Mapping[str, str]
    base_dir: str | None

    def resolve(self, where: str, written: str, findings: Findings) -> str:
        """An absolute path; the text itself after an error."""
        if _URL.match(written):
            findings.error(where, "an address, and nothing is fetched from addresses", "download it and write its path")
            return written
        if written.startswith("~"):
            findings.error(where, f"`{written}` depends on whose home is meant", "write the path whole")
            return written
        path = PurePosixPath(written)
        for prefix in sorted(self.path_map, key=len, reverse=True):
            if path.is_relative_to(prefix):
                target = PurePosixPath(self.path_map[prefix])
                mapped = path.is_relative_to(target)  # a job's own paths are read again when it is edited or run again
                return str(path if mapped else target / path.relative_to(prefix))
        if path.is_absolute():
            return str(path)
        if self.base_dir is None:
            findings.error(
                where, f"`{written}` is a relative path, and nothing says relative to what", "write it whole"
            )
            return written
        return str(PurePosixPath(self.base_dir) / path)


def read_model(written: Any, kind: Any, task: Any, paths: Paths, findings: Findings) -> Model | None:
    """`model`, `type` and `task`. None after an error."""
    family, named_task = _kind(kind, task, findings)
    if written is None:
        hint = "`model: rtdetr-l.pt`" if family == "rtdetr" else "for example `model: yolov8n.pt`"
        findings.error("model", "missing: which model is to be trained?", hint)
        return None
    if not isinstance(written, str) or not written.strip():
        findings.expected("model", written, "a name such as yolov8n.pt, or a path")
        return None
    name = written.strip()
    if name not in STOCK_MODELS and f"{name}.pt" in STOCK_MODELS:
        name = f"{name}.pt"
    if name in STOCK_MODELS:
        return _stock(name, family, named_task, findings)
    if PurePosixPath(name).suffix not in {".pt", ".yaml", ".yml"}:
        hint = near(name, STOCK_MODELS) or "give a .pt or .yaml file"
        findings.error("model", f"`{name}` is neither a stock model nor a .pt or .yaml file", hint)
        return None
    path = paths.resolve("model", name, findings)
    guess = family or ("rtdetr" if "rtdetr" in PurePosixPath(name).name else "yolo")
    return Model(path, guess, named_task or task_of(path))


def task_of(model: str) -> Task | None:
    """What a model's name says about its task; None where it says nothing."""
    name = PurePosixPath(model).name
    if (stock := _stock_kind(name)) is not None:
        return stock[1]
    return next((task for part, task in _TASKS if part in name), None)


def is_stock_data(name: str) -> bool:
    """Whether Ultralytics knows this data set by itself; a file of that name is meant by `./name`."""
    return name.removesuffix(".yaml") in STOCK_DATA or name in STOCK_FOLDERS


def check_stock_data(where: str, name: Any, task: Task | None, split: Any, findings: Findings) -> None:
    """Whether a data set of Ultralytics' own has labels for the task, and the images of a `split`. Nothing is said of
    others, or where the task is not known."""
    if not isinstance(name, str) or not is_stock_data(name):
        return
    stem = name.removesuffix(".yaml")
    told: list[Task] = (
        ["classify"] if name in STOCK_FOLDERS else [each for each, names in DATA.items() if stem in names]
    )
    if task is not None and not {task, *_ALSO.get(task, ())} & set(told):
        kinds = f"to {told[0]}" if told[0] in {"classify", "detect", "segment"} else f"for {told[0]}"
        hint = f"for {task} take one such as `{DATA_FOR[task]}`, or your own"
        findings.error(where, f"`{name}` is a data set {kinds}, and the model is for {task}", hint)
    elif split == "test" and "classify" not in told and stem not in DATA_WITH_TEST:
        findings.error(where, f"`{name}` has no test images, and `split: test` asks for them", "leave `split` out")


def _kind(kind: Any, task: Any, findings: Findings) -> tuple[Family | None, Task | None]:
    """`type` is a family, or in older files a task."""
    tasks: dict[str, Task] = {name: name for _, name in MODELS}
    families: dict[str, Family] = {name: name for name, _ in MODELS}
    family: Family | None = None
    named: Task | None = None
    if isinstance(kind, str) and kind in families:
        family = families[kind]
    elif isinstance(kind, str) and kind in tasks:
        family, named = "yolo", tasks[kind]
    elif kind is not None:
        known = [*families, *tasks]
        findings.expected("type", kind, "yolo or rtdetr", near(kind, known) if isinstance(kind, str) else "")
    if isinstance(task, str) and task in tasks:
        if named not in {None, tasks[task]}:
            findings.error("task", f"`{task}`, but `type` says {named}", "keep one of them")
        named = tasks[task]
    elif task is not None:
        findings.expected(
            "task", task, f"one of {', '.join(tasks)}", near(task, tasks) if isinstance(task, str) else ""
        )
    if family == "rtdetr" and named not in {None, "detect"}:
        findings.error("task", f"RT-DETR detects; it has no task `{named}`", "leave `task` out")
    return family, named


def _stock(name: str, family: Family | None, task: Task | None, findings: Findings) -> Model | None:
    kind = _stock_kind(name)
    assert kind is not None
    own_family, own_task = kind
    if family is not None and family != own_family:
        if own_family == "yolo":
            findings.error("type", f"`rtdetr`, but {name} is a YOLO model", "write `type: yolo`, or another model")
            return None
        findings.warn("type", f"`yolo`, but {name} is an RT-DETR model and is trained as one", "write `type: rtdetr`")
    if task is not None and task != own_task:
        fitting = next((n for n in MODELS.get((own_family, task), ()) if n == _for_task(name, task)), "")
        hint = f"for {task} take `{fitting}`" if fitting else "leave `task` out, or take another model"
        findings.error("task", f"`{task}`, but {name} is a model to {own_task}", hint)
        return None
    return Model(name, own_family, own_task)


def _stock_kind(name: str) -> tuple[Family, Task] | None:
    return next((kind for kind, names in MODELS.items() if name in names), None)


def _for_task(name: str, task: Task) -> str:
    """yolov8n.pt, segment -> yolov8n-seg.pt."""
    stem, _, suffix = name.rpartition(".")
    for part, _ in _TASKS:
        stem = stem.removesuffix(part)
    wanted = next((part for part, named in _TASKS if named == task), "")
    return f"{stem}{wanted}.{suffix}"
