"""An attempt's directory made ready for a container: it exists, and is the job's user's.

Blocking. The jobs' directory itself is private: only who is given a mount gets this far.
"""

import os
from pathlib import Path

_ENTER = 0o711


def prepare(directory: Path, user: str) -> None:
    """`user`: "uid:gid" of the container, to whom the directory is given with what lies in it; "": as it is.

    Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    """All of it. Earlier attempts too: their checkpoints are gone on from."""
    if folder.stat().st_uid == uid:
        return
    for _, folders, files, handle in os.fwalk(folder):
        os.fchown(handle, uid, gid)
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
