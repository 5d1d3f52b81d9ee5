"""The verbs: submit, stop, kill, resume, rerun, hold, release, priority, move, preempt, edit, remove, resolve.

Each checks, writes through the ledger and wakes who must act. None waits for a process. `stop` and `kill` are
idempotent and true of a job that is queued, starting, running or gone.
"""

from broker.protocol.api import MoveRequest, ResolveRequest, SubmitRequest, Validation
from broker.protocol.job import Job, Priority


class Control:
    async def validate(self, request: SubmitRequest) -> Validation:
        """What submit would do; never raises for bad input."""
        raise NotImplementedError

    async def submit(self, request: SubmitRequest, key: str | None = None, by: str = "") -> tuple[Job, bool]:
        """The job and whether it is new. Raises BadInput (nothing was changed), IdempotencyConflict, LedgerFull."""
        raise NotImplementedError

    async def submit_many(self, requests: list[SubmitRequest], key: str | None = None, by: str = "") -> list[int]:
        """All or none."""
        raise NotImplementedError

    async def edit(self, job_id: int, request: SubmitRequest, by: str = "") -> Job:
        raise NotImplementedError

    async def stop(self, job_id: int, grace_s: float | None = None, by: str = "") -> Job:
        raise NotImplementedError

    async def kill(self, job_id: int, by: str = "") -> Job:
        raise NotImplementedError

    async def preempt(self, job_id: int, by: str = "") -> Job:
        """Stop it with a checkpoint and put it back into the queue, last of its priority."""
        raise NotImplementedError

    async def resume(self, job_id: int, epochs: int | None = None, by: str = "") -> Job:
        """From the newest good checkpoint, or from the start where there is none (said in the message)."""
        raise NotImplementedError

    async def rerun(self, job_id: int, by: str = "") -> Job:
        """A new job with the same spec."""
        raise NotImplementedError

    async def hold(self, job_id: int, by: str = "") -> Job:
        raise NotImplementedError

    async def release(self, job_id: int, by: str = "") -> Job:
        raise NotImplementedError

    async def priority(self, job_id: int, priority: Priority, by: str = "") -> Job:
        raise NotImplementedError

    async def move(self, job_id: int, where: MoveRequest, by: str = "") -> Job:
        raise NotImplementedError

    async def resolve(self, job_id: int, verdict: ResolveRequest, by: str = "") -> Job:
        """A person's word about an UNKNOWN job."""
        raise NotImplementedError

    async def remove(self, job_id: int, files: bool = False, by: str = "") -> None:
        """Refuses an active job. `files`: its directory too."""
        raise NotImplementedError
