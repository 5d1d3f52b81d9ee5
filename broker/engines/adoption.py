"""What can be found out about an attempt that another broker has started, or was about to start.

Its claim tells, as long as it is as a shim wrote it. The job may have changed or removed it: then the ledger's word on
which process it was, and the processes that carry its mark. Without any trace it never started, and never will: but
what somebody knows to have been started is never taken for that.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from broker.engines import claim, proc
from broker.engines.claim import Claim
from broker.engines.proc import Identity
from broker.engines.shims import MARK as SHIM_MARK

_CLAIMED_S = 1.0  # how long a shim may take between creating the claim and filling it
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt that was started."""

    shim: Identity | None = None  # that has it still, and will write down how it ends; None: it has ended
    job: Identity | None = None
    memory_kills: int | None = None  # when it began, where that is known


async def find(mark: str, broker_id: str, directory: Path, engine_ref: str) -> Found | None:
    """None: it never started, and cannot any more. Raises OSError."""
    text = await _claim(directory)
    claimed = Claim.parse(text or "")
    told = reference(engine_ref)
    if claimed.shim is not None:
        return _as_claimed(claimed, told, mark, broker_id, directory)
    if told is None and claimed.exit_code is not None:
        return Found()
    found = await asyncio.to_thread(_by_mark, mark, told, broker_id)
    known = found is not None or engine_ref or text is not None
    return found or Found(job=told) if known else None


def reference(engine_ref: str) -> Identity | None:
    """The job's process, if it began in this boot."""
    match engine_ref.split(":"):
        case [pid, start, boot_id] if pid.isdecimal() and start.isdecimal() and boot_id == proc.boot_id():
            return Identity(int(pid), int(start))
        case _:
            return None


async def _claim(directory: Path) -> str | None:
    """Its claim. None when there is none: then ours takes its place, and no shim can start it any more."""
    deadline = asyncio.get_running_loop().time() + _CLAIMED_S
    while True:
        text = claim.read(directory)
        if text is None:
            text = claim.TOMBSTONE if claim.bury(directory) else ""
        if text == claim.TOMBSTONE:
            return None
        if claim.is_whole(text) or asyncio.get_running_loop().time() > deadline:
            return text
        await asyncio.sleep(_LOOK_S)


def _as_claimed(claimed: Claim, told: Identity | None, mark: str, broker_id: str, directory: Path) -> Found:
    shim, job = claimed.shim, claimed.job
    if shim is None or not _is_shim(shim, broker_id):  # its pid is another's now, or nobody's; the job's may be as well
        if job is not None and job != told and proc.mark(job.pid) != mark:
            job = None
        return Found(None, job, claimed.memory_kills)
    ended = job is None or not proc.lives(job)
    if ended and claim.exit_code(directory, job) is not None:  # it is about to end, or went on to another job
        shim = None
    return Found(shim, job, claimed.memory_kills)


def _by_mark(mark: str, told: Identity | None, broker_id: str) -> Found | None:
    """By what lives of it. Its own process is the child of a shim and leads a session, and so may be what it has left
    behind. Blocking, a few milliseconds."""
    alive = [process for pid in proc.pids() if (process := proc.process(pid)) is not None and not process.dead]
    ours = [process for process in alive if process.identity == told or proc.mark(process.pid) == mark]
    for process in sorted(ours, key=lambda process: (process.identity != told, process.start)):
        parent = proc.process(process.parent)
        if parent is not None and process.session == process.pid and _is_shim(parent.identity, broker_id):
            return Found(parent.identity, told or process.identity)
    return Found(job=told) if ours else None


def _is_shim(shim: Identity, broker_id: str) -> bool:
    return proc.lives(shim) and proc.variable(shim.pid, SHIM_MARK) == broker_id
