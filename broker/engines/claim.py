"""What lies in a local attempt's directory: who has claimed it and runs it (`pid`), and how it ended (`exit`).

Written by `shim_process.py`. Who creates `pid` (O_EXCL) has the attempt: a shim, or a broker that gives it up for good.
What is not as a shim writes it says nothing: the job may have put it there.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.engines import proc, shim_process
from broker.engines.proc import Identity
from broker.plain import read_plain

# a line each: the shim's "<pid> <start time> <boot id> <kills for lack of memory before>", the job's
# "<pid> <start time>"; or TOMBSTONE
PID_NAME = shim_process.PID
EXIT_NAME = shim_process.EXIT  # "<exit code> <pid> <start time>" of the job
LOG_NAME = shim_process.LOG
WORK_NAME = shim_process.WORK  # a folder: where a command runs that names no place of its own
TOMBSTONE = shim_process.TOMBSTONE.decode()  # the attempt was given up before it started, and can never start


@dataclass(frozen=True, slots=True)
class Claim:
    """None of it is known where the file is not whole, or the machine went down since."""

    shim: Identity | None = None
    job: Identity | None = None  # None: it has just been started, or not yet
    memory_kills: int | None = None  # when it began

    @classmethod
    def parse(cls, text: str) -> "Claim":
        """Of this boot."""
        shim = job = kills = None
        for line in text.split("\n")[:2]:
            match line.split():
                case [pid, start, boot_id, before] if boot_id == proc.boot_id() and _numbers(pid, start, before):
                    shim, kills = Identity(int(pid), int(start)), int(before)
                case [pid, start] if shim is not None and _numbers(pid, start):
                    job = Identity(int(pid), int(start))
                case _:
                    break
        return cls(shim, job, kills)


def read(directory: Path) -> str | None:
    """`pid` as far as it is written; None: there is none. Something else in its place reads as an empty line."""
    path = directory / PID_NAME
    try:
        return read_plain(path).decode(errors="replace")
    except FileNotFoundError:
        return "\n" if path.is_symlink() or path.exists() else None


def is_whole(text: str) -> bool:
    """A shim will not write more to it, or never wrote it."""
    lines = text.count("\n")
    return lines > 1 or (lines == 1 and Claim.parse(text).shim is None)


def bury(directory: Path) -> bool:
    """Give the attempt up: no shim can start it any more. False when one was faster."""
    for made in (directory.parent, directory):  # a shim that was asked to start it may still be about to make them
        with suppress(FileExistsError):
            made.mkdir(0o700)
    try:
        with (directory / PID_NAME).open("x") as tombstone:
            tombstone.write(TOMBSTONE)
    except FileExistsError:
        return False
    return True


def exit_code(directory: Path, job: Identity | None) -> int | None:
    """None: not written, not yet whole, or not of that job, where it is known which it is."""
    with suppress(FileNotFoundError):
        match read_plain(directory / EXIT_NAME).decode(errors="replace").split(" "):
            case [code, pid, start] if start.endswith("\n") and _numbers(code, pid, start[:-1]):
                if job is None or job == Identity(int(pid), int(start)):
                    return int(code)
            case _:
                pass
    return None


def _numbers(*words: str) -> bool:
    return all(word.isascii() and word.isdecimal() for word in words)
