"""What Ultralytics prints, as whole lines of plain text.

Its progress bars redraw one line ten times a second: only the last drawing is kept. Since no half line is ever
written, an event can be put between two lines at any time.
"""

import io
import os
import re
import sys
import threading

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MAX_LINE = 16_384  # characters


def _plain(line: str) -> str:
    return _SEQUENCE.sub("", line.rpartition("\r")[2]) + "\n"


class LineStream(io.TextIOBase):
    """A text stream over a file descriptor that writes a line when it is complete."""

    encoding = "utf-8"  # pyright: ignore[reportAssignmentType]

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str, /) -> int:
        with self._lock:
            *whole, self._pending = (self._pending + text).split("\n")
            # A carriage return starts the line again: what it hides was never meant to stay.
            self._pending = self._pending.rpartition("\r")[2][-MAX_LINE:]
            if whole:
                self._put("".join(_plain(line) for line in whole))
        return len(text)

    def finish(self) -> None:
        """Write what is left without a newline."""
        with self._lock:
            if self._pending:
                self._put(_plain(self._pending))
                self._pending = ""

    def _put(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(self._descriptor, data) :]


def install() -> None:
    """Puts stdout and stderr into lines. Before anything keeps a reference to them."""
    sys.stdout.flush()
    sys.stderr.flush()
    sys.stdout, sys.stderr = LineStream(1), LineStream(2)


def finish() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, LineStream):
            stream.finish()
        else:
            stream.flush()
