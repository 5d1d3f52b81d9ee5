"""Pure: what was raised -> why the training ended, in words a person can act on.

TrainingError is raised by our own code, which knows the reason. Everything else is recognised by its type and text.
"""

import errno
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from broker.protocol.states import EndReason

TRACEBACK_CHARACTERS = 8_000
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class TrainingError(Exception):
    """`what` happened and what to do next; what was kept is added when it is reported."""

    def __init__(self, reason: EndReason, what: str, remedy: str = "") -> None:
        self.reason = reason
        self.what = what
        self.remedy = remedy
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Failure:
    reason: EndReason
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A text that gives a reason away. `{text}` in `what` is the error's own first line."""

    pattern: re.Pattern[str]
    reason: EndReason
    what: str
    remedy: str


def _sign(pattern: str, reason: EndReason, what: str, remedy: str) -> _Sign:
    return _Sign(re.compile(pattern, re.IGNORECASE), reason, what, remedy)


_SHM = "give the job more shared memory (Docker: --shm-size 8g), or set train.workers to 0"
# In order: the first that is found decides. What a worker process died of comes before what its parent says of it.
_SIGNS = (
    _sign(
        r"no space left on device|disk quota exceeded",
        EndReason.DISK_FULL,
        "the disk is full ({text})",
        "free space where the job's directory lies, then resume",
    ),
    _sign(
        r"insufficient shared memory|unable to (open|write to|mmap|resize).{0,40}shared memory|/dev/shm"
        r"|shm_open|killed by signal: bus error",
        EndReason.SHM,
        "shared memory (/dev/shm) ran out while images were loaded",
        _SHM,
    ),
    _sign(
        r"worker .{0,40}killed by signal: killed",
        EndReason.OOM_HOST,
        "the system killed a data loading worker, most likely because memory ran out",
        "lower train.workers or train.batch, set train.cache to false, or give the job more memory; then resume",
    ),
    _sign(
        r"cuda.{0,20}out of memory|hip out of memory|CUBLAS_STATUS_ALLOC_FAILED|cuda error: out of memory",
        EndReason.OOM_CUDA,
        "the GPU's memory ran out ({text})",
        "lower train.batch or train.imgsz, or set train.batch to -1 so that the largest that fits is found; then rerun",
    ),
    _sign(
        r"not enough memory: you tried to allocate|cannot allocate memory|std::bad_alloc|DefaultCPUAllocator",
        EndReason.OOM_HOST,
        "memory ran out ({text})",
        "lower train.batch, train.workers or train.imgsz, set train.cache to false, or give the job more memory",
    ),
    _sign(
        r"nan persisted|corrupted with nan|(loss|fitness) nan/inf|matrix contains invalid numeric entries"
        r"|contains non-finite|input contains nan",
        EndReason.NAN,
        "the loss became NaN and did not recover ({text})",
        "lower train.lr0, set train.amp to false, or look for broken labels; then rerun",
    ),
    _sign(
        r"fallen off the bus|uncorrectable ecc|unspecified launch failure|no cuda-capable device"
        r"|cuda error: unknown error|device unavailable",
        EndReason.INTERRUPTED,
        "the GPU stopped answering ({text})",
        "the job goes on by itself from its checkpoint; if this repeats, look at the GPU with nvidia-smi and dmesg",
    ),
    _sign(
        r"invalid cuda 'device=|not a valid yolo argument|is of invalid type|is an invalid value|is invalid\. valid"
        r"|must not be none|not found in list of available optimizers|froze the entire model|final batch=1 training"
        r"|invalid classification dataset split|an unmatched|batchnorm",
        EndReason.BAD_CONFIG,
        "a setting is not valid: {text}",
        "correct the configuration and submit it again",
    ),
    _sign(
        r"^dataset '|no (valid )?images found|images not found|no labels? found|error loading data from|classes exceed"
        r"|label class .{0,40}exceeds|'kpt_shape'|flip_idx|all labels empty|cannot identify image file"
        r"|does not exist\. .{0,40}dataset",
        EndReason.BAD_DATA,
        "the data set cannot be used: {text}",
        "correct the data set (data.yaml, images, labels) and rerun",
    ),
    _sign(
        r"no module named|is required but not installed|modulenotfound",
        EndReason.BAD_CONFIG,
        "something that this configuration needs is not installed: {text}",
        "install it in the trainer's environment, or choose another model or setting",
    ),
    _sign(
        r"offline|download.{0,80}fail|failed to (resolve|establish)|name resolution|max retries exceeded",
        EndReason.WEIGHTS_MISSING,
        "something had to be downloaded and could not be: {text}",
        "put the file into the weights folder (setting weights_dir), or allow downloads (setting offline)",
    ),
)
# Where a plain Python error was raised says more than its text.
_PLACES = (
    ("ultralytics/cfg/__init__.py", EndReason.BAD_CONFIG),
    ("ultralytics/data/", EndReason.BAD_DATA),
)


def classify(error: BaseException, kept: str) -> Failure:
    """`kept` says what is safe: "The checkpoint of epoch 7 is kept."."""
    trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS:]
    if isinstance(error, TrainingError):
        return Failure(error.reason, _message(error.what, kept, error.remedy), trace if error.__cause__ else "")
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, TrainingError):
            return Failure(one.reason, _message(one.what, kept, one.remedy), trace)
        if isinstance(one, OSError) and one.errno in {errno.ENOSPC, errno.EDQUOT}:
            return _found(_SIGNS[0], one, kept, trace)
        if isinstance(one, MemoryError):
            what = "memory ran out"
            return Failure(
                EndReason.OOM_HOST, _message(what, kept, "lower train.batch, or set train.cache to false"), trace
            )
    for sign in _SIGNS:
        for one in chain:
            if sign.pattern.search(_text(one)):
                return _found(sign, one, kept, trace)
    for part, reason in _PLACES:
        if isinstance(error, TypeError | ValueError | KeyError | SyntaxError) and _raised_in(error, part):
            subject = "a setting" if reason is EndReason.BAD_CONFIG else "the data set"
            return Failure(
                reason, _message(f"{subject} is not valid: {_line(error)}", kept, "correct it and rerun"), trace
            )
    what = f"the training ended with {type(error).__name__}: {_line(error)}"
    return Failure(
        EndReason.EXIT_CODE, _message(what, kept, "the log has the whole traceback; resume tries again"), trace
    )


def _found(sign: _Sign, error: BaseException, kept: str, trace: str) -> Failure:
    return Failure(sign.reason, _message(sign.what.replace("{text}", _line(error)), kept, sign.remedy), trace)


def _message(what: str, kept: str, remedy: str) -> str:
    sentences = (what[:1].upper() + what[1:], kept, remedy[:1].upper() + remedy[1:])
    return " ".join(sentence.strip().rstrip(".") + "." for sentence in sentences if sentence.strip())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, innermost last."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _text(error: BaseException) -> str:
    return f"{_ANSI.sub('', str(error))}\n{type(error).__name__}"


def _line(error: BaseException) -> str:
    """The first line that says something, short and without colours."""
    lines = (line.strip() for line in _ANSI.sub("", str(error)).splitlines())
    return next(filter(None, lines), type(error).__name__)[:300]


def _raised_in(error: BaseException, part: str) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and part in frames[-1].filename.replace("\\", "/")
