"""What is said to Redis, and how it refuses. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.errors import QueueDown

ANSWER_S = 3.0  # longest that a command may take

Word = str | bytes | int | float
Command = Sequence[Word]
Reply = Any  # bytes, int, None, or a list of these


@dataclass(frozen=True)
class Script:
    """A Lua script. Its commands may be repeated when Redis has to be told the script first."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: Sequence[str], args: Sequence[Word]) -> Command:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class Refused(QueueDown):
    """Redis answered, with an error. `kind` is its first word: WRONGTYPE, NOGROUP, MISCONF ..."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)
