"""Checks the arguments of Ultralytics that a person wrote (`train.*`, `val.*`) against the generated table. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from broker.protocol.document import MAX_INT, scalar
from broker.protocol.findings import Findings, is_list, is_number, is_whole, near
from broker.protocol.ultralytics_keys import DEPRECATED, KEYS, VERSION, Key

_OWN_DIRECTORY = "not used: each attempt writes into its own directory"
_DROPPED = {
    "project": _OWN_DIRECTORY,
    "exist_ok": _OWN_DIRECTORY,
    "save_dir": _OWN_DIRECTORY,
    "name": "names the job where `name` does not; each attempt writes into its own directory",
}
_REFUSED = {
    "cfg": ("reads another file that would overrule this one", "write the keys of that file under `train`"),
    "augmentations": ("takes Python objects, which a file cannot hold", "use the keys of docs/configuration.md"),
    "source": ("is for prediction", "the images to train on are named by `train.data`"),
}
_MOST_BATCH = 65_536  # images in a step: more than any GPU holds of the smallest ones
_ELSEWHERE = {"model": "write `model:` at the top of the file", "task": "write `task:` at the top of the file"}


def check_args(section: str, given: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """The arguments to pass on, as Ultralytics wants them: whole numbers whole, names in its own spelling."""
    args: dict[str, Any] = {}
    for key, value in given.items():
        where = f"{section}.{key}"
        if key in _DROPPED:
            findings.warn(where, _DROPPED[key])
        elif key in _REFUSED:
            findings.error(where, *_REFUSED[key])
        elif key in _ELSEWHERE:
            findings.error(where, "not read here", _ELSEWHERE[key])
        elif key in KEYS:
            checked = _value(where, key, value, findings)
            if checked is not _BAD:
                args[key] = checked
        elif key in DEPRECATED:
            if DEPRECATED[key]:
                findings.warn(where, f"an older name of `{DEPRECATED[key]}`; it still works", "use the new name")
                args[key] = value
            else:
                findings.warn(where, f"not used: Ultralytics {VERSION} has no such argument any more", "leave it out")
        else:
            findings.unknown(where, key, KEYS)
    if section == "train":
        _warn_of_own_rate(args, findings)
    return args


def _warn_of_own_rate(args: Mapping[str, Any], findings: Findings) -> None:
    """With `optimizer: auto`, the default, Ultralytics chooses both."""
    for key in ("lr0", "momentum"):
        if key in args and args.get("optimizer", "auto") == "auto":
            hint = "name one, such as `optimizer: AdamW`"
            findings.warn(f"train.{key}", "not used: without an `optimizer` Ultralytics finds its own", hint)


_BAD = object()


def _value(where: str, key: str, value: Any, findings: Findings) -> Any:
    entry = KEYS[key]
    if value is None:
        if entry.optional:
            return None
        default = f"leave the line out for the default ({entry.default})"
        findings.expected(where, value, _expected(entry), default)
        return _BAD
    if key in _SPECIAL:
        return _SPECIAL[key](where, value, findings)
    if entry.allowed:
        return _one_of(where, entry, value, findings)
    number = int(value) if entry.kind == "int" and isinstance(value, float) and value.is_integer() else value
    if not _fits(entry, number):
        findings.expected(where, value, _expected(entry), _type_hint(entry, value))
        return _BAD
    return number


def _fits(entry: Key, value: Any) -> bool:
    match entry.kind:
        case "int":
            return is_whole(value) and value >= (entry.minimum if entry.minimum is not None else -1)
        case "float":
            return is_number(value)
        case "fraction":
            return is_number(value) and 0 <= value <= 1
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
        case "any":
            return True


def _expected(entry: Key) -> str:
    match entry.kind:
        case "int" if entry.minimum is not None:
            return f"a whole number of at least {entry.minimum}"
        case "int":
            return "a whole number"
        case "float":
            return "a number"
        case "fraction":
            return "a number from 0 to 1"
        case "bool":
            return "true or false"
        case "str":
            return "text"
        case "any":
            return "a value"


def _type_hint(entry: Key, value: Any) -> str:
    if isinstance(value, str) and entry.kind != "str" and value.strip().lower() in {"true", "false"}:
        return "write it without quotes"
    if isinstance(value, str) and entry.kind in {"int", "float", "fraction"}:
        try:
            number = float(value)
        except ValueError:
            return ""
        if not isinstance(scalar(value), str):
            return "write it without quotes"
        return "it is too large" if abs(number) > MAX_INT else ""
    return ""


def _one_of(where: str, entry: Key, value: Any, findings: Findings) -> Any:
    for choice in entry.allowed:
        if type(choice) is type(value) and (choice == value or _folded(choice) == _folded(value)):
            return choice
    names = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in entry.allowed]
    hint = near(value, names) if isinstance(value, str) else ""
    findings.expected(where, value, f"one of {', '.join(names)}", hint)
    return _BAD


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _batch(where: str, value: Any, findings: Findings) -> Any:
    if is_number(value) and value <= _MOST_BATCH:
        if (value >= 1 or value == -1) and float(value).is_integer():
            return int(value)
        if 0 < value < 1:
            return value
    hint = "-1 finds the largest that fits; 0.7 fills 70 % of the GPU's memory"
    expected = f"a whole number of at least 1 and at most {_MOST_BATCH:,}, -1, or a part between 0 and 1"
    findings.expected(where, value, expected, hint)
    return _BAD


def _imgsz(where: str, value: Any, findings: Findings) -> Any:
    sizes: list[Any] = value if is_list(value) else [value]
    if not 1 <= len(sizes) <= 2 or not all(is_whole(size) and 1 <= size <= 16_384 for size in sizes):
        findings.expected(where, value, "a size in pixels such as 640")
        return _BAD
    if len(sizes) == 2:
        findings.warn(where, f"training is square: Ultralytics takes {max(sizes)}")
    for size in sizes:
        if size % 32:
            above = -(-size // 32) * 32
            findings.warn(where, f"{size} is no multiple of 32: Ultralytics rounds it up to {above}")
    return value


def _classes(where: str, value: Any, findings: Findings) -> Any:
    numbers: list[Any] = value if is_list(value) else [value]
    if all(is_whole(number) and number >= 0 for number in numbers):
        return value
    findings.expected(where, value, "class numbers from 0, such as [0, 2]")
    return _BAD


def _freeze(where: str, value: Any, findings: Findings) -> Any:
    layers: list[Any] = value if is_list(value) else [value]
    if all((is_whole(layer) and layer >= 0) or (isinstance(layer, str) and is_list(value)) for layer in layers):
        return value
    findings.expected(where, value, "how many of the first layers, or a list of layers")
    return _BAD


def _fraction(where: str, value: Any, findings: Findings) -> Any:
    parts: list[Any] = value if is_list(value) else [value]
    if parts and all(is_number(part) and (0 <= part <= 1 or is_whole(part)) and part >= 0 for part in parts):
        return value
    findings.expected(where, value, "a part between 0 and 1, or a number of images")
    return _BAD


def _scale(where: str, value: Any, findings: Findings) -> Any:
    ends: list[Any] = value if is_list(value) else [value]
    if len(ends) in {1, 2} and all(is_number(end) and end >= 0 for end in ends):
        return value
    findings.expected(where, value, "a number such as 0.5, or [smallest, largest]")
    return _BAD


def _time(where: str, value: Any, findings: Findings) -> Any:
    if is_number(value) and value > 0:
        return value
    findings.expected(where, value, "hours above 0")
    return _BAD


def _text_path(where: str, value: Any, findings: Findings) -> Any:
    if isinstance(value, str) and value.strip():
        return value
    findings.expected(where, value, "a name or a path")
    return _BAD


def _pretrained(where: str, value: Any, findings: Findings) -> Any:
    return value if isinstance(value, bool) else _text_path(where, value, findings)


def _resume(where: str, value: Any, findings: Findings) -> Any:
    if value is not False:
        findings.warn(where, "not used: a new job begins at epoch 1", "`wyolo resume ID` goes on with a stopped job")
    return _BAD


def _mode(where: str, value: Any, findings: Findings) -> Any:
    if value != "train":
        findings.error(where, "wyolo queues trainings only", "leave it out")
    return _BAD


def _save(where: str, value: Any, findings: Findings) -> Any:
    if value is False:
        findings.warn(where, "not used: checkpoints are always kept, or a stop could not be resumed")
    elif value is not True:
        findings.expected(where, value, "true or false")
    return _BAD


def _epochs(where: str, value: Any, findings: Findings) -> Any:
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if is_whole(number) and 1 <= number <= 1_000_000:
        return number
    findings.expected(where, value, "a whole number from 1 to 1,000,000", _type_hint(KEYS["epochs"], value))
    return _BAD


def _workers(where: str, value: Any, findings: Findings) -> Any:
    if is_whole(value) and 0 <= value <= 256:
        return value
    findings.expected(where, value, "a whole number from 0 to 256", _type_hint(KEYS["workers"], value))
    return _BAD


_SPECIAL: dict[str, Callable[[str, Any, Findings], Any]] = {
    "batch": _batch,
    "classes": _classes,
    "data": _text_path,
    "distill_model": _text_path,
    "epochs": _epochs,
    "fraction": _fraction,
    "freeze": _freeze,
    "imgsz": _imgsz,
    "mode": _mode,
    "pretrained": _pretrained,
    "resume": _resume,
    "save": _save,
    "scale": _scale,
    "time": _time,
    "workers": _workers,
}
