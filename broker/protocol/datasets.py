"""Which file of a folder describes the data set: one rule for the broker, which checks it, and the trainer. Pure."""

from collections.abc import Iterable
from pathlib import PurePath


def described_by(folder: PurePath, files: Iterable[PurePath]) -> PurePath | None:
    """Of its yaml files data.yaml, else the one that is called as the folder is, else the only one. None where several
    are left, or there is none."""
    by_name = {file.name: file for file in sorted(files)}
    for stem in ("data", folder.name):
        for name in (f"{stem}.yaml", f"{stem}.yml"):
            if name in by_name:
                return by_name[name]
    return next(iter(by_name.values())) if len(by_name) == 1 else None
