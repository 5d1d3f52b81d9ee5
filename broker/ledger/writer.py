"""The one thread that writes: it commits what has queued up as a group, with one fsync, and then answers.

A piece of work that fails takes nothing of the others with it. Most that fail have written nothing yet; if one has,
its group begins again, each piece in a SAVEPOINT of its own: so work may be done twice, and holds no state.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

from broker.bus import Bus
from broker.errors import LedgerFull
from broker.ledger.ballast import Ballast, disk_full
from broker.ledger.following import followed
from broker.ledger.rows import Standing, batches, micros, standings
from broker.ledger.wal import Wal
from broker.protocol.event import FollowerEvent

log = logging.getLogger(__name__)
T = TypeVar("T")
Mark = tuple[int, int, int, int, int]
WordChange = tuple[Literal["delete"] | None, int, str]  # a job's number and its words: forget these, or know them

_GROUP = 256  # pieces of work after which a commit waits for no more


class Transaction:
    """What a piece of work writes through. `seq` and `job_id`: the newest given out; `now`: microseconds since 1970."""

    def __init__(self, db: sqlite3.Connection, bus: Bus) -> None:
        self.db = db
        self.seq = _newest(db, "events")
        self.job_id = _newest(db, "jobs")
        self.now = 0
        self.events: list[FollowerEvent] = []  # published after the commit
        self.untold = False  # some events were not made
        self.words: list[WordChange] = []  # for the index of words
        self.names: dict[str, int] = {}  # metric names already seen
        self.withheld: dict[str, str] = {}  # nodes, as this group found them
        self._standings: dict[int, Standing] = {}  # jobs that nothing of this group has changed yet
        self._rows: list[tuple[str, Sequence[Any]]] = []  # (into where, values) of what is written at the group's end
        self._bus = bus

    def tell(self, events: Callable[[], Iterable[FollowerEvent]]) -> None:
        """Publish these after the commit; they are not made while nobody would see them."""
        if self._bus.listening:
            self.events += events()
        else:
            self.untold = True

    def foresee(self, job_ids: Sequence[int]) -> None:
        """What the group is about is read at its begin, together."""
        self._standings = standings(self.db, job_ids)

    def standing(self, job_id: int) -> Standing | None:
        """Whoever asks may change the job: the next one to ask reads it again, and finds its rows in their tables."""
        known = self._standings.pop(job_id, None)
        if known is None:
            self.settle()
            known = standings(self.db, [job_id]).get(job_id)
        return known

    def add(self, into: str, values: Sequence[Any]) -> None:
        """A row for the table and columns `into`, written with others of its kind. Each statement costs this thread a
        turn at the interpreter's lock, which the event loop wants too."""
        self._rows.append((into, values))

    def settle(self) -> None:
        """Writes what was added: called at the group's end, and before anything that would find it in its table.
        Raises _HalfDone: whose row is at fault shows when each piece of work is done apart."""
        rows, self._rows = self._rows, []
        for into in dict.fromkeys(into for into, _ in rows):
            of_it = [values for where, values in rows if where == into]
            for some in batches(of_it):
                marks = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
                try:
                    self.db.execute(f"INSERT INTO {into} VALUES {marks}", list(chain.from_iterable(some)))
                except sqlite3.IntegrityError as error:
                    raise _HalfDone from error

    def mark(self) -> Mark:
        return self.seq, self.job_id, len(self.events), len(self.words), len(self._rows)

    def back_to(self, mark: Mark) -> None:
        self.seq, self.job_id, events, words, rows = mark
        del self.events[events:]
        del self.words[words:]
        del self._rows[rows:]
        self.names.clear()
        self.withheld.clear()

    def index_words(self) -> None:
        """At the end, in one piece: FTS5 writes out what it holds at every savepoint."""
        self.db.executemany("INSERT INTO job_words (job_words, rowid, words) VALUES (?, ?, ?)", self.words)
        self.words.clear()


@dataclass(slots=True)
class _Item:
    work: Callable[[Transaction], Any]
    future: "asyncio.Future[Any]"
    vital: bool
    about: int | None


@dataclass(slots=True)
class _Outcome:
    future: "asyncio.Future[Any]"
    value: Any = None
    error: BaseException | None = None


class _HalfDone(Exception):
    """A piece of work failed after it had written something, or rows that it added were refused."""


