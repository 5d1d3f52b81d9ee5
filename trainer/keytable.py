"""Writes broker/protocol/ultralytics_keys.py from the installed Ultralytics: `python -m trainer.keytable`.

The broker checks what people write against that table, and so never imports Ultralytics itself.
"""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import yaml

from broker.protocol.job import Family, Task

OUTPUT = Path(__file__).parent.parent / "broker" / "protocol" / "ultralytics_keys.py"
TASKS: tuple[Task, ...] = ("detect", "segment", "classify", "pose", "obb")

# Ultralytics checks these against lists inside functions, or not before they are used.
ALLOWED: dict[str, tuple[Any, ...]] = {
    "amp": (True, False, "fp16", "bf16", "fp32"),
    "auto_augment": ("randaugment", "autoaugment", "augmix"),
    "cache": (True, False, "ram", "disk"),
    "copy_paste_mode": ("flip", "mixup"),
    "optimizer": ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"),
    "split": ("val", "test", "train"),
}
ACCEPTED_BESIDES = ("augmentations", "save_dir")  # not in default.yaml, but not refused either
# Renamed or removed arguments that it still takes with a warning; "" is one that it drops.
DEPRECATED = {
    "boxes": "show_boxes",
    "crop_fraction": "",
    "end2end": "nms",
    "half": "quantize",
    "hide_conf": "show_conf",
    "hide_labels": "show_labels",
    "int8": "quantize",
    "keras": "",
    "label_smoothing": "",
    "line_thickness": "line_width",
    "save_hybrid": "",
}
# Open-vocabulary models need a text encoder, and the rest are no object detectors of these five tasks.
_NOT_TRAINED = re.compile(r"world|yoloe|yolo_nas|sam|FastSAM|mobileclip|-sem|-depth|reid|resnet\d+\.pt")
_TASK_SUFFIXES: tuple[tuple[str, Task], ...] = (
    ("-seg", "segment"),
    ("-cls", "classify"),
    ("-pose", "pose"),
    ("-obb", "obb"),
)


@dataclass(frozen=True, slots=True)
class Row:
    kind: str
    default: Any
    allowed: tuple[Any, ...]
    minimum: int | None
    optional: bool


@dataclass(frozen=True, slots=True)
class Table:
    version: str
    keys: dict[str, Row]
    deprecated: dict[str, str]
    models: dict[tuple[Family, Task], frozenset[str]]
    data: dict[Task, frozenset[str]]
    tested: frozenset[str]
    examples: dict[Task, str]


def build() -> Table:
    """The table of the Ultralytics that is installed here."""
    cfg: Any = import_module("ultralytics.cfg")  # Any: Ultralytics is not typed
    assets: frozenset[str] = import_module("ultralytics.utils.downloads").GITHUB_ASSETS_NAMES

    kinds: dict[str, str] = dict.fromkeys(cfg.CFG_FLOAT_KEYS, "float")
    kinds |= dict.fromkeys(cfg.CFG_FRACTION_KEYS, "fraction")
    kinds |= dict.fromkeys(cfg.CFG_INT_KEYS, "int")
    kinds |= dict.fromkeys(cfg.CFG_BOOL_KEYS, "bool")
    kinds |= dict.fromkeys(cfg.CFG_STR_KEYS, "str")
    kinds["fraction"] = "any"  # a share, a count or a list of either
    defaults = {**cfg.DEFAULT_CFG_DICT, **dict.fromkeys(ACCEPTED_BESIDES)}
    keys: dict[str, Row] = {}
    for name in sorted(defaults):
        kind, default = kinds.get(name, "any"), defaults[name]
        allowed = {"task": cfg.TASKS, "mode": cfg.MODES, **ALLOWED}.get(name, ())
        optional = default is None or name == "auto_augment" or (kind == "any" and name not in {"amp", "scale"})
        keys[name] = Row(kind, default, tuple(allowed), cfg.CFG_INT_MIN.get(name), optional)
    folder = Path(cfg.__file__).parent / "models"
    names = [*_architectures(folder), *((name, _task_of(name)) for name in assets if _is_weights(name))]
    models: dict[tuple[Family, Task], frozenset[str]] = {
        (family, task): frozenset(n for n, t in names if t == task and _family_of(n) == family)
        for family in ("yolo", "rtdetr")
        for task in TASKS
        if family == "yolo" or task == "detect"
    }
    described = list(_data_sets(Path(cfg.__file__).parent / "datasets"))
    data: dict[Task, frozenset[str]] = {
        task: frozenset(name for name, tasks, _ in described if task in tasks) for task in TASKS if task != "classify"
    }
    tested = frozenset(name for name, _, has_test in described if has_test)
    examples: dict[Task, str] = {task: cfg.TASK2DATA[task] for task in TASKS}
    return Table(cfg.__version__, keys, dict(DEPRECATED), models, data, tested, examples)


