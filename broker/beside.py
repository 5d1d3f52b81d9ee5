"""Where the broker keeps what it writes of an attempt: beside the attempt's directory, which is the job's own.

`jobs/<job>/<fence>` is where it works; `jobs/<job>/<fence>.log` is what it said. A job whose folder is all that it may
write (in a container) cannot touch these, and one that tidies up where it was put does not meet them.
"""

from pathlib import Path

LOG = "log"  # its output
TIMES = "times"  # when which part of that was read: "<offset> <milliseconds since 1970>" a line
CLAIM = "claim"  # who runs it on this machine, and how it ended: engines/claim.py
RECORD = "docker"  # the same of a container: engines/docker_record.py
FETCHED = "fetched"  # an archive on its way here
LEASE = "lease"  # of a training that fences itself: supervisor/lease.py
OWN = frozenset({TIMES, CLAIM, RECORD, FETCHED, LEASE})  # of no use to a person


def beside(directory: Path, kind: str) -> Path:
    return directory.with_name(f"{directory.name}.{kind}")
