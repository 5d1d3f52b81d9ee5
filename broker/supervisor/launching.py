"""An attempt is launched, or one that was launched before is found again."""

from collections.abc import Sequence
from contextlib import suppress

from broker.crashpoint import crash_here
from broker.engines.base import Engine, Handle
from broker.errors import AlreadyLaunched, AttemptGone, EngineError, LedgerFull
from broker.protocol.job import Checkpoint, TrainWork
from broker.supervisor import work
from broker.supervisor.lease import Lease
from broker.supervisor.means import Means
from broker.supervisor.standing import Standing


class Launching:
    def __init__(self, means: Means, standing: Standing, lease: Lease) -> None:
        self._means = means
        self._standing = standing
        self._lease = lease
        self._job = standing.job
        self._attempt = standing.attempt
        self.doing = ""  # what takes time before it starts

    async def launch(self, engine: Engine) -> Handle:
        """Raises what `Engine.launch` and `Engine.attach` raise."""
        config, told = None, dict[str, str]()
        if isinstance(work.spec_of(self._job).work, TrainWork):
            config = work.train_config(self._job, self._attempt, self._means.settings, *await self._earlier())
        try:
            if config is not None:
                work.make_directory(self._standing.directory)
                told = self._lease.grant()
            launch = work.prepare(
                self._job,
                self._attempt,
                self._standing.ref,
                self._standing.directory,
                config,
                trainer=self._means.trainer,
                told=told,
                tell=self._prepares,
            )
        except OSError as error:
            raise EngineError(
                f"the attempt's directory cannot be made ({error}); nothing was started: make room there, "
                f"then `wyolo resume {self._job.id}`"
            ) from error
        try:
            async with self._lease.kept(engine):
                handle = await engine.launch(launch)
        except AlreadyLaunched:
            return await self.attach(engine)
        finally:
            self.doing = ""
        crash_here("after-spawn")
        return handle

    async def attach(self, engine: Engine) -> Handle:
        """Raises what `Engine.attach` raises."""
        return await engine.attach(self._standing.ref, self._standing.directory, self._attempt.engine_ref)

    async def _prepares(self, what: str) -> None:
        """Its engine gets ready: told to who asks, and written down when it begins. Raises AttemptGone when its owner
        wants it to end."""
        if self._standing.heeded:
            raise AttemptGone(f"it was given up before it started: {what}")
        if not self.doing:
            with suppress(LedgerFull):
                await self._standing.advance("prepare", message=what)
        self.doing = what
        self._means.told()

    async def _earlier(self) -> tuple[Sequence[Checkpoint], int | None]:
        """Checkpoints of earlier attempts, newest first, and the batch that the last of them started with."""
        if self._attempt.fence == 1:
            return (), None
        checkpoints = await self._standing.checkpoints()
        training = work.spec_of(self._job).work
        assert isinstance(training, TrainWork)
        batch: int | None = None
        if work.wants_resolved_batch(training):
            entry = await self._means.ledger.newest(self._job.id, "started")
            batch = None if entry is None else entry.data.get("batch")
        return checkpoints, batch
