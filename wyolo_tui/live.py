"""The real Link: a BrokerClient and its feed. Imported once the first frame is painted, for httpx takes a while."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import urlsplit

from broker.protocol.api import LogChunk
from broker.protocol.event import FollowerEvent
from wyolo_tui.client import BrokerClient
from wyolo_tui.feed import Feed, LinkDown, LinkUp, follow_log


class BrokerLink(BrokerClient):
    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc or self.url

    async def follow(self, after: int) -> AsyncGenerator[FollowerEvent | LinkUp | LinkDown]:
        async with aclosing(Feed(self, after).follow()) as items:
            async for item in items:
                yield item

    async def follow_log(
        self, job_id: int, *, attempt: int | None = None, offset: int | None = None, tail: int | None = None
    ) -> AsyncGenerator[LogChunk | LinkUp | LinkDown]:
        async with aclosing(follow_log(self, job_id, attempt=attempt, offset=offset, tail=tail)) as items:
            async for item in items:
                yield item
