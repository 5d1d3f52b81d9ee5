"""`raised`: daemons of a test's own. `scene`: one of them, its jobs' diaries, its Redis."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.faults.oracle import marks, no_strangers
from tests.faults.scene import Scene
from tests.flows.conftest import QUIET
from tests.flows.daemon import Daemon

Raise = Callable[..., Scene]


@pytest.fixture
async def raised(tmp_path: Path) -> AsyncIterator[Raise]:
    """`raised(name, flags=..., WYOLO_X=...)`: not started yet. In the end nothing of it is left."""
    scenes: list[Scene] = []

    def one(name: str = "data", data_dir: Path | None = None, flags: tuple[str, ...] = (), **env: str) -> Scene:
        scenes.append(Scene(tmp_path, Daemon(data_dir or tmp_path / name, env, flags)))
        return scenes[-1]

    yield one
    for scene in scenes:
        try:
            await _put_away(scene.daemon)
        finally:
            scene.daemon.kill_redis()  # of a broker that had to be killed


@pytest.fixture
def scene(raised: Raise) -> Scene:
    return raised()


async def _put_away(daemon: Daemon) -> None:
    try:
        if (daemon.data_dir / "ledger.db").exists():
            if not daemon.alive:
                daemon.start()
            async with daemon.client() as client:
                await client.end_all()
                await no_strangers(client)
                broker_id: str = (await client.http.get("/version")).json()["broker_id"]
            assert daemon.stop() == 0, daemon.said()[-2000:]
            assert not marks(broker_id)
        assert QUIET not in daemon.said(), daemon.said()[-4000:]
    finally:
        daemon.clear()
