"""Reading connections in their own threads: each question sees the ledger as it was at one moment."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from broker.ledger.schema import open_reader

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 2


class Readers:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._own = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ledger-reader")

    async def run(
        self, question: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def ask() -> T:
            db = self._connection()
            db.execute("BEGIN")
            try:
                return question(db, *args, **kwargs)
            finally:
                db.execute("ROLLBACK")

        return await asyncio.get_running_loop().run_in_executor(self._pool, ask)

    async def close(self) -> None:
        """After the questions that were asked have been answered."""
        await asyncio.to_thread(self._pool.shutdown)
        while self._open:
            self._open.pop().close()

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._own, "db", None)
        if db is None:
            db = self._own.db = open_reader(self._path)
            self._open.append(db)
        return db
