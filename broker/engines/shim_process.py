"""The process between the broker and a local job: it outlives the broker and writes down how the job ended.

Run by its path with -I -S and the wire to the broker as file 3, so it imports next to nothing. It runs one job at a
time, and another when the broker says so; once the broker is gone it ends with its job. What its job leaves behind
becomes its child (it is a subreaper), so that it knows for certain when nothing is left.
"""

import ctypes
import errno
import marshal
import os
import signal
import sys
import time

WIRE = 3
PID, EXIT, LOG = "pid", "exit", "output.log"  # in the attempt's directory
LENGTH = 4  # bytes, little endian, before each order
TOMBSTONE = b"never\n"
PR_SET_CHILD_SUBREAPER = 36
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
RETRY_S = 1.0  # while the disk is full
BRIEF_S = 0.005  # of a job that ends sooner, start and end are told together: the broker wakes once
CHILD = (signal.SIGCHLD,)
# what Python ignores, and what this process does
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def main(boot: str) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # they are meant for the job
        signal.signal(signum, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD)  # waited for
    os.chdir("/")
    own = f"{os.getpid()} {_start(os.getpid())} {boot}\n".encode()
    while (order := _order()) is not None:
        directory, cwd, argv, env = order
        told, job = _launch(own, directory, cwd, argv, env)
        if not (job and _ends_within(job, BRIEF_S)):
            _say(told)
            told = ""
        if not job:
            continue
        code = _wait(job)
        alone = _alone()
        written = _write(f"{directory}/{EXIT}", code)
        heard = _say(f"{told}ended {code} {alone:d} {written:d}\n")
        while not (heard or written):
            time.sleep(RETRY_S)
            written = _write(f"{directory}/{EXIT}", code)


def _order() -> "tuple[str, str, list[str], dict[str, str]] | None":
    """What to run next. None: the broker is gone, or wants no more."""
    head = _read(LENGTH)
    body = _read(int.from_bytes(head, "little")) if head else b""
    return marshal.loads(body) if body else None


def _read(size: int) -> bytes:
    """Exactly so many bytes, or none."""
    data = b""
    while len(data) < size:
        part = os.read(WIRE, size - len(data))
        if not part:
            return b""
        data += part
    return data


def _say(line: str) -> bool:
    """False when nobody hears it."""
    try:
        os.write(WIRE, line.encode())
    except OSError:
        return False
    return True


def _launch(own: bytes, directory: str, cwd: str, argv: "list[str]", env: "dict[str, str]") -> "tuple[str, int]":
    """What the broker is to be told, and the job's pid or 0. The attempt is claimed by creating `pid` with O_EXCL."""
    step, claim, log = "directory", -1, -1
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        for made in (os.path.dirname(directory), directory):
            try:
                os.mkdir(made, 0o700)
            except FileExistsError:
                pass
        new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        log = os.open(f"{directory}/{LOG}", new | os.O_APPEND, 0o600)
        claim = os.open(f"{directory}/{PID}", new, 0o600)
        os.write(claim, own)
        step = "cwd"
        os.chdir(cwd)
        step = "spawn"
        job = _spawn(argv, env, log)
    except FileExistsError:
        return "taken\n", 0
    except (OSError, ValueError) as error:
        if claim >= 0:
            _bury(claim)
        return f"refused {step} {getattr(error, 'errno', 0) or 0}\n", 0
    else:
        start = _start(job)
        try:
            os.write(claim, f"{job} {start}\n".encode())
        except OSError:
            pass  # the disk is full: the job is known by its environment
        return f"started {job} {start}\n", job
    finally:
        for handle in (log, claim):
            if handle >= 0:
                os.close(handle)
        os.chdir("/")


def _bury(claim: int) -> None:
    """Nothing was started, and never will be."""
    try:
        os.ftruncate(claim, 0)
        os.pwrite(claim, TOMBSTONE, 0)
    except OSError:
        pass  # an empty claim says that nobody knows


def _spawn(argv: "list[str]", env: "dict[str, str]", log: int) -> int:
    def spawned(command: "list[str]") -> int:
        return os.posix_spawn(
            command[0],
            command,
            env,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT,
        )

    try:
        return spawned(argv)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return spawned(["/bin/sh", *argv])  # a script without `#!`, as every shell does it


def _ends_within(job: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, job, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        signal.sigtimedwait(CHILD, left)
    return True


def _wait(job: int) -> int:
    """Its exit code as a shell tells it. Others that end are reaped on the way."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == job:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _alone() -> bool:
    """No descendant is left. Those that end later are nobody's to ask about, so the kernel may forget them."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _write(path: str, code: int) -> bool:
    """False when it may succeed later."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(handle, f"{code}\n".encode())
        finally:
            os.close(handle)
    except OSError as error:
        return error.errno not in FULL
    return True


def _start(pid: int) -> int:
    """Of a child that was not reaped, or of this process: when it began, in clock ticks since boot."""
    handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        stat = os.read(handle, 4096)
    finally:
        os.close(handle)
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


if __name__ == "__main__":
    main(sys.argv[1])
