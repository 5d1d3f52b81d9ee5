"""YAML text -> plain data, safely: bounded size, depth and events, no aliases, no duplicate keys, no tags.

Pure. The tree is built here from the parser's events, so that nothing recurses or grows beyond the bounds. Numbers
such as 1e-5, which YAML 1.1 reads as text, are numbers here; dates and times of day (2025-01-31, 12:30) stay text.
"""

import copy
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from broker.protocol.api import Finding
from broker.protocol.document_hints import syntax_finding

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_EVENTS = 50_000
SET = "--set"  # how the command line calls what is assigned beside a text

_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # only its event parser is used
_parse_events = cast("Callable[..., Iterator[Event]]", vars(yaml)["parse"])

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {
    spelling: value
    for words, value in ((("true", "yes", "on"), True), (("false", "no", "off"), False))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
MAX_INT = 2**63 - 1

_CORE = "tag:yaml.org,2002:"
_CORE_SCALARS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}


class _Mark(Protocol):
    line: int
    column: int


class DocumentError(Exception):
    """`finding.where` is 'line L, column C' (from 1)."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(f"{finding.where}: {finding.message}" if finding.where else finding.message)


def parse(text: str) -> dict[str, Any]:
    """The mapping that a whole file is. Raises DocumentError."""
    tree = _Tree(text)
    value = tree.document()
    if value is None:
        raise DocumentError(Finding(message="the file is empty", hint="write at least `model:` and a `train:` section"))
    if not isinstance(value, dict):
        raise DocumentError(
            Finding(
                where="line 1, column 1",
                message=f"the file is {describe(value)}, expected `key: value` lines",
                hint="a space must follow each colon: `model: yolov8n.pt`",
            )
        )
    return cast("dict[str, Any]", value)


def parse_value(text: str) -> Any:
    """One value as it could stand after `key: `: `3`, `1e-5`, `[0, 1]`, `yolov8n.pt`. Raises DocumentError."""
    return _Tree(text).document()


def position(text: str, path: str) -> str:
    """'line L, column C' of a dotted key path in the text, or '' where it is not there.

    Items of a list count from 0: `train.imgsz.1`. A path that goes on below what is written finds its last part.
    """
    return _nearest_place(_places(text), path)


def located(findings: Iterable[Finding], text: str | None, assigned: Iterable[str] = ()) -> list[Finding]:
    """The findings with where it was said behind each dotted path: '--set' for those that were assigned, else 'line L,
    column C' of the text."""
    seen, paths = {} if text is None else _places(text), list(assigned)

    def place(where: str) -> str:
        if any(where == path or where.startswith(f"{path}.") for path in paths):
            return SET
        return _nearest_place(seen, where)

    return [
        finding.model_copy(update={"where": f"{finding.where} ({said})"}) if (said := place(finding.where)) else finding
        for finding in findings
    ]


