"""What the events screen lists, newest first: the audit trail as far as it was read, and what was heard since. Pure."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from broker.protocol.states import FINAL

if TYPE_CHECKING:
    from broker.protocol.event import AuditEntry, FollowerEvent, JobChanged, NodeChanged
    from wyolo_tui.messages import TrailRead

KEPT = 10_000  # entries that were read
HEARD = 2_000  # ... and that were only heard
STEPS = frozenset({"epoch", "checkpoint"})  # of a training; they would bury the rest, and are told with the job
_SAID_AS = {"draining": "drain", "paused": "pause"}


class Trail:
    """Every entry with a seq above `low` and up to `high` was read. What was heard stands in for those above, until
    they are read: what is heard says less, and of several changes of a job maybe only the last."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.low: int = 0
        self.high: int = 0
        self.was_read = False
        self._heard = 0  # so many at the front of the entries
        self._newest = 0  # seq that is known of

    @property
    def is_whole(self) -> bool:
        """Nothing was before the last entry."""
        return self.was_read and self.low == 0

    @property
    def is_full(self) -> bool:
        return len(self.entries) - self._heard >= KEPT

    def hear(self, events: "Iterable[FollowerEvent]") -> bool:
        """Whether there was something new in them. A job's row that changed without a verb is no news."""
        fresh: list[AuditEntry] = []
        for event in events:
            entry = heard(event)
            if entry is None or (entry.seq and entry.seq <= self._newest):
                continue
            self._newest = max(self._newest, entry.seq)
            fresh.append(entry)
        if not fresh:
            return False
        ours, read = self.entries[: self._heard], self.entries[self._heard :]
        self._hold([*reversed(fresh), *ours][:HEARD], read)
        return True

    def take(self, page: "TrailRead") -> None:
        """A stretch that was read: it goes on from what is held, towards now or to what was before, or stands in its
        place."""
        ours, read = self.entries[: self._heard], self.entries[self._heard :]
        shown = [entry for entry in reversed(page.entries) if entry.verb not in STEPS]
        if self.was_read and page.upto == self.low:
            read += shown
            self.low = page.after
        else:
            if not self.was_read or page.after != self.high:
                read, self.low = [], page.after
            read = shown + read
            self.high = page.upto
            ours = [entry for entry in ours if entry.seq > page.upto]  # nodes are heard of without a seq
        if len(read) > KEPT:
            del read[KEPT:]
            self.low = read[-1].seq - 1
        self.was_read = True
        self._newest = max([self.high, *(entry.seq for entry in ours)])
        self._hold(ours, read)

    def _hold(self, ours: "list[AuditEntry]", read: "list[AuditEntry]") -> None:
        """Another list: the one that is shown stays as it was."""
        self.entries, self._heard = ours + read, len(ours)


def heard(event: "FollowerEvent") -> "AuditEntry | None":
    """The entry that the audit trail has of it, as far as a follower is told. None for what is no news here."""
    from broker.protocol.event import AuditEntry, JobChanged, JobRemoved, NodeChanged

    match event:
        case JobChanged() if event.verb and event.verb not in STEPS:
            return _of_job(event)
        case JobRemoved():
            return AuditEntry(seq=event.seq, at=event.at, job_id=event.job_id, verb="remove")
        case NodeChanged():
            return _of_node(event)
        case _:
            return None


def _of_job(event: "JobChanged") -> "AuditEntry":
    from broker.protocol.event import AuditEntry

    job = event.job
    return AuditEntry(
        seq=event.seq,
        at=event.at,
        job_id=job.id,
        attempt=job.fence or None,
        node=job.node,
        verb=event.verb,
        to_state=job.state,
        reason=job.reason if job.state in FINAL else None,
        message=event.note,
    )


def _of_node(event: "NodeChanged") -> "AuditEntry":
    from broker.protocol.event import AuditEntry

    node, said = event.node, event.node.withheld
    entry = AuditEntry(
        seq=event.seq,
        at=event.at,
        job_id=None,
        node=node.name,
        verb=_SAID_AS.get(node.state.value, node.state.value),
        message=node.message,
    )
    if said is not None and node.state is said.state:
        entry.by = said.by
        entry.data = {} if said.until is None else {"until": said.until.isoformat()}
    return entry
