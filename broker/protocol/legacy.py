"""A configuration as people write it, of this and of older wyolo -> JobSpec, with a warning for each dead key.

Pure: mappings in, values out.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from broker.protocol.api import Finding
from broker.protocol.devices import one_gpu, resources
from broker.protocol.findings import Findings, is_list, is_section, is_whole, near
from broker.protocol.job import MOST_WORDS, CommandWork, JobSpec, TrainWork
from broker.protocol.sources import STOCK_MODELS, Paths, check_stock_data, is_stock_data, read_model
from broker.protocol.states import Priority
from broker.protocol.train_keys import check_args
from broker.protocol.ultralytics_keys import KEYS

_TRACKING = "not used: tracking is the operator's setting, not a job's"
_STORAGE = "not used: storage is the operator's setting, not a job's"
DEAD = {
    "mlflow": _TRACKING,
    "minio": _STORAGE,
    "dvc": _STORAGE,
    "redis": "not used: the broker has its own queue, and settings for it",
    "default": "not used: retries and timeouts are the broker's settings",
    "hydra": "not used: each attempt writes into its own directory",
    "tempfile": "not used: each attempt writes into its own directory",
    "genetic": "not used: the older genetic search is gone; `sweeper` describes a search",
    "fallback": "not used: Ultralytics halves the batch by itself when memory runs out in the first epoch",
    "fallback_overrides": "not used: Ultralytics halves the batch by itself when memory runs out in the first epoch",
}
_COMMON = ("name", "user", "user_code", "priority", "task_id", "resources", "metadata", "extras")
_TRAINING = ("model", "type", "task", "train", "val", "test", "sweeper")
_COMMAND = ("command", "argv", "cwd", "env")
_EXTRAS = ("gpu", "force_gpu", "force_cpu", "image", "network")
_GPU = ("id", "limit")
_PRIORITIES = {
    "high": Priority.HIGH,
    "normal": Priority.NORMAL,
    "medium": Priority.NORMAL,
    "low": Priority.LOW,
    "debug": Priority.HIGH,
}
_SHELL = frozenset({"|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"})


@dataclass(frozen=True, slots=True)
class Read:
    """Either a spec or at least one finding with level error."""

    spec: JobSpec | None
    findings: list[Finding]


def read(document: Mapping[str, Any], path_map: Mapping[str, str], base_dir: str | None = None) -> Read:
    """Never raises for what a person wrote. `base_dir` is what relative paths are relative to."""
    findings = Findings()
    paths = Paths(path_map, base_dir)
    command = any(key in document for key in ("command", "argv"))
    _check_keys(document, command, findings)
    train, extras = {} if command else findings.section(document, "train"), _extras(document, findings)
    sweep = findings.section(document, "sweeper") or None
    asked, older = findings.section(document, "resources"), not DEAD.keys().isdisjoint(document)
    wished = resources(asked, train.pop("device", None), extras, findings, older=older)
    common: dict[str, Any] = {
        "name": _text(document, "name", findings) or _older_name(train, sweep),
        "user": _user(document, findings),
        "task_id": _text(document, "task_id", findings) or None,
        "resources": wished if command else one_gpu(wished, findings),
        "metadata": findings.section(document, "metadata"),
    }
    if (priority := _priority(document, sweep, findings)) is not None:
        common["priority"] = priority  # else it is not among the fields that were set
    work = _command(document, paths, findings) if command else _training(document, train, sweep, paths, findings)
    if work is None or findings.failed:
        return Read(None, findings.all())
    try:
        return Read(JobSpec(work=work, **common), findings.all())
    except ValidationError as error:
        for line in error.errors(include_url=False):
            findings.error(".".join(str(part) for part in line["loc"]), line["msg"])
        return Read(None, findings.all())


def paths_of(work: TrainWork) -> dict[str, str]:
    """Each file or folder that a training names, by where it is named; names that Ultralytics knows are left out."""
    named: dict[str, Any] = {"model": work.model, "val.data": work.val.get("data")}
    named |= {f"train.{key}": work.args.get(key) for key in ("data", "pretrained", "distill_model")}
    return {
        where: path
        for where, path in named.items()
        if isinstance(path, str) and path not in STOCK_MODELS and not is_stock_data(path)
    }


def _check_keys(document: Mapping[str, Any], command: bool, findings: Findings) -> None:
    known = (*_COMMON, *_COMMAND) if command else (*_COMMON, *_TRAINING, *_COMMAND)
    for key in document:
        if key in known:
            continue
        if key in DEAD:
            findings.warn(key, DEAD[key])
        elif command and key in _TRAINING:
            findings.error(key, "belongs to a training, but this file has a command", "put them into two files")
        elif key in KEYS:
            findings.error(key, "unknown key", f"write it under `train:` as `train.{key}`")
        else:
            findings.unknown(key, key, (*known, *DEAD), below={} if command else {"train": KEYS})


def _training(
    document: Mapping[str, Any],
    train: dict[str, Any],
    sweep: dict[str, Any] | None,
    paths: Paths,
    findings: Findings,
) -> TrainWork | None:
    for key in ("cwd", "env"):
        if key in document:
            findings.error(key, "belongs to a command, but this file has none", "leave it out, or write `command:`")
    model = read_model(document.get("model"), document.get("type"), document.get("task"), paths, findings)
    val = findings.section(document, "val")
    val.pop("device", None)
    args, val = check_args("train", train, findings), check_args("val", val, findings)
    written = document.get("train")
    if train.get("data") is None and (written is None or is_section(written)):
        example = "a data.yaml, a folder of classes, or a name such as coco8.yaml"
        findings.error("train.data", "missing: which data set is trained on?", example)
    _place("train", args, paths, findings)
    _place("val", val, paths, findings)
    if document.get("test") is not None:
        findings.warn(
            "test", "not used: the final validation follows `val`", "set `val.split: test` for the test images"
        )
    if sweep is not None:
        findings.warn("sweeper", "kept, not run yet: one training runs with the values of `train`")
    if model is None:
        return None
    split, other = val.get("split") or args.get("split"), val.get("data")
    check_stock_data("train.data", args.get("data"), model.task, None if other else split, findings)
    check_stock_data("val.data", other, model.task, split, findings)
    return TrainWork(model=model.name, family=model.family, task=model.task, args=args, val=val, sweep=sweep)


def _place(section: str, args: dict[str, Any], paths: Paths, findings: Findings) -> None:
    """Make the paths among the arguments absolute."""
    data = args.get("data")
    if isinstance(data, str) and not is_stock_data(data):
        args["data"] = paths.resolve(f"{section}.data", data, findings)
    for key in ("pretrained", "distill_model"):
        named = args.get(key)
        if isinstance(named, str) and named not in STOCK_MODELS:
            args[key] = paths.resolve(f"{section}.{key}", named, findings)


def _command(document: Mapping[str, Any], paths: Paths, findings: Findings) -> CommandWork | None:
    if document.get("command") is not None and document.get("argv") is not None:
        findings.error("argv", "`command` is there too", "keep one of them")
        return None
    where = "argv" if document.get("argv") is not None else "command"
    argv = _argv(where, document.get(where), findings)
    cwd = document.get("cwd")
    if cwd is not None and not isinstance(cwd, str):
        findings.expected("cwd", cwd, "a folder")
        cwd = None
    cwd = paths.base_dir if cwd is None else paths.resolve("cwd", cwd, findings)
    env: dict[str, str] = {}
    for name, value in findings.section(document, "env").items():
        if isinstance(value, str | int | float):
            env[name] = str(value).lower() if isinstance(value, bool) else str(value)
        else:
            findings.expected(f"env.{name}", value, "text")
    return CommandWork(argv=argv, cwd=cwd, env=env) if argv else None


def _argv(where: str, value: Any, findings: Findings) -> list[str]:
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            findings.error(where, "a quote is opened and never closed", "close it, or write a list of words")
            return []
        if shell := next((word for word in words if word in _SHELL), None):
            hint = 'no shell reads it; for one write `[bash, -c, "..."]`'
            findings.warn(where, f"`{shell}` is handed to the program as a word", hint)
    elif is_list(value) and all(isinstance(word, str | int | float) and not isinstance(word, bool) for word in value):
        words = [str(word) for word in value]
    else:
        findings.expected(where, value, "a line such as `python prep.py`, or a list of words", "quote true, yes and on")
        return []
    if not words or not words[0]:
        findings.error(where, "no program is named", "for example `command: python prep.py`")
        return []
    if len(words) > MOST_WORDS:
        findings.error(where, f"has {len(words):,} words, at most {MOST_WORDS:,} can be", "put them into a script")
        return []
    return words


def _extras(document: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    extras = findings.section(document, "extras")
    for key in extras:
        if key not in _EXTRAS:
            findings.unknown(f"extras.{key}", key, _EXTRAS, "warning")
    for key in ("force_gpu", "force_cpu"):
        if not isinstance(extras.get(key, False), bool):
            findings.expected(f"extras.{key}", extras[key], "true or false")
    for key in findings.section(extras, "gpu", "extras.gpu"):
        if key not in _GPU:
            findings.unknown(f"extras.gpu.{key}", key, _GPU, "warning")
    return extras


def _priority(document: Mapping[str, Any], sweep: Mapping[str, Any] | None, findings: Findings) -> Priority | None:
    """`priority`, or in older files `sweeper.priority`."""
    where, value = "priority", document.get("priority")
    if value is None and sweep is not None:
        where, value = "sweeper.priority", sweep.get("priority")
    if value is None:
        return None
    name = value.lower() if isinstance(value, str) else ""
    if name not in _PRIORITIES:
        findings.expected(where, value, "high, normal or low", near(name, _PRIORITIES))
        return None
    if name == "debug":
        findings.warn(where, "`debug` is read as `high`", "write `high`")
    return _PRIORITIES[name]


def _older_name(train: Mapping[str, Any], sweep: Mapping[str, Any] | None) -> str:
    """Older files name an experiment in `train.name` or `sweeper.study_name`."""
    for value in (train.get("name"), (sweep or {}).get("study_name")):
        if isinstance(value, str) and value.strip():
            return value.strip()[:200]
    return ""


def _user(document: Mapping[str, Any], findings: Findings) -> str:
    user, code = _text(document, "user", findings), _text(document, "user_code", findings)
    if user and code and user != code:
        findings.warn("user_code", "not used: `user` says otherwise", "keep one of them")
    return user or code


def _text(document: Mapping[str, Any], key: str, findings: Findings) -> str:
    """Text or a whole number, as text; '' where there is none."""
    value = document.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if is_whole(value):
        return str(value)
    findings.expected(key, value, "text", "put it in quotes")
    return ""
