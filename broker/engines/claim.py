"""An attempt's claim: who runs it on this machine, and how it ended. A file beside its directory, a line for each step.

Written by `shim_process.py`. Who creates it (O_EXCL) has the attempt: a shim, or a broker that gives it up for good.
What is not as a shim writes it says nothing: the job may have put it there.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.beside import CLAIM, beside
from broker.engines import proc, shim_process
from broker.engines.proc import Identity
from broker.plain import read_plain

TOMBSTONE = shim_process.TOMBSTONE.decode()  # the attempt was given up before it started, and can never start


@dataclass(frozen=True, slots=True)
class Claim:
    """None of it is known where the file is not whole; of what the machine ran before it went down, only the code."""

    shim: Identity | None = None  # "<pid> <start time> <boot id> <kills for lack of memory before>"
    job: Identity | None = None  # "<pid> <start time>"; None: it has just been started, or not yet
    memory_kills: int | None = None  # when it began
    exit_code: int | None = None  # a number

    @classmethod
    def parse(cls, text: str) -> "Claim":
        match [line.split() for line in text.split("\n")[:-1]]:
            case [[pid, start, boot_id, kills], *rest] if _numbers(pid, start, kills):
                shim = Identity(int(pid), int(start))
            case _:
                return cls()
        job = code = None
        match rest:
            case [[pid, start], *last] if _numbers(pid, start):
                job = Identity(int(pid), int(start))
                match last:
                    case [[number], *_] if _numbers(number):
                        code = int(number)
                    case _:
                        pass
            case _:
                pass
        return cls(shim, job, int(kills), code) if boot_id == proc.boot_id() else cls(exit_code=code)


def read(directory: Path) -> str | None:
    """As far as it is written; None: there is none. Something else in its place reads as an empty line."""
    path = beside(directory, CLAIM)
    try:
        return read_plain(path).decode(errors="replace")
    except FileNotFoundError:
        return "\n" if path.is_symlink() or path.exists() else None


def is_whole(text: str) -> bool:
    """Of its start a shim will not write more, or never wrote it."""
    lines = text.count("\n")
    return lines > 1 or (lines == 1 and Claim.parse(text).shim is None)


def bury(directory: Path) -> bool:
    """Give the attempt up: no shim can start it any more. False when one was faster."""
    with suppress(FileExistsError):  # a shim that was asked to start it may still be about to make it
        directory.parent.mkdir(0o700)
    try:
        with beside(directory, CLAIM).open("x") as tombstone:
            tombstone.write(TOMBSTONE)
    except FileExistsError:
        return False
    return True


def exit_code(directory: Path, job: Identity | None) -> int | None:
    """None: not written, or not of that job, where it is known which it is."""
    claim = Claim.parse(read(directory) or "")
    return claim.exit_code if job in {None, claim.job} else None


def _numbers(*words: str) -> bool:
    return all(word.isascii() and word.isdecimal() for word in words)
