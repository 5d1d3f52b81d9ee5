"""Sandboxes of the test's host with a broker over them, and the means to hurt each."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dind import images, sandboxes
from dind.engine import Engine, silent
from dind.home import Home
from dind.images import Where
from dind.sandboxes import State
from tests.docker.daemon import SANDBOX_BASE, HostDaemon
from tests.docker.raising import command, docker, raised, wanted
from tests.docker.tree import pack_installed
from tests.flows.daemon import Daemon

TRAINER = "wyolo-trainer"
TRAINER_BASE = "wyolo-test-python"
SYSTEM = ("/usr", "/lib", "/lib64")


class Fleet:
    """The sandboxes `names`, raised by `raise_` and registered in the home of the data directory `folder`/data."""

    def __init__(self, host: HostDaemon, engine: Engine, folder: Path, names: Sequence[str]) -> None:
        self.host = host
        self.engine = engine
        self.home = Home(folder / "data")
        self.names = names
        self.states: dict[str, State] = {}

    async def raise_(self, reads: Sequence[Path] = ()) -> None:
        """`reads`: folders that jobs may read."""
        which = [wanted(name, data=tuple(reads)) for name in self.names]
        self.states = await raised(self.engine, self.home, SANDBOX_BASE, *which)

    async def remove(self) -> None:
        every = [self.home.sandbox(name) for name in self.home.names()]
        await sandboxes.down(self.engine, self.home, every, silent, force=True, volumes=True)

    def docker(self, name: str, *arguments: str) -> str:
        """The docker command inside that sandbox."""
        return docker(self.home, self.states[name], *arguments)

    def command(self, name: str, *arguments: str) -> list[str]:
        """The same, for whoever runs it."""
        return command(self.home, self.states[name], *arguments)

    def load(self, packed: Path, image: str) -> None:
        """A root file system, as an image of every sandbox."""
        for name in self.names:
            self.docker(name, "import", str(packed), image)

    async def with_trainer(self) -> None:
        """`wyolo images build` and `push`, over a base that has its Python and Ultralytics mounted (`installed`)."""
        packed = pack_installed(self.host.folder / "python.tar", SYSTEM)
        self.host.import_tree(packed, TRAINER_BASE)
        await images.make(self.engine, images.recipe(TRAINER, base=TRAINER_BASE, install=False), silent)
        where = [Where(name, table["url"], Path(table["tls"])) for name, table in self.home.registered().items()]
        brought = await images.push(self.engine, where, TRAINER, silent)
        assert all(isinstance(outcome, tuple) for outcome in brought.values()), brought

    def nodes(self, **more: Any) -> list[dict[str, Any]]:
        """As `wyolo sandbox up` told the broker, and `more` for each."""
        return [{**table, **more} for table in self.home.registered().values()]

    def broker(self, nodes: Sequence[Mapping[str, Any]], **env: str) -> Daemon:
        """Not started yet."""
        return Daemon(self.home.data_dir, {"WYOLO_NODES": json.dumps(nodes), **env})


def installed() -> list[Path]:
    """Where this Python, Ultralytics and what they are linked to lie: several GB, mounted rather than copied."""
    folders = [Path(name) for name in (sys.prefix, sys.base_prefix, *SYSTEM)]
    found = dict.fromkeys(folder for folder in folders if folder.is_dir() and not folder.is_symlink())
    return [one for one in found if not any(other in one.parents for other in found)]
