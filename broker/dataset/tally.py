"""Findings of a data set by kind: the first twenty of each are kept, the rest are counted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from broker.protocol.api import Finding

MOST_OF_A_KIND = 20


@dataclass(slots=True)
class _Kind:
    level: Literal["error", "warning"]
    count: int = 0
    kept: list[Finding] = field(default_factory=list[Finding])


class Tally:
    """`root` is what paths in messages are relative to."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._kinds: dict[str, _Kind] = {}

    @property
    def failed(self) -> bool:
        return any(kind.level == "error" for kind in self._kinds.values())

    def error(self, kind: str, where: str, message: str, hint: str = "") -> None:
        self._add("error", kind, where, message, hint)

    def warn(self, kind: str, where: str, message: str, hint: str = "") -> None:
        self._add("warning", kind, where, message, hint)

    def all(self) -> list[Finding]:
        """Errors first; `kind` names what there is more of, as in 'and 57 more: class out of range'."""
        findings: list[Finding] = []
        for level in ("error", "warning"):
            for name, kind in self._kinds.items():
                if kind.level == level:
                    findings += kind.kept
                    if kind.count > MOST_OF_A_KIND:
                        rest = kind.count - MOST_OF_A_KIND
                        findings.append(Finding(level=kind.level, message=f"and {rest:,} more: {name}"))
        return findings

    def place(self, path: str) -> str:
        """A path as a message shows it: relative to the data set where it lies in it."""
        return path.removeprefix(self._root).lstrip("/") if path.startswith(self._root + "/") else path

    def _add(self, level: Literal["error", "warning"], kind: str, where: str, message: str, hint: str) -> None:
        entry = self._kinds.setdefault(f"{kind}", _Kind(level))
        entry.count += 1
        if entry.count <= MOST_OF_A_KIND:
            entry.kept.append(Finding(level=level, where=self.place(where), message=message, hint=hint))
