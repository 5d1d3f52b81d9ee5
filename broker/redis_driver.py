"""The only module that knows the driver, redis-py: commands in, raw replies out, in one round trip, in bounded time.

Loading it takes a quarter of a second, so only `redis_link` does, when Redis is first asked.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import hiredis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.typing import EncodableT

from broker.errors import QueueDown
from broker.redis_words import ANSWER_S, Command, Refused, Reply, Script


class Driver:
    """A few connections to one Redis, which is called `where` in messages. Raises QueueDown for a url that the driver
    does not understand."""

    def __init__(self, url: str, where: str, *, name: str, scripts: Sequence[Script], connections: int) -> None:
        self._scripts = scripts
        self._where = where
        try:
            pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                url,
                max_connections=connections,
                timeout=None,  # `run` bounds the whole of it
                socket_timeout=None,  # the default of 5 s would end blocking reads
                socket_connect_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                client_name=name,
                driver_info=None,
                encoding_errors="replace",
            )
            pool.connection_class = _packing(pool.connection_class)
            self._redis = Redis.from_pool(pool)
        except (ValueError, TypeError, exceptions.RedisError) as error:
            raise QueueDown(self._told("connect", f"cannot be used: {error}", "mend the setting redis_url.")) from error
        self._redis.response_callbacks.clear()  # replies as they are

    async def run(self, what: str, *commands: Command, atomic: bool = False, within_s: float = ANSWER_S) -> list[Reply]:
        """The replies of all commands, sent together; `atomic`: as MULTI. Raises QueueDown, Refused for the first
        that Redis refused (the others have been done, unless it refused the MULTI as a whole)."""
        try:
            async with asyncio.timeout(within_s):
                replies = await self._send(commands, atomic)
                if any(isinstance(reply, exceptions.NoScriptError) for reply in replies):
                    await self._send([("SCRIPT", "LOAD", script.text) for script in self._scripts], atomic=False)
                    replies = await self._send(commands, atomic)
        except (TimeoutError, exceptions.TimeoutError) as error:
            raise QueueDown(
                self._told(what, f"did not answer within {within_s:g} s", "is it stopped, or its disk slow?")
            ) from error
        except exceptions.ResponseError as error:
            raise self._refused(what, error) from error
        except exceptions.AuthenticationError as error:
            raise QueueDown(
                self._told(what, f"refused to let us in: {error}", "mend the password in the url.")
            ) from error
        except exceptions.BusyLoadingError as error:
            raise QueueDown(self._told(what, "is still loading its data", "it will be ready by itself.")) from error
        except (exceptions.RedisError, OSError) as error:
            raise QueueDown(self._told(what, f"cannot be reached: {error}", "is it running?")) from error
        for reply in replies:
            if isinstance(reply, exceptions.RedisError):
                raise self._refused(what, reply) from reply
        return replies

    async def one(self, what: str, command: Command) -> Reply:
        return (await self.run(what, command))[0]

    async def close(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._redis.aclose()
        except (TimeoutError, OSError, exceptions.RedisError):
            pass  # the sockets are given up; nothing was on its way

    async def _send(self, commands: Sequence[Command], atomic: bool) -> list[Reply]:
        async with self._redis.pipeline(transaction=atomic) as pipe:
            for command in commands:
                cast(Any, pipe).execute_command(*command)
            return await cast(Awaitable[list[Reply]], pipe.execute(raise_on_error=False))

    def _refused(self, what: str, error: exceptions.RedisError) -> Refused:
        said = str(error)
        found = _KIND.search(said)
        kind = _KINDS.get(type(error)) or (found[0] if found else said.split(" ", 1)[0])
        happened, remedy = _REFUSALS.get(kind, (f"refused: {said[:300]}", "see its log"))
        return Refused(kind, self._told(what, happened, remedy))

    def _told(self, what: str, happened: str, remedy: str) -> str:
        return f"Redis at {self._where} {happened} ({what}): {remedy} The ledger keeps every job; wyolo goes on trying."


_packed: Callable[[Sequence[EncodableT]], bytes] = cast(Any, hiredis).pack_command


def _packing(of: type[AbstractConnection]) -> type[AbstractConnection]:
    """Connections that pack commands in C: redis-py's asyncio ones do it in Python, word by word."""

    class Packing(of):
        def pack_command(self, *args: EncodableT) -> list[bytes]:
            try:
                return [_packed(args)]
            except UnicodeEncodeError:  # half a surrogate pair: written as the pool's `encoding_errors` says
                return super().pack_command(*args)

    return Packing


_KIND = re.compile(r"\b(MISCONF|OOM|READONLY|NOPERM|LOADING|WRONGTYPE|NOGROUP|UNBLOCKED)\b")  # also inside a script's
_KINDS: dict[type[Exception], str] = {  # whose first word the driver takes away
    exceptions.ReadOnlyError: "READONLY",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
}
_REFUSALS = {  # what happened, what to do
    "MISCONF": ("cannot write to its disk, so it takes nothing", "free some space there."),
    "OOM": ("is out of memory (maxmemory)", "give it more, or remove other keys."),
    "READONLY": ("is a read-only replica", "name its primary in the url."),
    "NOPERM": ("does not allow this user to do that", "grant it (ACL SETUSER)."),
    "LOADING": ("is still loading its data", "it will be ready by itself."),
    "WRONGTYPE": ("holds another kind of value under a key of ours", "rename that key."),
}