def assign(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with dotted paths set: {"train.epochs": 3}. Raises DocumentError for a path through a scalar."""
    result = copy.deepcopy(dict(document))
    for path, value in values.items():
        *sections, key = path.split(".")
        if not all((*sections, key)):
            where = f"{path} ({SET})"
            raise DocumentError(Finding(where=where, message="is not a key", hint="write it as in `train.epochs`"))
        target = result
        for depth, section in enumerate(sections, start=1):
            inner: Any = target.setdefault(section, {})
            if inner is None:
                inner = target[section] = {}
            if not isinstance(inner, dict):
                above = ".".join(sections[:depth])
                raise DocumentError(
                    Finding(
                        where=f"{path} ({SET})", message=f"`{above}` is {describe(inner)}, so it has no key `{key}`"
                    )
                )
            target = cast("dict[str, Any]", inner)
        target[key] = value
    return result


def describe(value: Any) -> str:
    """What a person would call it: 'a whole number', 'text', 'a list' ..."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a section"


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar: null, true/false (yes/no, on/off), a whole number, a number, else text.

    What is no finite number or does not fit 64 bits stays text, and so does what begins with a zero like 007.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in "+-.0123456789" or len(text) > 64 or _LEADING_ZERO.fullmatch(text):
        return text
    if _INT.fullmatch(text):
        number = int(text, 0)
        return number if abs(number) <= MAX_INT else text
    if _FLOAT.fullmatch(text):
        real = float(text)
        return real if math.isfinite(real) else text
    return text


class _Tree:
    """The events of one text made into values; `seen` collects where each dotted path stands."""

    def __init__(self, text: str, seen: dict[str, _Mark] | None = None) -> None:
        self._text = text
        self._seen = seen
        self._count = 0
        self._events = self._bounded()

    def document(self) -> Any:
        """The only document's value, None for an empty text."""
        try:
            next(self._events)  # the stream's start
            if isinstance(next(self._events), StreamEndEvent):
                return None
            value = self._value(next(self._events), "", 0)
            next(self._events)  # the document's end
            extra = next(self._events)
            if isinstance(extra, DocumentStartEvent):
                raise self._error(extra, "a second document begins", "one file holds one job: leave out the `---`")
        except yaml.YAMLError as error:
            raise DocumentError(syntax_finding(error, self._text)) from None
        return value

    def _bounded(self) -> Iterator[Event]:
        if len(self._text) > MAX_BYTES or len(self._bytes()) > MAX_BYTES:
            size = len(self._text) / 1024
            raise DocumentError(
                Finding(
                    message=f"the text has {size:,.0f} kB, at most {MAX_BYTES // 1024} kB are read",
                    hint="a configuration is short: is this the right file?",
                )
            )
        for event in _parse_events(self._text, Loader=_LOADER):
            self._count += 1
            if self._count > MAX_EVENTS:
                raise self._error(event, f"more than {MAX_EVENTS:,} keys and values", "is this the right file?")
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
                raise self._error(
                    event, "anchors (&name) and aliases (*name) are not read", "write the value out, or quote the text"
                )
            yield event

    def _bytes(self) -> bytes:
        try:
            return self._text.encode()
        except UnicodeEncodeError as error:
            raise DocumentError(
                Finding(message=f"character {error.start + 1} is not valid Unicode", hint="save the file as UTF-8")
            ) from None

    def _value(self, event: Event, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels", "is a bracket left open?")
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if isinstance(event, MappingStartEvent):
            self._allow_tag(event, "map")
            return self._mapping(path, depth)
        self._allow_tag(event, "seq")
        return self._sequence(path, depth)

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._error(event, "a key must be text", 'quote text that begins with { or [: "[a]": 1')
            key: str = event.value
            if key in result:
                raise self._error(
                    event, f"the key `{shorten(key)}` stands here again, first on line {first[key]}", "keep one of them"
                )
            first[key] = event.start_mark.line + 1
            below = f"{path}.{key}" if path else key
            if self._seen is not None:
                self._seen[below] = event.start_mark
            result[key] = self._value(next(self._events), below, depth + 1)
        return result

    def _sequence(self, path: str, depth: int) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            below = f"{path}.{len(result)}"
            if self._seen is not None:
                self._seen[below] = event.start_mark
            result.append(self._value(event, below, depth + 1))
        return result

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if "\0" in text:
            raise self._error(event, "the text holds a NUL character", "leave out the \\0")
        tag: str | None = event.tag
        if tag is None:
            return scalar(text) if event.implicit[0] else text
        name = tag.removeprefix(_CORE)
        if name in {"str", "!"}:
            return text
        if tag == name or name not in _CORE_SCALARS:
            raise self._error(event, f"the tag {shorten(tag)} is not read", "leave it out, or quote the text")
        value = scalar(text)
        if not isinstance(value, _CORE_SCALARS[name]) or (name != "bool" and isinstance(value, bool)):
            raise self._error(event, f"`{shorten(text)}` is not of the type !!{name}", "leave the tag out")
        return float(value) if name == "float" else value

    def _allow_tag(self, event: Event, name: str) -> None:
        tag: str | None = getattr(event, "tag", None)
        if tag is not None and tag not in {"!", _CORE + name}:
            raise self._error(event, f"the tag {shorten(tag)} is not read", "leave it out, or quote the text")

    def _error(self, event: Event, message: str, hint: str) -> DocumentError:
        return DocumentError(Finding(where=_place(event.start_mark), message=message, hint=hint))


def shorten(text: str, length: int = 60) -> str:
    """Text for a message, cut to `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _places(text: str) -> dict[str, _Mark]:
    seen: dict[str, _Mark] = {}
    try:
        _Tree(text, seen).document()
    except DocumentError:
        return {}
    return seen


def _nearest_place(seen: Mapping[str, _Mark], path: str) -> str:
    while path:
        if path in seen:
            return _place(seen[path])
        path = path.rpartition(".")[0]
    return ""


def _place(mark: _Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