def _data_sets(folder: Path) -> Iterable[tuple[str, frozenset[str], bool]]:
    """Each description that it brings: its name, for which tasks its labels are, and whether it has test images.

    What it is for, a description says by the place of its page in the manual.
    """
    for path in sorted(folder.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        documented = re.search(r"docs\.ultralytics\.com/datasets/(\w+)/", text)
        tasks = {documented[1] if documented else "depth" if "depth" in path.stem else _task_of(path.name)}
        if re.search(r"labels-segments\.zip", text):
            tasks.add("segment")  # boxes and outlines
        if not tasks.isdisjoint(TASKS) and "classify" not in tasks:  # a data set to classify is a folder
            yield path.stem, frozenset(tasks), bool(yaml.safe_load(text).get("test"))


def _is_weights(name: str) -> bool:
    return name.endswith(".pt") and not _NOT_TRAINED.search(name)


def _task_of(name: str) -> Task:
    for suffix, task in _TASK_SUFFIXES:
        if suffix in name:
            return task
    return "detect"


def _family_of(name: str) -> Family:
    return "rtdetr" if "rtdetr" in name else "yolo"


def _architectures(folder: Path) -> Iterable[tuple[str, Task]]:
    """Each yaml of `folder`, and one name for each size that it describes: yolov8.yaml is yolov8n.yaml too."""
    for path in sorted(folder.rglob("*.yaml")):
        if _NOT_TRAINED.search(path.name):
            continue
        task = _task_of(path.name)
        yield path.name, task
        scales: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")).get("scales", {})
        stem = re.fullmatch(r"(yolov?\d+)((?:-.+)?\.yaml)", path.name)
        if stem is not None:
            for scale in scales:
                yield f"{stem[1]}{scale}{stem[2]}", task


def render(table: Table) -> str:
    """Python source, as ruff would format it."""
    lines = [
        f'"""Arguments and stock models of Ultralytics {table.version}. Generated by `python -m trainer.keytable`."""',
        "",
        "from typing import Any, Literal, NamedTuple",
        "",
        "from broker.protocol.job import Family, Task",
        "",
        f'VERSION = "{table.version}"',
        "",
        'Kind = Literal["int", "float", "fraction", "bool", "str", "any"]',
        "",
        "",
        "class Key(NamedTuple):",
        '    """`float` takes whole numbers too; `fraction` is from 0 to 1; `int` takes 3.0; `optional` takes None."""',
        "",
        "    kind: Kind",
        "    default: Any = None",
        "    allowed: tuple[Any, ...] = ()  # empty: anything of the kind; text is compared without regard to case",
        "    minimum: int | None = None",
        "    optional: bool = False",
        "",
        "",
        "def _names(text: str) -> frozenset[str]:",
        "    return frozenset(text.split())",
        "",
        "",
        "KEYS: dict[str, Key] = {",
    ]
    for name, row in table.keys.items():
        parts = [_literal(row.kind), _literal(row.default)]
        parts += [f"allowed={_literal(row.allowed)}"] if row.allowed else []
        parts += [f"minimum={row.minimum}"] if row.minimum is not None else []
        parts += ["optional=True"] if row.optional else []
        whole = f'    "{name}": Key({", ".join(parts)}),'
        if len(whole) > 120:
            whole = "\n".join([f'    "{name}": Key(', *(f"        {part}," for part in parts), "    ),"])
        lines.append(whole)
    lines += ["}", "", "# Still taken, with a warning: the name of today, or nothing where the argument is dropped."]
    lines += ["DEPRECATED: dict[str, str] = {"]
    lines += [f'    "{old}": "{new}",' for old, new in sorted(table.deprecated.items())]
    lines += ["}", "", "# Names that need no file: architectures (.yaml) and published weights (.pt)."]
    lines += ["MODELS: dict[tuple[Family, Task], frozenset[str]] = {"]
    for (family, task), names in table.models.items():
        lines += [f'    ("{family}", "{task}"): _names(', *_words(names, "        "), "    ),"]
    lines += ["}", "", "# Data sets that it brings a description of, by what their labels are for."]
    lines += ["DATA: dict[Task, frozenset[str]] = {"]
    for task, names in table.data.items():
        lines += [f'    "{task}": _names(', *_words(names, "        "), "    ),"]
    lines += ["}", "DATA_WITH_TEST = _names(  # those of them that have test images"]
    lines += [*_words(table.tested, "    "), ")"]
    lines += ["DATA_FOR: dict[Task, str] = {  # a small one for each task"]
    lines += [f'    "{task}": "{name}",' for task, name in table.examples.items()]
    return "\n".join([*lines, "}", ""])


def _words(names: Iterable[str], indent: str) -> list[str]:
    """The argument of `_names`."""
    wrapped = textwrap.wrap(" ".join(sorted(names)), 104, break_on_hyphens=False)
    return [f'{indent}"""', *(f"{indent}{line}" for line in wrapped), f'{indent}"""']


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        items = ", ".join(_literal(item) for item in cast(tuple[Any, ...], value))
        return f"({items})"
    return repr(value)


if __name__ == "__main__":
    OUTPUT.write_text(render(build()), encoding="utf-8")
