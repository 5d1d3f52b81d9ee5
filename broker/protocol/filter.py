"""The filter line: `state:failed @node user:ana map50>0.6 !regex words`. Pure: a parser and a matcher.

Terms are all true together. `key:a,b` is one of several; words match the beginnings of words in name, model, user, data
and task id; `"quoted words"` match whole words in a row; `!regex` excludes; `-term` negates. The ledger compiles the
same `Filter` to SQL, and both answer alike.
"""

import difflib
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from broker.protocol.job import Job, Task
from broker.protocol.states import ACTIVE, FINAL, WAITING, EndReason, JobState, Priority

Op = Literal[">", ">=", "<", "<=", "="]
COMPARE: dict[Op, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}

NUMBERS = ("id", "epoch", "epochs", "fitness", "best")
TEXTS = {"name": "n", "model": "m", "user": "u", "data": "d", "task_id": "t"}  # field -> its letter in `words_of`
CHOICES: dict[str, frozenset[str]] = {
    "state": frozenset(JobState),
    "kind": frozenset({"train", "command"}),
    "priority": frozenset(Priority),
    "reason": frozenset(EndReason),
    "task": frozenset(get_args(Task)),
}
STATE_GROUPS: dict[str, frozenset[JobState]] = {"waiting": WAITING, "active": ACTIVE, "ended": FINAL}
KEYS = (*CHOICES, "node", "task_id", "id", "name", "model", "user", "data", "epoch", "epochs", "fitness", "best")
SORTS = (
    "id",
    "state",
    "name",
    "model",
    "user",
    "node",
    "priority",
    "epoch",
    "fitness",
    "best",
    "submitted",
    "started",
    "ended",
)  # what a list of jobs can be sorted by; `-name` is descending

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_KEYED = re.compile(r"([A-Za-z_]\w*):(.*)", re.DOTALL)
_COMPARED = re.compile(r"([A-Za-z_][\w/().-]*?)(>=|<=|>|<|=)(.*)", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?%?")
_UNCOUNTABLE = re.compile(r"\\[1-9]|\(\?P?[=<]|\(\?[a-z]*x")  # what refers to groups or looks around; spaces in it
_PIECE = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"  # an escape, a set: nothing in them repeats
    r"|\((?:\?[:!>])?|\)|\|"
    r"|(?:[*+?]|\{(?P<least>\d*)(?P<comma>,?)(?P<most>\d*)\})[?+]?",
    re.DOTALL,
)
_MAX_PATTERN = 200  # characters
_MOST_WAYS = 10_000  # of matching a pattern at one place; each costs some nanoseconds, for each job that is looked at
_MANY_WAYS = 100  # what an unbounded repetition counts for
_SEARCHED = 400  # characters of each field: what a pattern may cost grows with their third power


class FilterError(ValueError):
    """What is wrong in a filter. `position` counts characters from 0; `hint` is the nearest known name or a remedy."""

    def __init__(self, message: str, position: int, hint: str = "") -> None:
        self.message = message
        self.position = position
        self.hint = hint
        super().__init__(f"{message} (column {position + 1}){f': {hint}' if hint else ''}")


def words_of(name: str, model: str, user: str, data: str, task_id: str | None) -> str:
    """A job's searchable words, each with the letter of its field: ' n:red n:fruit m:yolov8n m:pt u:ana '."""
    fields = (("n", name), ("m", model), ("u", user), ("d", data), ("t", task_id or ""))
    words = [f"{letter}:{word}" for letter, text in fields for word in _split(text)]
    return f" {' '.join(words)} "


def words_of_job(job: Job) -> str:
    return words_of(job.name, job.model, job.user, job.data, job.task_id)


def metric_key(name: str) -> str:
    """The name people use: 'metrics/mAP50-95(B)' -> 'map50_95', 'val/box_loss' -> 'val_box_loss'."""
    short = name.casefold().removeprefix("metrics/").removesuffix("(b)")
    return re.sub(r"[^a-z0-9]+", "_", short).strip("_")


def pattern_found(pattern: "re.Pattern[str]", *fields: str | None) -> bool:
    """`fields`: name, model, user, data, task_id; the beginning of each."""
    return any(field and pattern.search(field, 0, _SEARCHED) for field in fields)


