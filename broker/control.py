"""The verbs: stop, kill, resume, hold, release, priority, move, preempt, edit, remove, resolve; making.py has the rest.

Each checks, writes through the ledger and wakes who must act. None waits for a process. `stop` and `kill` are
idempotent and true of a job that is queued, starting, running or gone.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from broker.admission.admission import Admission
from broker.errors import BadInput, Conflict
from broker.ledger.ledger import Ledger
from broker.ledger.records import Change
from broker.making import Making, spec_of
from broker.protocol.api import ErrorCode, Finding, MoveRequest, ResolveRequest, SubmitRequest
from broker.protocol.findings import line
from broker.protocol.job import Job, JobSpec, TrainWork
from broker.protocol.states import ACTIVE, FINAL, WAITING, EndReason, Intent, JobState, Priority

TRIES = 8  # how often a verb is decided again because the job changed under it


class Supervising(Protocol):
    """Who acts on the intents of running jobs."""

    def heed(self, job_id: int) -> None:
        """Its intent has changed."""
        ...

    async def resolve(self, job_id: int, alive: bool, by: str) -> Job:
        """A person's word about an UNKNOWN job."""
        ...


class Control(Making):
    """`wake`: called after each change that the scheduler may act on. `jobs_dir`: the jobs' directories, by id."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        admission: Admission,
        supervisor: Supervising,
        wake: Callable[[], None],
        jobs_dir: Path,
        forecast: Callable[[JobSpec], Awaitable[str]],
    ) -> None:
        super().__init__(ledger, admission, wake, forecast)
        self._supervisor = supervisor
        self._jobs_dir = jobs_dir
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._edits: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    # --- what a job is to do ---

    async def edit(self, job_id: int, request: SubmitRequest, by: str = "") -> Job:
        """Change a waiting job: the request says only what changes. Raises BadInput, Conflict.

        One edit of a job after another, each from what the one before left. Its data set may take long to look through,
        and meanwhile other verbs are not kept waiting.
        """
        async with self._edits.setdefault(job_id, asyncio.Lock()):
            before = await self._ledger.job(job_id)
            base = spec_of(before).model_copy(update={"priority": before.priority})
            admitted = await self._admission.read(request, base)
            spec = admitted.required()
            priority = None if spec.priority is base.priority else spec.priority
            said = [*admitted.warnings, *map(line, await self._sharing(spec, job_id))]

            def decide(job: Job) -> Change:
                if job.state not in WAITING:
                    raise _unfit(job, "edited", "only a job that waits can be: rerun it with other values instead")
                if job.spec != before.spec:
                    raise _unfit(job, "edited", "what it will do has changed meanwhile: edit it again")
                to = JobState.HELD if request.hold and job.state is JobState.QUEUED else None
                return Change(job_id, "edit", to=to, by=by, spec=spec, priority=priority, warnings=said)

            return await self._change(job_id, decide)

    # --- ending ---

    async def stop(self, job_id: int, grace_s: float | None = None, by: str = "") -> Job:
        """A running one checkpoints and leaves within `grace_s` seconds (None: as the settings say), then counts as
        stopped."""
        return await self._end(job_id, Intent.STOP, EndReason.USER_STOP, grace_s, by)

    async def kill(self, job_id: int, by: str = "") -> Job:
        """SIGKILL; what was not checkpointed is lost."""
        return await self._end(job_id, Intent.KILL, EndReason.KILLED, None, by)

    async def _end(self, job_id: int, intent: Intent, reason: EndReason, grace_s: float | None, by: str) -> Job:
        data: dict[str, Any] = {} if grace_s is None else {"grace_s": grace_s}

        def decide(job: Job) -> Change | None:
            if job.state in FINAL or job.intent in {intent, Intent.KILL}:
                return None
            if job.state in WAITING:
                message = f"taken out of the queue{_at(job)}; resume puts it back"
                return Change(job_id, intent.value, to=JobState.STOPPED, reason=reason, message=message, by=by)
            return Change(job_id, intent.value, intent=intent, by=by, data=data)

        return await self._change(job_id, decide)

    async def preempt(self, job_id: int, by: str = "") -> Job:
        """Stop it with a checkpoint and put it back into the queue, last of its priority."""
        last = (await self._ledger.bounds((await self._ledger.job(job_id)).priority))[1] or 0.0

        def decide(job: Job) -> Change | None:
            if job.intent is Intent.PREEMPT or job.state is JobState.QUEUED:
                return None
            if job.state not in ACTIVE:
                raise _unfit(job, "preempted", "only a running job can be")
            if job.intent is not None:
                raise _unfit(job, "preempted", f"it is being ended ({job.intent})")
            return Change(job_id, "preempt", intent=Intent.PREEMPT, rank=max(job.rank, last + 1), by=by)

        return await self._change(job_id, decide)

    async def evict(self, job_id: int, node: str, by: str = "") -> Job:
        """Its node is taken back: it saves, leaves, and is next again. One that is being ended anyhow is left alone."""

        def decide(job: Job) -> Change | None:
            if job.state not in ACTIVE or job.node != node or job.intent is not None:
                return None
            return Change(job_id, "evict", intent=Intent.EVICT, by=by, data={"node": node})

        return await self._change(job_id, decide)

    # --- going on ---

    async def resume(self, job_id: int, epochs: int | None = None, by: str = "") -> Job:
        """From the newest good checkpoint, or from the start where there is none (said in the message).

        `epochs`: extend to so many in all. Raises Conflict where there is nothing to go on with.
        """
        saved = await self._ledger.checkpoints(job_id)
        shared = list(map(line, await self._sharing(spec_of(await self._ledger.job(job_id)), job_id)))

        def decide(job: Job) -> Change:
            if job.state is JobState.HELD:
                raise _unfit(job, "resumed", "release it")
            if job.state not in FINAL:
                raise _unfit(job, "resumed", "it goes on by itself")
            spec = _extended(job, epochs)
            if job.kind == "command":
                message = "runs again from the start: a command has no checkpoints"
            elif saved:
                message = f"goes on after epoch {saved[0].epoch}"
            else:
                message = "no checkpoint was kept: starts at epoch 1"
            said = list(dict.fromkeys([*job.warnings, *shared]))
            return Change(
                job_id, "resume", to=JobState.QUEUED, message=message, by=by, spec=spec, warnings=said, infra_deaths=0
            )

        return await self._change(job_id, decide)

    async def resolve(self, job_id: int, verdict: ResolveRequest, by: str = "") -> Job:
        """A person's word about an UNKNOWN job."""
        job = await self._ledger.job(job_id)
        if job.state is not JobState.UNKNOWN:
            raise _unfit(job, "resolved", "only a job whose engine is out of reach waits for a person's word")
        return await self._supervisor.resolve(job_id, verdict.verdict == "alive", by)

    # --- the order of waiting ---

    async def hold(self, job_id: int, by: str = "") -> Job:
        def decide(job: Job) -> Change | None:
            if job.state is JobState.HELD:
                return None
            if job.state is not JobState.QUEUED:
                hint = "stop it, and resume it later" if job.state in ACTIVE else "it has ended"
                raise _unfit(job, "held", hint)
            return Change(job_id, "hold", to=JobState.HELD, by=by)

        return await self._change(job_id, decide)

    async def release(self, job_id: int, by: str = "") -> Job:
        def decide(job: Job) -> Change | None:
            if job.state is JobState.QUEUED:
                return None
            if job.state is not JobState.HELD:
                raise _unfit(job, "released", "resume it" if job.state in FINAL else "it is not held")
            return Change(job_id, "release", to=JobState.QUEUED, by=by)

        return await self._change(job_id, decide)

    async def priority(self, job_id: int, priority: Priority, by: str = "") -> Job:
        """Of an active job it counts when it waits again."""

        def decide(job: Job) -> Change | None:
            if job.state in FINAL:
                raise _unfit(job, f"given priority {priority}", "resume it first")
            if job.priority is priority:
                return None
            return Change(job_id, "priority", priority=priority, by=by, data={"from": job.priority.value})

        return await self._change(job_id, decide)

    async def move(self, job_id: int, where: MoveRequest, by: str = "") -> Job:
        """Beside another waiting job it takes on that one's priority too. Raises BadInput, Conflict."""
        if sum(place is not None for place in (where.before, where.after, where.to)) != 1:
            hint = "give one of `before`, `after` and `to`"
            raise BadInput([Finding(message="where to is not clear", hint=hint)], ErrorCode.BAD_REQUEST)
        priority, rank = await self._place(job_id, where)

        def decide(job: Job) -> Change | None:
            if job.state not in WAITING:
                raise _unfit(job, "moved", "only a job that waits has a place in the queue")
            if (job.priority, job.rank) == (priority or job.priority, rank):
                return None
            return Change(job_id, "move", priority=priority, rank=rank, by=by, data={"from": job.rank})

        return await self._change(job_id, decide)

    async def _place(self, job_id: int, where: MoveRequest) -> tuple[Priority | None, float]:
        """Priority (None: as it is) and rank of the place that is meant."""
        other_id = where.before if where.before is not None else where.after
        if other_id is None:
            job = await self._ledger.job(job_id)
            first, last = await self._ledger.bounds(job.priority)
            end, step = (first, -1) if where.to == "first" else (last, 1)
            return None, job.rank if end is None or end == job.rank else end + step
        other = await self._ledger.job(other_id)
        if other_id == job_id:
            return None, other.rank
        if other.state not in WAITING:
            raise _unfit(other, "a neighbour in the queue", "it does not wait")
        below, above = await self._ledger.neighbours(other_id)
        side, step = (below, -1) if where.before is not None else (above, 1)
        rank = other.rank + step if side is None else (side + other.rank) / 2
        if rank in {side, other.rank}:
            raise _unfit(other, "given one more neighbour there", "move it to the front or the back first")
        return other.priority, rank

    # --- forgetting ---

    async def remove(self, job_id: int, files: bool = False, by: str = "") -> None:
        """Refuses an active job. `files`: its directory too."""
        async with self._lock(job_id):
            await self._ledger.remove(job_id, by)
        self._wake()
        if files:
            await self._delete_files(job_id)

    async def expire(self, job_id: int, why: str) -> None:
        """Of an ended job the files go, and all that was written down stays; a resume begins at the first epoch. Said
        once, however often it takes. Raises NotFound, Conflict."""
        async with self._lock(job_id):
            job, said = await self._ledger.job(job_id), await self._ledger.newest(job_id, "expire")
            if said is None or job.ended_at is None or said.at < job.ended_at:
                told = {"message": f"its files are removed: {why}"}
                await self._ledger.expire(Change(job_id, "expire", expect=FINAL, data=told))
            await self._delete_files(job_id)

    async def _delete_files(self, job_id: int) -> None:
        await asyncio.to_thread(shutil.rmtree, self._jobs_dir / str(job_id), ignore_errors=True)

    # --- how a verb is done ---

    async def _change(self, job_id: int, decide: Callable[[Job], Change | None]) -> Job:
        """The job after what `decide` wants done with it as it is (None: nothing); asked again if that was outrun."""
        async with self._lock(job_id):
            for attempt in range(1, TRIES + 1):
                job = await self._ledger.job(job_id)
                change = decide(job)
                if change is None:
                    if job.intent is not None:
                        self._supervisor.heed(job_id)
                    return job
                try:
                    changed = await self._ledger.advance(replace(change, expect=frozenset({job.state})))
                except Conflict:
                    if attempt == TRIES or (await self._ledger.job(job_id)).state is job.state:
                        raise
                    continue
                if changed.intent is not None:
                    self._supervisor.heed(job_id)
                self._wake()
                return changed.model_copy(update={"spec": change.spec or job.spec})
        raise AssertionError("unreachable")

    def _lock(self, job_id: int) -> asyncio.Lock:
        return self._locks.setdefault(job_id, asyncio.Lock())


def _extended(job: Job, epochs: int | None) -> JobSpec | None:
    """The spec with more epochs, None where it stays. Raises Conflict."""
    spec, done = spec_of(job), job.state is JobState.COMPLETED
    if not isinstance(spec.work, TrainWork):
        if epochs is not None or done:
            raise _unfit(job, "resumed", "a command has no epochs to go on with: rerun it")
        return None
    planned = job.epochs or spec.work.epochs
    if done and (epochs is None or epochs <= planned):
        raise _unfit(job, "resumed", f"it has done its {planned} epochs: give more, as in `--epochs {planned * 2}`")
    if epochs is None:
        return None
    if epochs < planned:
        raise _unfit(job, "resumed", f"it was to run {planned} epochs, and that can only grow (asked: {epochs})")
    work = spec.work.model_copy(update={"args": spec.work.args | {"epochs": epochs}})
    return spec.model_copy(update={"work": work})


def _at(job: Job) -> str:
    return f" after epoch {job.epoch}" if job.epoch else ""


def _unfit(job: Job, done: str, hint: str) -> Conflict:
    return Conflict(f"job {job.id} is {job.state} and cannot be {done}; nothing was changed: {hint}")
