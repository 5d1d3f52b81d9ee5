"""What lies in a local attempt's directory: who has claimed it and runs it (`pid`), and how it ended (`exit`).

Written by `shim_process.py`. Who creates `pid` (O_EXCL) has the attempt: a shim, or a broker that gives it up for good.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.engines import proc, shim_process
from broker.engines.proc import Identity
from broker.plain import read_plain

# a line each: the shim's "<pid> <start time> <boot id>", the job's "<pid> <start time>"; or TOMBSTONE
PID_NAME = shim_process.PID
EXIT_NAME = shim_process.EXIT  # the exit code in decimal
LOG_NAME = shim_process.LOG
TOMBSTONE = shim_process.TOMBSTONE.decode()  # the attempt was given up before it started, and can never start


@dataclass(frozen=True, slots=True)
class Claim:
    """None of it is known where the file is not whole: nothing was started, or the machine went down."""

    shim: Identity | None = None
    job: Identity | None = None  # None: it has just been started, or not yet

    @classmethod
    def parse(cls, text: str) -> "Claim":
        """Of this boot."""
        shim = job = None
        for line in text.split("\n")[:2]:
            match line.split():
                case [pid, start, boot_id] if pid.isdecimal() and start.isdecimal() and boot_id == proc.boot_id():
                    shim = Identity(int(pid), int(start))
                case [pid, start] if shim is not None and pid.isdecimal() and start.isdecimal():
                    job = Identity(int(pid), int(start))
                case _:
                    break
        return cls(shim, job)


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


def exit_code(directory: Path) -> int | None:
    """None: not written, or not yet whole."""
    with suppress(FileNotFoundError, ValueError):
        written = read_plain(directory / EXIT_NAME)
        if written.endswith(b"\n"):
            return int(written)
    return None