class Writer:
    """Owns the writing connection. `put` is for the event loop's thread; the rest happens in the writer's own."""

    def __init__(self, db: sqlite3.Connection, path: Path, bus: Bus, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._folder = path.parent
        self._wal = Wal(path)
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._tx = Transaction(db, bus)
        self._ballast = Ballast(path)
        self._items: SimpleQueue[list[_Item] | None] = SimpleQueue()
        self._gathering: list[_Item] = []
        self._closing = False
        self._stopped = asyncio.Event()
        self.seq = self._tx.seq
        self._full = not self._ballast.restore()  # the writer thread's own; `read_only` is the loop's
        self.read_only = self._full
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def put(
        self, work: Callable[[Transaction], T], vital: bool = False, about: int | None = None
    ) -> "asyncio.Future[T]":
        """Do it in the next group; done when it is on disk. `vital`: tried with the ballast's space on a full disk.
        `about`: the job whose standing it will ask for."""
        if self._closing:
            raise RuntimeError("the ledger is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._gathering:
            self._loop.call_soon(self._hand_over_after, 2)
        self._gathering.append(_Item(work, future, vital, about))
        return future

    def _hand_over_after(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._hand_over_after, turns - 1)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        """Three turns of the loop after the first of them was put: an end and the start that it made room for are
        written down together."""
        gathered, self._gathering = self._gathering, []
        if gathered:
            self._items.put(gathered)

    async def close(self) -> None:
        """After everything that was put has been answered."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._items.put(None)
        await self._stopped.wait()

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if group:
                self._answer_all(group)
                self._wal.committed(self._db)
        self._db.close()
        self._later(self._stopped.set)

    def _next_group(self) -> tuple[list[_Item], bool]:
        """What waits, and whether more may come."""
        group: list[_Item] = []
        items = self._items.get()
        while items is not None:
            group += items
            if len(group) >= _GROUP:
                return group, True
            try:
                items = self._items.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _answer_all(self, group: list[_Item]) -> None:
        """The edge of this thread: whatever happens, nobody is left waiting and the next group is taken."""
        try:
            self._write(group)
        except Exception as error:
            log.exception("the ledger could not finish a group of %d writes", len(group))
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            outcomes = [_Outcome(item.future, error=error) for item in group]
            self._later(self._answer, outcomes, [], self._tx.seq, self._full)

    def _write(self, group: list[_Item]) -> None:
        outcomes: list[_Outcome] = []
        seq = self._tx.seq
        self._full = self._full and not self._ballast.restore()
        if self._full:
            outcomes += [_refused(item) for item in group if not item.vital]
            group = [item for item in group if item.vital]
        try:
            outcomes += self._commit(group)
        except sqlite3.Error as error:
            if not self._disk_full(error):
                outcomes += [_Outcome(item.future, error=error) for item in group]
            else:
                self._full = True
                outcomes += self._commit_vital(group)
        self._later(self._answer, outcomes, self._told(seq), self._tx.seq, self._full)

    def _told(self, before: int) -> list[FollowerEvent]:
        """What to publish. A follower who came while it was written may have read the ledger as it was before."""
        events, self._tx.events = self._tx.events, []
        if self._tx.untold and self._bus.listening:
            events = followed(self._db, before)
        self._tx.untold = False
        return events

    def _commit_vital(self, group: Sequence[_Item]) -> list[_Outcome]:
        """The ballast's space is there for final states; everything else is refused until there is room again."""
        self._ballast.drop()
        refused = [_refused(item) for item in group if not item.vital]
        vital = [item for item in group if item.vital]
        try:
            return refused + self._commit(vital)
        except sqlite3.Error as error:
            failure = _full() if self._disk_full(error) else error
            return refused + [_Outcome(item.future, error=failure) for item in vital]

    def _commit(self, group: Sequence[_Item]) -> list[_Outcome]:
        """Everything in one transaction. Raises sqlite3.Error when nothing of the group was written."""
        if not group:
            return []
        before = self._tx.mark()
        try:
            try:
                outcomes = self._transact(group, self._perform)
            except _HalfDone:
                self._undo(before)
                outcomes = self._transact(group, self._perform_apart)
        except sqlite3.Error:
            self._undo(before)
            raise
        return outcomes

    def _transact(self, group: Sequence[_Item], perform: Callable[[_Item], _Outcome]) -> list[_Outcome]:
        self._db.execute("BEGIN IMMEDIATE")
        self._tx.withheld.clear()
        self._tx.foresee([item.about for item in group if item.about is not None])
        outcomes = [perform(item) for item in group]
        self._tx.settle()
        self._tx.index_words()
        self._db.execute("COMMIT")
        return outcomes

    def _undo(self, before: Mark) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._tx.back_to(before)

    def _perform(self, item: _Item) -> _Outcome:
        """Raises _HalfDone, and sqlite3.Error when SQLite has ended the whole transaction or the disk is full."""
        before, written = self._tx.mark(), self._db.total_changes
        self._tx.now = micros(self._clock())
        try:
            return _Outcome(item.future, item.work(self._tx))
        except _HalfDone:
            raise
        except Exception as error:
            # Whatever it is belongs to who asked; but SQLite may have ended the whole transaction on a disk's error.
            if isinstance(error, sqlite3.Error) and (not self._db.in_transaction or self._disk_full(error)):
                raise
            if self._db.total_changes != written:
                raise _HalfDone from error
            self._tx.back_to(before)
            return _Outcome(item.future, error=error)

    def _perform_apart(self, item: _Item) -> _Outcome:
        before = self._tx.mark()
        self._db.execute("SAVEPOINT item")
        try:
            outcome = self._perform(item)
            self._tx.settle()
        except _HalfDone as error:
            self._db.execute("ROLLBACK TO item")
            self._tx.back_to(before)
            outcome = _Outcome(item.future, error=error.__cause__ or error)
        self._db.execute("RELEASE item")
        return outcome

    def _disk_full(self, error: sqlite3.Error) -> bool:
        return disk_full(error, self._folder)

    def _answer(self, outcomes: Sequence[_Outcome], events: Sequence[FollowerEvent], seq: int, read_only: bool) -> None:
        """In the event loop: followers first, so that who asked finds the change already told."""
        self.seq = seq
        self.read_only = read_only
        self._bus.publish(*events)
        for outcome in outcomes:
            if outcome.future.done():
                continue
            if outcome.error is None:
                outcome.future.set_result(outcome.value)
            else:
                outcome.future.set_exception(outcome.error)

    def _later(self, callback: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is gone, and who asked with it
            return


def _newest(db: sqlite3.Connection, table: str) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return 0 if row is None else row[0]


def _refused(item: _Item) -> _Outcome:
    return _Outcome(item.future, error=_full())


def _full() -> LedgerFull:
    return LedgerFull("the ledger's disk is full: nothing was changed and all that was there is kept; free some space")
