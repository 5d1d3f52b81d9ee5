"""A configuration as people write it, of this and of older wyolo -> JobSpec, with a warning for each dead key.

Pure: mappings in, values out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.protocol.api import Finding
from broker.protocol.job import JobSpec


@dataclass(frozen=True, slots=True)
class Read:
    """Either a spec or at least one finding with level error."""

    spec: JobSpec | None
    findings: list[Finding]


def read(document: Mapping[str, Any], path_map: Mapping[str, str], base_dir: str | None = None) -> Read:
    """Never raises for what a person wrote."""
    raise NotImplementedError
