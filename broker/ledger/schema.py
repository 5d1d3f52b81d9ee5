"""The ledger's file: how its connections are opened, and its migrations, applied in order by PRAGMA user_version."""

import re
import sqlite3
import uuid
from pathlib import Path

from broker.errors import LedgerFull, LedgerUnusable
from broker.ledger.ballast import Ballast, disk_full
from broker.protocol.filter import pattern_found

MIGRATIONS = Path(__file__).parent.parent / "migrations"  # NNNN_name.sql
_CACHE_KIB = 16 * 1024  # of pages, for each connection


def open_ledger(path: Path, migrations: Path = MIGRATIONS) -> tuple[sqlite3.Connection, str]:
    """The one writing connection, migrated, and the broker's id. On a full disk the ballast makes room for what SQLite
    needs to begin. Raises LedgerUnusable, LedgerFull."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _opened(path, migrations)
    except sqlite3.Error as error:
        if not disk_full(error, path.parent):
            raise
    if Ballast(path).drop():
        try:
            return _opened(path, migrations)
        except sqlite3.Error as error:
            if not disk_full(error, path.parent):
                raise
    raise LedgerFull(f"no space left to open {path}: nothing was changed; free some space and start again")


def _opened(path: Path, migrations: Path) -> tuple[sqlite3.Connection, str]:
    db = _connect(path)
    try:
        _tune(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # the writer does it when no one waits for it
        db.execute("PRAGMA journal_size_limit = 67108864")  # bytes
        migrate(db, migrations)
        return db, _broker_id(db)
    except (sqlite3.Error, LedgerUnusable) as error:
        db.close()
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise LedgerUnusable(
                f"{path} is not a readable ledger ({error}); it was left as it is: restore it from a copy, "
                "or move it away to begin a new one"
            ) from error
        if "no such module: fts5" in str(error):
            raise LedgerUnusable(
                f"SQLite {sqlite3.sqlite_version} of this Python lacks FTS5: use a Python that has it"
            ) from error
        raise


def open_reader(path: Path) -> sqlite3.Connection:
    db = _connect(path)
    _tune(db)
    db.execute("PRAGMA query_only = ON")
    patterns: dict[str, re.Pattern[str]] = {}

    def pattern_in(source: str, *fields: str | None) -> bool:
        if source not in patterns:
            patterns.clear()
            patterns[source] = re.compile(source, re.IGNORECASE)
        return pattern_found(patterns[source], *fields)

    db.create_function("pattern_in", -1, pattern_in, deterministic=True)
    return db


def migrate(db: sqlite3.Connection, migrations: Path = MIGRATIONS) -> None:
    """Apply what is newer than the file, each in its own transaction. Raises LedgerUnusable for a newer file."""
    scripts = {int(script.name[:4]): script for script in migrations.glob("[0-9][0-9][0-9][0-9]_*.sql")}
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > max(scripts):
        raise LedgerUnusable(
            f"the ledger was made by a newer wyolo (its version is {version}, this one knows {max(scripts)}); "
            "nothing was changed: start the newer wyolo"
        )
    for number, script in sorted(scripts.items()):
        if number <= version:
            continue
        text = script.read_text(encoding="utf-8")
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _broker_id(db: sqlite3.Connection) -> str:
    row: tuple[str] | None = db.execute("SELECT value FROM meta WHERE name = 'broker_id'").fetchone()
    if row is not None:
        return row[0]
    made = uuid.uuid4().hex
    db.execute("INSERT INTO meta VALUES ('broker_id', ?)", (made,))
    return made


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=512)


def _tune(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA temp_store = MEMORY")  # savepoints keep pages aside: not in files
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