@dataclass(frozen=True, slots=True)
class OneOf:
    """`key` is state, kind, priority, reason, task, node, task_id or id; compared as text."""

    key: str
    values: frozenset[str]
    negated: bool = False

    def holds(self, job: Job, words: str, metrics: Mapping[str, float]) -> bool:
        value = getattr(job, self.key)
        return value is not None and str(value) in self.values


@dataclass(frozen=True, slots=True)
class Text:
    """Words in a row in one of `letters`' fields; the last one may go on unless `whole`. One of several `phrases`."""

    phrases: tuple[tuple[str, ...], ...]
    letters: str
    whole: bool = False
    negated: bool = False

    @property
    def needles(self) -> list[str]:
        """What to look for in `words_of`: any of these as a substring."""
        end = " " if self.whole else ""
        return [
            "".join(f" {letter}:{word}" for word in phrase) + end for phrase in self.phrases for letter in self.letters
        ]

    def holds(self, job: Job, words: str, metrics: Mapping[str, float]) -> bool:
        return any(needle in words for needle in self.needles)


@dataclass(frozen=True, slots=True)
class Compare:
    """`key` is one of NUMBERS; a job without that number never matches."""

    key: str
    op: Op
    value: float
    negated: bool = False

    def holds(self, job: Job, words: str, metrics: Mapping[str, float]) -> bool:
        number: float | None = getattr(job, "best_fitness" if self.key == "best" else self.key)
        return number is not None and COMPARE[self.op](number, self.value)


@dataclass(frozen=True, slots=True)
class Metric:
    """The newest value of a metric whose `metric_key` is `key`."""

    key: str
    op: Op
    value: float
    negated: bool = False

    def holds(self, job: Job, words: str, metrics: Mapping[str, float]) -> bool:
        return any(
            metric_key(name) == self.key and COMPARE[self.op](number, self.value) for name, number in metrics.items()
        )


@dataclass(frozen=True, slots=True)
class Without:
    """Jobs whose name, model, user, data and task id all lack the pattern, whatever its case."""

    pattern: "re.Pattern[str]"
    negated: bool = False

    def holds(self, job: Job, words: str, metrics: Mapping[str, float]) -> bool:
        return not pattern_found(self.pattern, job.name, job.model, job.user, job.data, job.task_id)


Term = OneOf | Text | Compare | Metric | Without


@dataclass(frozen=True, slots=True)
class Filter:
    terms: tuple[Term, ...] = ()

    @property
    def metric_keys(self) -> frozenset[str]:
        """Metrics (by `metric_key`) that `matches` needs to be told; a Job does not carry them."""
        return frozenset(term.key for term in self.terms if isinstance(term, Metric))

    def matches(self, job: Job, metrics: Mapping[str, float] | None = None) -> bool:
        """`metrics`: the job's newest values by their full names; a metric that is not there matches nothing."""
        words = words_of_job(job)
        return all(term.holds(job, words, metrics or {}) != term.negated for term in self.terms)


def parse(text: str) -> Filter:
    """Raises FilterError."""
    return Filter(tuple(_term(found.group(), found.start()) for found in _TERM.finditer(text)))


def _term(text: str, at: int, negated: bool = False) -> Term:
    if text.startswith("-") and len(text) > 1 and not negated:
        return _term(text[1:], at + 1, negated=True)
    if text.startswith("!"):
        return Without(_pattern(text[1:], at + 1), negated)
    if text.startswith("@"):
        return OneOf("node", _values("node", text[1:], at + 1), negated)
    if text.startswith('"'):
        return Text((_phrase(_unquoted(text, at), at),), "".join(TEXTS.values()), whole=True, negated=negated)
    if keyed := _KEYED.fullmatch(text):
        return _keyed(keyed[1], keyed[2], at, at + keyed.start(2), negated)
    if compared := _COMPARED.fullmatch(text):
        return _compared(compared, at, negated)
    return Text((_phrase(text, at),), "".join(TEXTS.values()), negated=negated)


def _keyed(key: str, value: str, at: int, value_at: int, negated: bool) -> Term:
    name = key.casefold()
    if name not in KEYS:
        raise FilterError(f"there is no key {key!r}", at, _nearest(name, KEYS) or 'quote it to search for it: "..."')
    if not value:
        raise FilterError(f"{name}: needs a value", value_at)
    if name in NUMBERS and name != "id":
        return Compare(name, "=", _number(name, value, value_at), negated)
    if name in TEXTS and name != "task_id":
        whole = value.startswith('"')
        parts = [_unquoted(value, value_at)] if whole else value.split(",")
        phrases = tuple(_phrase(part, value_at) for part in parts)
        return Text(phrases, TEXTS[name], whole, negated)
    return OneOf(name, _values(name, value, value_at), negated)


