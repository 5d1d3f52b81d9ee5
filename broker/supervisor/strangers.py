"""What is found of ours on a node though the ledger does not call it active: given up while its node was out of reach,
or its job was removed. It is ended. Its log and its good checkpoints are kept, its result never.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from broker.engines.base import AttemptRef, Engine, Handle
from broker.errors import AttemptGone, EngineError, NotFound
from broker.ledger.ledger import Ledger
from broker.ledger.records import Change, Recorded
from broker.plain import open_plain
from broker.protocol.job import Checkpoint
from broker.protocol.training import EVENTS_NAME
from broker.supervisor import wire
from broker.supervisor.account import Account

END_S = 60.0  # for a container that was killed, and for the rest of its log
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class Strangers:
    """`active`: the attempts that somebody watches."""

    def __init__(
        self, ledger: Ledger, engines: Mapping[str, Engine], jobs: Path, active: Callable[[], Collection[AttemptRef]]
    ) -> None:
        self._ledger = ledger
        self._engines = engines
        self._jobs = jobs
        self._active = active

    async def end(self) -> int:
        """How many. One node that cannot be reached holds up no other, and is left for the next time."""
        return sum(await asyncio.gather(*map(self._end_on, self._engines.values())))

    async def _end_on(self, engine: Engine) -> int:
        ended = 0
        try:
            found = await self._found(engine)
            again = await self._found(engine) if found else {}  # some had just ended
            for ref in found.keys() & again.keys():
                await self._end_one(engine, ref, again[ref])
                ended += 1
        except (EngineError, TimeoutError) as error:
            _log.warning("node %s was not reconciled: %s", engine.node, error)
        return ended

    async def _found(self, engine: Engine) -> dict[AttemptRef, bool]:
        """Whether each of them runs."""
        inventory = await engine.inventory()
        there = dict.fromkeys(inventory.ended, False) | dict.fromkeys(inventory.alive, True)
        active = self._active()
        return {
            ref: runs for ref, runs in there.items() if ref not in active and ref.broker_id == self._ledger.broker_id
        }

    async def _end_one(self, engine: Engine, ref: AttemptRef, runs: bool) -> None:
        directory = self._jobs / str(ref.job_id) / str(ref.fence)
        if runs:
            _log.warning("%s runs on %s and is not in the ledger: it is killed", ref.name, engine.node)
        try:
            handle = await engine.attach(ref, directory, "")
        except AttemptGone:
            return
        if runs:
            await handle.kill()
        async with asyncio.timeout(END_S):
            await handle.wait()
        with suppress(NotFound):  # its job was removed; the log says it
            kept = await self._keep(ref, directory, handle)
            if runs or kept:
                had = "was still running" if runs else "had ended"
                message = f"attempt {ref.fence}, which had been given up, {had} on {engine.node}"
                message += ": killed" if runs else ""
                message += f"; its checkpoint of epoch {max(kept)} is kept" if kept else ""
                await self._ledger.advance(Change(ref.job_id, "orphan", data={"message": message}))

    async def _keep(self, ref: AttemptRef, directory: Path, handle: Handle) -> list[int]:
        """Epochs of the checkpoints that it had saved, and that are newer than all that is known. Raises NotFound."""
        try:
            events = await handle.fetch(EVENTS_NAME)
        except FileNotFoundError:
            return []
        said = await asyncio.to_thread(_said, ref, events)
        if not said.checkpoints:
            return []
        known = await self._ledger.checkpoints(ref.job_id)
        newest = max((each.epoch for each in known), default=0)
        newer = [each for each in said.checkpoints if each.epoch > newest and each.attempt == ref.fence]
        good = [each for each in newer if await asyncio.to_thread(is_good, each, directory)]
        return await self._ledger.keep(ref.job_id, ref.fence, good, said.epochs) if good else []


def _said(ref: AttemptRef, events: bytes) -> Recorded:
    """All of it. Blocking: of a long training it is much."""
    account = Account(ref.job_id, ref.fence, log_offset=0, last_event=0, epoch=0, epochs=0)
    for event in wire.between(events, 0):
        account.hear(event)
    return account.recorded()


def is_good(checkpoint: Checkpoint, directory: Path) -> bool:
    """It lies in its attempt's directory and is what was written. Blocking: reads all of it."""
    path = Path(checkpoint.path)
    if ".." in path.parts or not path.is_relative_to(directory):
        return False
    try:
        handle = open_plain(path, os.O_RDONLY)
    except OSError:
        return False
    with os.fdopen(handle, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == checkpoint.sha256
