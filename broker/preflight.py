"""Checks a data set before a job is queued: paths, data.yaml, labels, images. It only reads."""

import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.dataset import survey
from broker.dataset.files import fingerprint, read_text
from broker.dataset.survey import Question, Result
from broker.protocol import document
from broker.protocol.api import Finding
from broker.protocol.findings import near
from broker.protocol.job import TrainWork
from broker.protocol.legacy import paths_of
from broker.protocol.sources import STOCK_MODELS, task_of

KEPT = 64  # data sets whose result is remembered
SLOW_S = 0.02  # where a look at all files takes longer than this ...
TRUSTED = 10.0  # ... a good result is believed for this many times as long, without a look

_PLAIN_ACTIVATION = re.compile(r"(?:torch\.)?nn\.[A-Za-z0-9]+\((?:inplace=(?:True|False))?\)")
_ZIP = b"PK\x03\x04"  # what torch.save has written since 1.6
_PICKLES = frozenset(bytes((0x80, protocol)) for protocol in range(2, 6))  # and before
_PATH_MAP = "is the disk mounted? the setting path_map says where prefixes such as /datasets are on this machine"


@dataclass(slots=True)
class _Answer:
    result: Result
    fingerprint: int
    trusted_until: float  # monotonic seconds


_answers: OrderedDict[Question, _Answer] = OrderedDict()
_lock = threading.Lock()
_asking = [threading.Lock() for _ in range(16)]  # who asks the same meanwhile waits for one answer


def check(work: TrainWork, images_to_open: int, roots: Sequence[str] = (), datasets: Path | None = None) -> Result:
    """Blocking: call it in a thread. Findings with level error refuse the job; results are cached by the folder's
    newest change. Data set names of Ultralytics (coco8.yaml) without a file are not checked.

    `roots`: real paths of the folders that all of it must lie in; none: anywhere. `datasets`: the folder of data sets
    that trainings have, where they have one.
    """
    named = paths_of(work)
    asked = _questions(work, named, images_to_open, tuple(roots), datasets)
    findings = [finding for where, path in named.items() if where not in asked for finding in _check_file(where, path)]
    summary, found = _ask("train.data", asked["train.data"]) if "train.data" in asked else (None, [])
    findings += found
    if "val.data" in asked:
        _, found = _ask("val.data", asked["val.data"])
        findings += [each.model_copy(update={"where": _of("val.data", each.where)}) for each in found]
    return summary, findings


def strays(work: TrainWork, roots: Sequence[str], datasets: Path | None = None) -> list[Finding]:
    """Blocking. Only what lies outside `roots`; nothing else of it is looked at, and what is not there is no matter."""
    findings: list[Finding] = []
    for question in _questions(work, paths_of(work), 0, tuple(roots), datasets).values():
        with suppress(OSError, ValueError):
            findings += survey.strays(question)
    return findings


def _questions(
    work: TrainWork, named: Mapping[str, str], images_to_open: int, roots: tuple[str, ...], datasets: Path | None
) -> dict[str, Question]:
    """What is asked of the training's own data set, and of another that the best model is validated on."""
    task, single = work.task or task_of(work.model), bool(work.args.get("single_cls"))
    split = str(work.val.get("split") or work.args.get("split") or "val")
    last = tuple(dict.fromkeys(("train", "val", "val" if work.val.get("data") else split)))
    splits = {"train.data": last, "val.data": (split,)}
    return {
        where: Question(Path(named[where]), task, single, images_to_open, splits[where], roots, datasets)
        for where in splits
        if where in named
    }


def _ask(where: str, question: Question) -> Result:
    try:
        with _asking[hash(question) % len(_asking)]:
            return _answer(question)
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and not question.path.exists():
            return None, [Finding(where=where, message=f"there is no {question.path}", hint=_PATH_MAP)]
        return None, [Finding(where=where, message=f"{question.path} cannot be read: {error}")]


def _of(where: str, place: str) -> str:
    return place if place.startswith(where) else f"{where}: {place}".rstrip(": ")


def forget(path: Path) -> None:
    """Drop what is cached about a data set."""
    with _lock:
        for question in [question for question in _answers if question.path == path]:
            del _answers[question]


def _answer(question: Question) -> Result:
    """Raises FileNotFoundError, and OSError or ValueError for what cannot be read."""
    with _lock:
        known = _answers.get(question)
    if known is not None and time.monotonic() < known.trusted_until:
        return known.result
    if not question.path.exists():
        raise FileNotFoundError(question.path)
    began = time.monotonic()
    here = survey.survey(question)
    state = fingerprint(here.sources, here.bounds)
    looked = time.monotonic() - began
    unchanged = known is not None and known.fingerprint == state and not here.bounds.crossed
    result = known.result if known is not None and unchanged else here.check()
    if not any(finding.level == "error" for finding in result[1]):  # who repairs an error tries again at once
        with _lock:
            trusted_s = looked * TRUSTED if looked > SLOW_S else 0.0
            _answers[question] = _Answer(result, state, time.monotonic() + trusted_s)
            _answers.move_to_end(question)
            while len(_answers) > KEPT:
                _answers.popitem(last=False)
    return result


def _check_file(where: str, path: str) -> list[Finding]:
    """A model or another file beside the data set."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        stock = near(Path(path).name, STOCK_MODELS) if where == "model" else ""
        return [Finding(where=where, message=f"there is no {path}", hint=stock or _PATH_MAP)]
    except (OSError, ValueError) as error:
        return [Finding(where=where, message=f"{path} cannot be read: {error}")]
    if not stat.S_ISREG(status.st_mode):
        return [Finding(where=where, message=f"{path} is no file")]
    if status.st_size == 0:
        return [Finding(where=where, message=f"{path} is empty", hint="copy it again")]
    return (_check_architecture if path.endswith((".yaml", ".yml")) else _check_weights)(where, path)


def _check_weights(where: str, path: str) -> list[Finding]:
    """Only by how it begins: what is in it is a pickle, which runs as code when it is loaded."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(4)
    except OSError as error:
        return [Finding(where=where, message=f"{path} cannot be read: {error}")]
    if head == _ZIP or head[:2] in _PICKLES:
        return []
    message = f"{path} holds no weights: it is neither a zip archive nor an older file of torch.save"
    return [Finding(where=where, message=message, hint="is it whole, and is it the right file? copy it again")]


def _check_architecture(where: str, path: str) -> list[Finding]:
    """A model's yaml. Ultralytics runs its `activation` as code, so only a plain layer may stand there."""
    try:
        values = document.parse(read_text(path, document.MAX_BYTES))
    except document.DocumentError as error:
        finding = error.finding
        return [Finding(where=where, message=f"{path}: {finding.where}: {finding.message}", hint=finding.hint)]
    except (OSError, ValueError) as error:
        return [Finding(where=where, message=f"{path} cannot be read: {error}")]
    activation = values.get("activation")
    if activation is not None and not _PLAIN_ACTIVATION.fullmatch(str(activation)):
        hint = "for example `activation: nn.ReLU()`"
        return [Finding(where=where, message=f"{path}: `activation` is not a plain layer of torch.nn", hint=hint)]
    if not isinstance(values.get("head"), list):
        return [Finding(where=where, message=f"{path} describes no model: it has no list `head`")]
    return []
