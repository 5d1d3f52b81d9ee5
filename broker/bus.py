"""Fan-out of follower events to bounded subscribers. A slow subscriber is cut off and must resync by seq."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from datetime import UTC, datetime
from itertools import count

from broker.protocol.event import FollowerEvent, NodeChanged, Progressed, QueueChanged, Resync, Sampled


class Subscription:
    """Iterate it for events. After the buffer overflowed the next event is one Resync, then the iteration ends.

    Of transient events that wait in the buffer only the newest of each job or node is kept.
    """

    def __init__(self, bus: "Bus", capacity: int) -> None:
        self._bus = bus
        self._capacity = capacity
        self._buffer: OrderedDict[Hashable, FollowerEvent] = OrderedDict()
        self._durable = count()
        self._wake = asyncio.Event()
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[FollowerEvent]:
        while True:
            while self._buffer:
                yield self._buffer.popitem(last=False)[1]
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """End the iteration at once; what was not read yet is dropped."""
        self._buffer.clear()
        self.end()

    def push(self, event: FollowerEvent) -> None:
        """For the bus: keep the event, or cut the subscriber off when there is no room."""
        if self._ended:
            return
        key = _transient_key(event)
        if key is None:
            key = next(self._durable)
        else:
            self._buffer.pop(key, None)
        self._buffer[key] = event
        if len(self._buffer) > self._capacity:
            self._buffer.clear()
            self._buffer[key] = Resync(at=datetime.now(UTC))
            self.end()
        self._wake.set()

    def end(self) -> None:
        """For the bus: nothing more will come; what is buffered can still be read."""
        self._ended = True
        self._bus.forget(self)
        self._wake.set()


class Bus:
    """Used from the event loop's thread alone; only `listening` may be read from others."""

    def __init__(self) -> None:
        self._subscriptions: dict[Subscription, None] = {}
        self._closed = False

    @property
    def listening(self) -> bool:
        """Whether anyone would see an event: without, none needs to be made."""
        return bool(self._subscriptions)

    def publish(self, *events: FollowerEvent) -> None:
        """Never blocks, never raises."""
        for subscription in list(self._subscriptions):
            for event in events:
                subscription.push(event)

    def subscribe(self, capacity: int = 4096) -> Subscription:
        subscription = Subscription(self, capacity)
        self._subscriptions[subscription] = None
        if self._closed:
            subscription.end()
        return subscription

    def forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)

    def close(self) -> None:
        """Ends every subscription, those still to come too."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.end()


def _transient_key(event: FollowerEvent) -> Hashable | None:
    match event:
        case Progressed():
            return ("progress", event.job_id)
        case Sampled():
            return ("sample", event.sample.node)
        case NodeChanged():
            return ("node", event.node.name)
        case QueueChanged():
            return "queue"
        case _:
            return None
