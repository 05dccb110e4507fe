"""Open an Engine; `transaction(engine)` to write, `open_reader(url)` and `read_only(engine)` to read.

SQLite: WAL with synchronous=NORMAL. A kill of the process loses nothing that was committed; a loss of power may lose
the last commits, never the database's consistency.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from indexer.db.dialect import SQLITE, SQLITE_PAGE_BYTES, is_busy, is_gone, is_timeout, parse_url
from indexer.errors import Refuse, Retry, SummaryDBError, Wait

BUSY_MS = 5_000
_READ_CACHE_KIB = 8 * 1024
_WRITE_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 2_500  # 40 MB: fewer syncs in a load than SQLite's 1,000 pages, and a stall still below 0.1 s
_PROGRESS_STEPS = 2_000  # virtual machine steps between two looks at the clock


def open_engine(url: str) -> Engine:
    """Return an engine that may write; one connection is enough, so nothing is pooled but what is in use."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != SQLITE:
        return create_engine(
            parsed, pool_size=2, max_overflow=2, pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
    engine = create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.isolation_level = None  # we say BEGIN ourselves
        dbapi.execute(f"PRAGMA page_size = {SQLITE_PAGE_BYTES}")  # takes effect on an empty file only
        dbapi.execute("PRAGMA journal_mode = WAL")
        dbapi.execute("PRAGMA synchronous = NORMAL")
        dbapi.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        dbapi.execute("PRAGMA foreign_keys = ON")
        dbapi.execute(f"PRAGMA cache_size = -{_WRITE_CACHE_KIB}")

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")  # ask for the write lock at once: no deadlock half-way

    return engine


def open_reader(url: str, *, pool_size: int = 8) -> Engine:
    """Return an engine that cannot write: SQLite mode=ro and query_only, PostgreSQL read-only transactions."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != SQLITE:
        return create_engine(
            parsed,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": "-c default_transaction_read_only=on"},
        )
    path = Path(parsed.database or "").absolute()

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(path.as_posix())}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, check_same_thread=False, isolation_level=None)

    engine = create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=QueuePool, pool_size=pool_size, max_overflow=pool_size
    )

    @event.listens_for(engine, "connect")
    def configure(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.execute("PRAGMA query_only = ON")
        dbapi.execute(f"PRAGMA cache_size = -{_READ_CACHE_KIB}")

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN")  # one snapshot for all statements of a request

    return engine


def settle(engine: Engine) -> None:
    """Bring all commits into the SQLite file itself, as far as nobody reads older ones: it may be copied alone then."""
    if engine.dialect.name != SQLITE:
        return
    with translated(), closing(engine.raw_connection()) as conn:  # not in a transaction
        conn.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Write in one transaction; errors come out as our families."""
    with translated(), engine.begin() as conn:
        yield conn


@contextmanager
def read_only(engine: Engine, *, seconds: float) -> Iterator[Connection]:
    """Read in one snapshot with a deadline over all statements. Retry when it passes."""
    with translated(), engine.connect() as conn, conn.begin():
        if conn.dialect.name == SQLITE:
            dbapi: Any = conn.connection.dbapi_connection
            deadline = time.monotonic() + seconds
            dbapi.set_progress_handler(lambda: int(time.monotonic() > deadline), _PROGRESS_STEPS)
            try:
                yield conn
            finally:
                dbapi.set_progress_handler(None, 0)
        else:
            conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            conn.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
            yield conn


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except DBAPIError as e:
        raise family(e) from e


def family(error: DBAPIError) -> SummaryDBError:
    """Return what `error` means for the caller."""
    text = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if is_timeout(error):
        return Deadline("the query passed its deadline; ask for less, or raise --query-seconds")
    if is_busy(error):
        return Retry(f"another writer holds the database ({text}); the call may be repeated")
    if is_gone(error):
        return Wait(f"the database cannot be reached ({text}); check that it runs and lets you in")
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return Refuse(f"the file is no SQLite database ({text}); give another --db")
    if code == sqlite3.SQLITE_CANTOPEN:
        return Refuse(
            f"the database file cannot be opened ({text}); check that its directory exists and may be written"
        )
    if code == sqlite3.SQLITE_READONLY:
        return Refuse(f"the database may not be written ({text}); check the permissions of the file and its directory")
    if code == sqlite3.SQLITE_FULL:
        return Wait(f"the disk is full ({text}); free some space and loading goes on")
    return Refuse(f"the database refused: {text}")


class Deadline(Retry):
    """A query took longer than it may."""
