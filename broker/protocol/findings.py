"""Collects what is wrong in what a person wrote, bounded, with the nearest known name as a hint. Pure."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeGuard, cast

from broker.protocol.api import Finding
from broker.protocol.document import describe, shorten

Level = Literal["error", "warning"]
MOST = 50  # findings of each level; the rest are counted
NOTHING: Mapping[str, Iterable[str]] = {}


class Findings:
    """Errors and warnings in the order in which they were found."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: dict[Level, int] = {"error": 0, "warning": 0}

    @property
    def failed(self) -> bool:
        return self._counts["error"] > 0

    def error(self, where: str, message: str, hint: str = "") -> None:
        self._add(Finding(level="error", where=shorten(where, 120), message=message, hint=hint))

    def warn(self, where: str, message: str, hint: str = "") -> None:
        self._add(Finding(level="warning", where=shorten(where, 120), message=message, hint=hint))

    def expected(self, where: str, value: Any, what: str, hint: str = "") -> None:
        """'given 'ten' (text), expected a whole number'."""
        self.error(where, f"given {given(value)}, expected {what}", hint)

    def all(self) -> list[Finding]:
        """Everything kept, and one line for each level that had more."""
        more = [
            Finding(level=level, message=f"and {count - MOST:,} more {level}s like these")
            for level, count in self._counts.items()
            if count > MOST
        ]
        return [*self._kept, *more]

    def section(self, document: Mapping[str, Any], key: str, where: str = "") -> dict[str, Any]:
        """The section under `key`; empty where there is none or where it is no section, which is then an error."""
        value = document.get(key)
        if value is None:
            return {}
        if is_section(value):
            return dict(value)
        colon = isinstance(value, str) and ":" in value
        hint = "a space must follow each colon" if colon else "indent its keys below it"
        self.expected(where or key, value, "a section of `key: value` lines", hint)
        return {}

    def unknown(
        self,
        where: str,
        key: str,
        known: Iterable[str],
        level: Level = "error",
        below: Mapping[str, Iterable[str]] = NOTHING,
    ) -> None:
        """Names the nearest known key; a warning where older files hold keys of their own.

        `below`: keys that are known in a section and not here, by that section.
        """
        message = "unknown key" if level == "error" else "not used: unknown key"
        hint = ""
        if self._counts[level] < MOST:  # the search is slow, and would not be shown
            paths = {name: f"{section}.{name}" for section, names in below.items() for name in names}
            hint = near(key, known) or (f"did you mean `{paths[name]}`?" if (name := nearest(key, paths)) else "")
        self._add(Finding(level=level, where=shorten(where, 120), message=message, hint=hint))

    def _add(self, finding: Finding) -> None:
        self._counts[finding.level] += 1
        if self._counts[finding.level] <= MOST:
            self._kept.append(finding)


def is_section(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is a mapping; its keys are text, for that is how documents and JSON are read."""
    return isinstance(value, Mapping)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_whole(value: Any) -> TypeGuard[int]:
    """A whole number, and not true or false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def given(value: Any) -> str:
    """A value as an error names it: "'ten' (text)"."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping) or is_list(value):
        return describe(cast("object", value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{shorten(repr(value))} ({describe(value)})"


def line(finding: Finding) -> str:
    """As a job keeps it among its warnings."""
    place = f"{finding.where}: " if finding.where else ""
    return f"{place}{finding.message}" + (f" ({finding.hint})" if finding.hint else "")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one, or ''."""
    names = list(known)
    lower = {entry.lower(): entry for entry in names}
    found = difflib.get_close_matches(name[:60].lower(), list(lower), n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


def near(name: str, known: Iterable[str]) -> str:
    """'did you mean `epochs`?', or ''."""
    name = nearest(name, known)
    return f"did you mean `{name}`?" if name else ""
