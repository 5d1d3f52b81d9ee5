"""An attempt's directory made ready for a container: what the broker writes there exists, and the job's user may enter.

Blocking. The jobs' directory itself is private: only who is given a mount gets this far.
"""

import os
from contextlib import suppress
from pathlib import Path

from broker.protocol.job import LOG_NAME, TIMES_NAME

_ENTER = 0o711
_OURS = (LOG_NAME, TIMES_NAME)


def prepare(directory: Path, user: str) -> None:
    """`user`: "uid:gid" of the container, to whom the directory is given with what lies in it; "": as it is.

    Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in _OURS:
        with suppress(FileExistsError):
            os.close(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if not user:
        return
    uid, gid = (int(part) for part in user.split(":"))
    if (os.geteuid(), os.getegid()) == (uid, gid):
        return
    directory.parent.chmod(_ENTER)
    for folder in sorted(directory.parent.iterdir()):
        if folder.is_dir() and not folder.is_symlink():
            _give(folder, uid, gid)


def _give(folder: Path, uid: int, gid: int) -> None:
    """All of it but what the broker writes. Earlier attempts too: their checkpoints are gone on from."""
    if folder.stat().st_uid == uid:
        return
    for _, folders, files, handle in os.fwalk(folder):
        os.fchown(handle, uid, gid)
        for name in (*folders, *files):
            if name not in _OURS:
                os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
