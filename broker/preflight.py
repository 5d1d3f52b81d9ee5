"""Checks a data set before a job is queued: paths, data.yaml, labels, images. It only reads."""

import re
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from broker.dataset import description
from broker.dataset.files import fingerprint, read_text
from broker.dataset.survey import Question, Result, holds_classes, survey
from broker.dataset.tally import Tally
from broker.protocol import document
from broker.protocol.api import Finding
from broker.protocol.findings import near
from broker.protocol.job import Task, TrainWork
from broker.protocol.legacy import paths_of
from broker.protocol.sources import STOCK_MODELS, is_stock_data, task_of

KEPT = 64  # data sets whose result is remembered
SLOW_S = 0.02  # where a look at all files takes longer than this ...
TRUSTED = 10.0  # ... a good result is believed for this many times as long, without a look

_PLAIN_ACTIVATION = re.compile(r"(?:torch\.)?nn\.[A-Za-z0-9]+\((?:inplace=(?:True|False))?\)")
_PATH_MAP = "is the disk mounted? the setting path_map says where prefixes such as /datasets are on this machine"


@dataclass(slots=True)
class _Answer:
    result: Result
    fingerprint: int
    trusted_until: float  # monotonic seconds


_answers: OrderedDict[Question, _Answer] = OrderedDict()
_lock = threading.Lock()
_asking = [threading.Lock() for _ in range(16)]  # who asks the same meanwhile waits for one answer


def check(work: TrainWork, images_to_open: int) -> Result:
    """Blocking: call it in a thread. Findings with level error refuse the job; results are cached by the folder's
    newest change. Data set names of Ultralytics (coco8.yaml) without a file are not checked."""
    named = paths_of(work)
    data = named.pop("train.data", None)
    findings = [finding for where, path in named.items() for finding in _check_file(where, path)]
    if data is None or is_stock_data(data):
        return None, findings
    task = work.task or task_of(work.model)
    question = Question(Path(data), task, bool(work.args.get("single_cls")), images_to_open)
    try:
        with _asking[hash(question) % len(_asking)]:
            summary, found = _answer(question)
    except (OSError, ValueError) as error:
        return None, [*findings, Finding(where="train.data", message=f"{data} cannot be read: {error}")]
    return summary, [*findings, *found]


def folders(work: TrainWork) -> dict[str, Path]:
    """Every file and folder that a training would read, by where it is named: also those its data.yaml leads to.

    For whoever must know that they lie in allowed places. Nothing is raised for what is not there.
    """
    named = {where: Path(path) for where, path in paths_of(work).items()}
    for where in ("train.data", "val.data"):
        try:
            named |= _led_to(where, named.get(where), work.task)
        except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle: nothing can be read of it
            continue
    return named


def _led_to(where: str, data: Path | None, task: Task | None) -> dict[str, Path]:
    """Raises OSError, RuntimeError, ValueError."""
    if data is None or not data.exists() or holds_classes(data, task):
        return {}
    file = description.find(data, tally := Tally(data))
    told = description.load(file, tally) if file is not None else None
    return {
        f"{where}: {split} {number}": path
        for split, sources in (told.splits.items() if told is not None else ())
        for number, path in enumerate(sources, start=1)
    }


def forget(path: Path) -> None:
    """Drop what is cached about a data set."""
    with _lock:
        for question in [question for question in _answers if question.path == path]:
            del _answers[question]


def _answer(question: Question) -> Result:
    """Raises OSError or ValueError for what cannot be read."""
    with _lock:
        known = _answers.get(question)
    if known is not None and time.monotonic() < known.trusted_until:
        return known.result
    if not question.path.exists():
        return None, [Finding(where="train.data", message=f"there is no {question.path}", hint=_PATH_MAP)]
    began = time.monotonic()
    here = survey(question)
    state = fingerprint(here.sources)
    looked = time.monotonic() - began
    result = known.result if known is not None and known.fingerprint == state else here.check()
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
    if where == "val.data":
        return []
    if not stat.S_ISREG(status.st_mode):
        return [Finding(where=where, message=f"{path} is no file")]
    if status.st_size == 0:
        return [Finding(where=where, message=f"{path} is empty", hint="copy it again")]
    return _check_architecture(where, path) if path.endswith((".yaml", ".yml")) else []


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
