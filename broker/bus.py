"""Fan-out of follower events to bounded subscribers. A slow subscriber is cut off and must resync by seq."""

from collections.abc import AsyncIterator

from broker.protocol.event import FollowerEvent


class Subscription:
    """Iterate it for events. After the buffer overflowed the next event is one Resync, then the iteration ends."""

    def __aiter__(self) -> AsyncIterator[FollowerEvent]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Bus:
    def publish(self, *events: FollowerEvent) -> None:
        """Never blocks, never raises."""
        raise NotImplementedError

    def subscribe(self, capacity: int = 4096) -> Subscription:
        raise NotImplementedError

    def close(self) -> None:
        """Ends every subscription."""
        raise NotImplementedError
