"""YAML text -> plain data, safely: bounded size, depth and events, no aliases, no duplicate keys, no tags.

Pure. Numbers such as 1e-5, which YAML 1.1 reads as text, are numbers here.
"""

from collections.abc import Mapping
from typing import Any

from broker.protocol.api import Finding

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_EVENTS = 50_000


class DocumentError(Exception):
    """`finding.where` is 'line L, column C' (from 1)."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(f"{finding.where}: {finding.message}" if finding.where else finding.message)


def parse(text: str) -> dict[str, Any]:
    """Raises DocumentError."""
    raise NotImplementedError


def position(text: str, path: str) -> str:
    """'line L, column C' of a dotted key path in the text, or '' where it is not there."""
    raise NotImplementedError


def assign(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with dotted paths set: {"train.epochs": 3}. Raises DocumentError for a path through a scalar."""
    raise NotImplementedError
