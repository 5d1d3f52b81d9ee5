"""The witness of a node whose daemon is itself in a container: the daemon of its host.

No process outlives the first one of its container. When the container that a job's daemon lived in has ended, is gone
or was started anew, the job has ended too, though its own daemon cannot be asked.
"""

from broker.engines.docker_link import Link
from broker.errors import EngineUnreachable


class Host:
    def __init__(self, link: Link, container: str) -> None:
        """`container`: name of the one that the node's daemon lives in."""
        self._link = link
        self._container = container

    async def life(self) -> str:
        """Of that container: what runs in it now ends with it. Raises EngineUnreachable."""
        found = await self._link.inspect(self._container)
        if found is None or not found["State"]["Running"]:
            raise EngineUnreachable(f"{self._container} does not run, says its host")
        return f"{await self._link.root()} {found['Id']} {found['State']['StartedAt']}"

    async def is_over(self, life: str) -> bool:
        """True where it is certain. Raises EngineUnreachable."""
        root, _, rest = life.partition(" ")
        container, _, started_at = rest.partition(" ")
        found = await self._link.inspect(container)
        if _data(await self._link.root(afresh=True)) != _data(root):
            return False  # another daemon: it knows nothing
        return found is None or not found["State"]["Running"] or found["State"]["StartedAt"] != started_at

    async def close(self) -> None:
        await self._link.close()


def _data(root: str) -> str:
    return root.partition("/")[2]