def _compared(found: "re.Match[str]", at: int, negated: bool) -> Term:
    name, op, value_at = found[1].casefold(), _op(found[2]), at + found.start(3)
    if name in NUMBERS:
        return Compare(name, op, _number(name, found[3], value_at), negated)
    if name in KEYS:
        raise FilterError(f"{name} is not a number", at, f"{name}:{found[3]}")
    return Metric(metric_key(name), op, _number(name, found[3], value_at), negated)


def _values(key: str, text: str, at: int) -> frozenset[str]:
    values: set[str] = set()
    for found in re.finditer(r"[^,]+", text.replace('"', "")):
        value = found.group()
        known = CHOICES.get(key)
        if known is not None:
            value = value.casefold()
            if key == "state" and value in STATE_GROUPS:
                values |= STATE_GROUPS[value]
                continue
            if value not in known:
                names = sorted(known | STATE_GROUPS.keys()) if key == "state" else sorted(known)
                hint = _nearest(value, names) or f"one of {', '.join(names)}"
                raise FilterError(f"{key} is never {value!r}", at + found.start(), hint)
        elif key == "id" and not (value.isascii() and value.isdigit() and len(value) < 19):
            raise FilterError(f"{value!r} is not a job's number", at + found.start())
        values.add(str(int(value)) if key == "id" else value)
    if not values:
        raise FilterError("a node's name is missing" if key == "node" else f"{key}: needs a value", at)
    return frozenset(values)


def _phrase(text: str, at: int) -> tuple[str, ...]:
    words = _split(text)
    if not words:
        raise FilterError(f"there is no word in {text!r}", at)
    return tuple(words)


def _split(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _unquoted(text: str, at: int) -> str:
    if len(text) < 2 or text.find('"', 1) != len(text) - 1:
        raise FilterError("the quotation is not closed", at, 'end it with "')
    return text[1:-1]


def _number(name: str, text: str, at: int) -> float:
    if not _NUMBER.fullmatch(text):
        raise FilterError(f"{name} is compared with a number, not {text!r}", at)
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _pattern(text: str, at: int) -> "re.Pattern[str]":
    """Patterns whose search could take exponential time are refused: they would stop everyone, not just who asked."""
    source = text[1:-1] if len(text) > 1 and text.startswith('"') and text.endswith('"') else text
    if not source:
        raise FilterError("a pattern is missing after !", at)
    if len(source) > _MAX_PATTERN or _UNCOUNTABLE.search(source) or _ways(source) > _MOST_WAYS:
        hint = "no repeated groups, at most two * or +, few ? and |"
        raise FilterError("this pattern could take too long", at, hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what `[[` may come to mean
            return re.compile(source, re.IGNORECASE)
    except re.error as error:
        raise FilterError(f"not a pattern: {error.msg}", at + (error.pos or 0)) from None


def _ways(source: str) -> int:
    """At most so many ways of matching at one place would be tried; more than _MOST_WAYS where a group repeats."""
    ways, others, depth, group_end = 1, 0, 0, -1
    for piece in _PIECE.finditer(source):
        match piece.group()[0]:
            case "(":
                depth += 1
            case ")":
                depth, group_end = depth - 1, piece.end()
            case "|" if depth == 0:
                ways, others = 1, others + ways
            case "|":
                ways *= 2
            case "*" | "+" | "?" | "{":
                choices, most = _repetition(piece)
                if most > 1 and piece.start() == group_end:
                    return _MOST_WAYS + 1
                ways *= choices
            case _:
                pass
    return others + ways


def _repetition(piece: "re.Match[str]") -> tuple[int, int]:
    """How many lengths it may have, and how often it repeats at most."""
    if piece.group()[0] == "?":
        return 2, 1
    least, comma, most = piece["least"], piece["comma"], piece["most"]
    if not comma and least is not None:  # {3}; {} is no repetition
        return 1, int(least or 0)
    if not most:
        return _MANY_WAYS, _MANY_WAYS
    return min(max(1, int(most) - int(least or 0) + 1), _MANY_WAYS), int(most)


def _op(text: str) -> Op:
    return next(op for op in COMPARE if op == text)


def _nearest(name: str, known: "tuple[str, ...] | list[str]") -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else ""
