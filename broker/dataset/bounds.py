"""Where data may lie: beneath the allowed folders, wherever links lead. What lies elsewhere is named and left out."""

import os
from collections.abc import Sequence
from pathlib import Path

from broker.dataset.tally import Tally


class Bounds:
    """`roots` are real paths; with none of them everything is allowed, and nothing is looked at.

    A file of a folder that was looked through costs no call of the kernel unless it is a link, one of a list costs one.
    """

    def __init__(self, roots: Sequence[str], tally: Tally) -> None:
        self._roots = roots
        self._tally = tally
        self._told: set[str] = set()
        self._folders: dict[str, bool] = {}  # of listed files

    @property
    def crossed(self) -> bool:
        return bool(self._told)

    def hold(self, path: str | os.PathLike[str]) -> bool:
        """Whether what it leads to lies within."""
        if not self._roots:
            return True
        real = os.path.realpath(path)
        held = any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in self._roots)
        if not held and (named := os.fspath(path)) not in self._told:
            self._told.add(named)
            hint = f"allowed are {', '.join(self._roots)} (setting allowed_roots)"
            self._tally.error("outside the allowed folders", named, "lies outside the allowed folders", hint)
        return held

    def hold_entry(self, entry: os.DirEntry[str]) -> bool:
        """Of a folder that lies within."""
        return not self._roots or not entry.is_symlink() or self.hold(entry.path)

    def hold_listed(self, path: str) -> bool:
        """A file that a list names."""
        if not self._roots:
            return True
        folder = path.rpartition(os.sep)[0]
        if folder not in self._folders:
            self._folders[folder] = self.hold(folder or os.curdir)
        return self._folders[folder] and (not Path(path).is_symlink() or self.hold(path))
