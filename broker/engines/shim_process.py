"""The process between the broker and a local job: it outlives the broker and writes down how the job ended.

Run by its path with -I -S and the wire to the broker as file 3, so it imports next to nothing. It runs one job at a
time, and another when the broker says so; once the broker is gone it ends with its job. What its job leaves behind
becomes its child (it is a subreaper), whatever it has made of its session and its environment: so it ends all of that,
with or without a broker, and knows for certain when nothing is left.
"""

import ctypes
import errno
import marshal
import os
import signal
import stat
import sys
import time

WIRE = 3
LENGTH = 4  # bytes, little endian, before each order
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK
TOMBSTONE = b"never\n"
PR_SET_CHILD_SUBREAPER = 36
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
RETRY_S = 1.0  # while the disk is full
BRIEF_S = 0.005  # of a job that ends sooner, start and end are told together: the broker wakes once
FIRST_PAUSE_S, LAST_PAUSE_S = 0.01, 0.25  # between looks at what a job has left behind
CHILD = (signal.SIGCHLD,)
# what Python ignores, and what this process does
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


def main(boot: str, grace_s: float) -> None:
    """`grace_s`: for what a job leaves behind, between SIGTERM and SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # they are meant for the job
        signal.signal(signum, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD)  # waited for
    os.chdir("/")
    own = f"{os.getpid()} {_stat(os.getpid())[2]} {boot}"
    while (order := _order()) is not None:
        files, cwd, argv, env, kills = order
        began = f"{own} {kills}\n"
        told, job, start = _launch(began.encode(), files, cwd, argv, env)
        if not (job and _ends_within(job, BRIEF_S)):
            _say(told)
            told = ""
        if not job:
            continue
        code = _wait(job)
        end = f"{began}{job} {start}\n{code}\n".encode()
        written = _write(files[0], end)
        alone = _alone()
        if not alone:
            if told:
                _say(told)
                told = ""
            alone = _end_the_rest(grace_s)
        heard = _say(f"{told}ended {code} {alone:d} {written:d}\n")
        while not (heard or written):
            time.sleep(RETRY_S)
            written = _write(files[0], end)


def _order() -> "tuple[tuple[str, str], str, list[str], dict[str, str], int] | None":
    """Its claim and its log, where it runs, what, and how often the kernel has killed for lack of memory.
    None: the broker is gone, or wants no more."""
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


def _launch(
    own: bytes, files: "tuple[str, str]", cwd: str, argv: "list[str]", env: "dict[str, str]"
) -> "tuple[str, int, int]":
    """What the broker is to be told, the job's pid or 0, and its start. Who creates the claim (O_EXCL) has the
    attempt."""
    step, claim, log = "directory", -1, -1
    folder = os.path.dirname(files[0])
    try:
        _make(folder)
        log = os.open(files[1], NEW | os.O_APPEND, 0o600)
        claim = os.open(files[0], NEW, 0o600)
        os.write(claim, own)
        if os.path.dirname(cwd) == folder:
            _make(cwd)
        step = "cwd"
        os.chdir(cwd)
        step = "spawn"
        job = _spawn(argv, env, log)
    except FileExistsError:
        return "taken\n", 0, 0
    except (OSError, ValueError) as error:
        if claim >= 0:
            _bury(claim)
        return f"refused {step} {getattr(error, 'errno', 0) or 0}\n", 0, 0
    else:
        start = _stat(job)[2]
        try:
            os.write(claim, f"{job} {start}\n".encode())
        except OSError:
            pass  # the disk is full: the job is known by its environment
        return f"started {job} {start}\n", job, start
    finally:
        for handle in (log, claim):
            if handle >= 0:
                os.close(handle)
        os.chdir("/")


def _make(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass


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
    """No descendant is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _end_the_rest(grace_s: float) -> bool:
    """SIGTERM to what the job has left behind, and SIGKILL to what does not leave in time. False: what is left runs as
    another user, who is out of our reach."""
    deadline = time.monotonic() + grace_s
    told: set[tuple[int, int]] = set()
    pause = FIRST_PAUSE_S
    while not _alone():
        late = time.monotonic() > deadline
        reached = False
        for process in _descendants():
            if late or process not in told:
                told.add(process)
                reached |= _send(*process, signal.SIGKILL if late else signal.SIGTERM)
        if late and not reached:
            return _alone()
        signal.sigtimedwait(CHILD, pause)
        pause = min(pause * 1.5, LAST_PAUSE_S)
    return True


def _descendants() -> "list[tuple[int, int]]":
    """Pid and start of each that lives."""
    found: dict[int, tuple[bytes, int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                found[int(name)] = _stat(int(name))
            except OSError:
                pass  # it has just ended
    ours: list[tuple[int, int]] = []
    more = [os.getpid()]
    while more:
        parent = more.pop()
        children = [pid for pid, (_, its_parent, _) in found.items() if its_parent == parent]
        more += children
        ours += [(pid, found[pid][2]) for pid in children if found[pid][0] != b"Z"]
    return ours


def _send(pid: int, start: int, signum: int) -> bool:
    """To this process and no later one with its pid. False when it may not be signalled."""
    try:
        handle = os.pidfd_open(pid)
        try:
            if _stat(pid)[2] == start:
                signal.pidfd_send_signal(handle, signum)
        finally:
            os.close(handle)
    except PermissionError:
        return False
    except OSError:
        pass  # it has ended
    return True


def _write(path: str, claim: bytes) -> bool:
    """The claim as it is in the end, whatever the job has put in its place. False when it may succeed later."""
    try:
        handle = _opened(path)
        try:
            written = os.pwrite(handle, claim, 0)
            if os.fstat(handle).st_size > len(claim):
                os.ftruncate(handle, len(claim))
            return written == len(claim)
        finally:
            os.close(handle)
    except OSError as error:
        return error.errno not in FULL


def _opened(path: str) -> int:
    """A plain file that is there, or a new one."""
    try:
        handle = os.open(path, OLD)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
    except OSError:
        pass
    _make(os.path.dirname(path))
    _clear(path)
    return os.open(path, NEW, 0o600)


def _clear(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        os.rename(path, f"{path}.{os.getpid()}")


def _stat(pid: int) -> "tuple[bytes, int, int]":
    """Its state, its parent, and when it began, in clock ticks since boot."""
    handle = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    try:
        stat = os.read(handle, 4096)
    finally:
        os.close(handle)
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
