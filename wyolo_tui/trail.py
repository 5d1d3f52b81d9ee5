"""What the events screen shows."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.protocol.event import FollowerEvent, JobChanged, JobRemoved, NodeChanged

    News = JobChanged | JobRemoved | NodeChanged

TRAIL = 2_000  # events that are kept


class Trail:
    """The newest durable events, newest first. A job's row that changed without a verb is no news."""

    def __init__(self) -> None:
        self.events: deque[News] = deque(maxlen=TRAIL)

    def add(self, events: "Iterable[FollowerEvent]") -> bool:
        from broker.protocol.event import JobChanged, JobRemoved, NodeChanged

        news = [e for e in events if isinstance(e, JobRemoved | NodeChanged) or (isinstance(e, JobChanged) and e.verb)]
        self.events.extendleft(news)
        return bool(news)
