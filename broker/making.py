"""The verbs that make jobs: validate, submit, submit_many, rerun. What they make is on disk when they answer."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from broker.admission.admission import Admission
from broker.admission.admitted import Admitted
from broker.crashpoint import crash_here
from broker.errors import BadInput
from broker.ledger.ledger import Ledger
from broker.ledger.records import NewJob
from broker.protocol.api import Finding, SubmitRequest, Validation
from broker.protocol.job import Job, JobSpec
from broker.protocol.states import JobState


class Making:
    def __init__(
        self,
        ledger: Ledger,
        admission: Admission,
        wake: Callable[[], None],
        forecast: Callable[[JobSpec], Awaitable[str]],
    ) -> None:
        """`wake`: called when there is something to start. `forecast`: where and when a job would start."""
        self._ledger = ledger
        self._admission = admission
        self._wake = wake
        self._forecast = forecast

    async def validate(self, request: SubmitRequest, by: str = "") -> Validation:
        """What submit would do; never raises for bad input."""
        admitted = await self._admission.read(request, by=by)
        spec = admitted.spec
        if spec is None:
            return Validation(ok=False, findings=admitted.findings, data=admitted.data)
        return Validation(
            ok=True,
            findings=[*admitted.findings, *await self._sharing(spec)],
            spec=spec,
            data=admitted.data,
            would_start="held" if request.hold else await self._forecast(spec),
            pace=await self._ledger.pace(spec),
        )

    async def _sharing(self, spec: JobSpec, job_id: int | None = None) -> list[Finding]:
        """What is to be said of its task id, as the ledger says it of a new job."""
        shared = None if spec.task_id is None else await self._ledger.shared_task_id(spec.task_id, job_id)
        return [] if shared is None else [shared]

    async def submit(
        self,
        request: SubmitRequest,
        key: str | None = None,
        by: str = "",
        trial: int | None = None,
        digest: str | None = None,
    ) -> tuple[Job, bool]:
        """The job and whether it is new. `digest`: of what was sent with `key`, where that is not the request. Raises
        BadInput (nothing was changed), IdempotencyConflict, LedgerFull; NotFound where the key's job was removed."""
        digest = digest or digest_of([request])
        admitted = await self._admission.read(request, by=by)
        if admitted.spec is None and (before := await self.answered(key, digest)) is not None:
            return await self._ledger.job(before[0]), False
        if trial is not None and admitted.spec is not None:
            admitted = replace(admitted, spec=admitted.spec.model_copy(update={"trial_number": trial}))
        job, fresh = await self._ledger.submit_one(_new(admitted, request), by, key, digest)
        crash_here("after-submit-commit")
        if fresh:
            self._wake()
        return job, fresh

    async def answered(self, key: str | None, digest: str) -> list[int] | None:
        """The jobs that were submitted with that key; None where it is new. Raises IdempotencyConflict.

        Asked before anything is refused, for what was right when it was sent first stays so, whatever has moved since.
        Of what is not refused the ledger asks it as it writes.
        """
        return None if key is None else await self._ledger.answered(key, digest)

    async def submit_many(self, requests: Sequence[SubmitRequest], key: str | None = None, by: str = "") -> list[int]:
        """All or none. Raises as `submit` does; findings name the job by its place, `jobs.3.train.epochs`."""
        digest = "" if key is None else digest_of(requests)
        admitted = await self._admission.read_all(requests, by=by)
        refused = [
            finding.model_copy(update={"where": f"jobs.{place}.{finding.where}".rstrip(".")})
            for place, read in enumerate(admitted)
            if read.spec is None
            for finding in read.findings
            if finding.level == "error"
        ]
        if refused:
            if (before := await self.answered(key, digest)) is not None:
                return before
            raise BadInput(refused[:50], next(read.code for read in admitted if read.spec is None))
        jobs = [_new(read, request) for read, request in zip(admitted, requests, strict=True)]
        made = await self._ledger.submit(jobs, by, key, digest)
        crash_here("after-submit-commit")
        self._wake()
        return [submitted.id for submitted in made]

    async def rerun(self, job_id: int, key: str | None = None, by: str = "") -> Job:
        """A new job with the same spec, checked again; it has no task id, for that is the first one's."""
        digest = hashlib.sha256(f"rerun {job_id}".encode()).hexdigest()
        old = await self._ledger.job(job_id)
        again = SubmitRequest(spec=spec_of(old).model_copy(update={"task_id": None, "priority": old.priority}))
        admitted = await self._admission.read(again, by=by)
        if admitted.spec is None and (before := await self.answered(key, digest)) is not None:
            return await self._ledger.job(before[0])
        made, _ = await self._ledger.submit_one(replace(_new(admitted, again), parent_id=job_id), by, key, digest)
        self._wake()
        return made


def _new(admitted: Admitted, request: SubmitRequest) -> NewJob:
    return NewJob(
        spec=admitted.required(),
        state=JobState.HELD if request.hold else JobState.QUEUED,
        warnings=admitted.warnings,
    )


def digest_of(requests: Sequence[SubmitRequest]) -> str:
    digest = hashlib.sha256()
    for request in requests:
        digest.update(request.model_dump_json(exclude_unset=True).encode())
    return digest.hexdigest()


def spec_of(job: Job) -> JobSpec:
    assert job.spec is not None  # Ledger.job reads it
    return job.spec
