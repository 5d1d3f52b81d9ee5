"""The verbs of nodes: drain, pause, resume. Each checks, is written through the ledger, and wakes who must act.

Nothing starts on a node that is withheld: the ledger itself refuses. What runs there goes on to its end, or, where that
is asked for, saves, leaves and goes on elsewhere.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from broker.control import Control
from broker.errors import BadInput, NotFound
from broker.fleet import Fleet
from broker.ledger.ledger import Ledger
from broker.ledger.records import NodeNote
from broker.protocol.api import ErrorCode, Finding, PauseRequest
from broker.protocol.fleet import Node, NodeState, Withheld

LONGEST = timedelta(days=366)


class NodeVerbs:
    """All raise NotFound with the nearest name, and LedgerFull."""

    def __init__(
        self, fleet: Fleet, ledger: Ledger, control: Control, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._control = control
        self._clock = clock

    async def drain(self, name: str, now: bool = False, by: str = "") -> Node:
        """Until somebody says resume."""
        said = Withheld(state=NodeState.DRAINING, since=self._clock(), by=by)
        return await self._withhold("drain", name, said, now)

    async def pause(self, name: str, request: PauseRequest, by: str = "") -> Node:
        """For a time, or until somebody says resume. Raises BadInput."""
        began = self._clock()
        said = Withheld(state=NodeState.PAUSED, since=began, until=_end(request, began), by=by)
        return await self._withhold("pause", name, said, request.now)

    async def resume(self, name: str, by: str = "") -> Node:
        """Jobs may start there again; true of a node on which they may already."""
        if (node := await self._fleet.node(name, history=False)).withheld is None:
            return node
        return await self._fleet.withhold(name, None, NodeNote("resume", by=by, withheld=None))

    async def _withhold(self, verb: str, name: str, said: Withheld, now: bool) -> Node:
        before = (await self._fleet.node(name, history=False)).withheld
        if before is None or (before.state, before.until) != (said.state, said.until) or now:
            until = {} if said.until is None else {"until": said.until}
            note = NodeNote(verb, by=said.by, withheld=said, data={**until, "now": now})
            await self._fleet.withhold(name, said, note)
        if now:  # whatever is to start there has started: from here on the ledger refuses
            for active in await self._ledger.active():
                if active.attempt.node == name:
                    with suppress(NotFound):  # it has ended, and was removed
                        await self._control.evict(active.job.id, name, said.by)
        return await self._fleet.node(name, history=False)


def _end(request: PauseRequest, began: datetime) -> datetime | None:
    """Raises BadInput; nothing was changed."""
    if request.for_s is not None and request.until is not None:
        raise _refused("until", "a pause has a length or an end, and both were given", "keep one of them")
    if request.for_s is not None:
        if request.for_s <= 0:
            raise _refused("for_s", f"a pause of {request.for_s:g} s is none", "give more than 0 seconds")
        if request.for_s > LONGEST.total_seconds():
            raise _refused("for_s", f"a pause lasts at most {LONGEST.days} days", "leave it out: until resumed")
        return began + timedelta(seconds=request.for_s)
    if request.until is None:
        return None
    if request.until <= began:
        raise _refused("until", f"{request.until.astimezone():%d %b %H:%M} has passed", "give a time to come")
    if request.until > began + LONGEST:
        raise _refused("until", f"a pause lasts at most {LONGEST.days} days", "leave it out: until resumed")
    return request.until.astimezone(UTC)


def _refused(where: str, message: str, hint: str) -> BadInput:
    return BadInput([Finding(where=where, message=message, hint=hint)], ErrorCode.BAD_REQUEST)
