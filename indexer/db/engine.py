"""SQLAlchemy's engines: `open_reader(url)` and `read_only(engine)` to read, `open_engine(url)` to migrate."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from indexer.db.connection import BUSY_MS, POSTGRESQL_ARGUMENTS, configure_writer, translated
from indexer.db.dialect import SQLITE, parse_url
from indexer.db.filesystem import in_wal_mode, network
from indexer.errors import Refuse

_READ_CACHE_KIB = 8 * 1024
_PROGRESS_STEPS = 2_000  # virtual machine steps between two looks at the clock


def open_engine(url: str) -> Engine:
    """Return an engine that may write; one connection is enough, so nothing is pooled but what is in use."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != SQLITE:
        return create_engine(
            parsed, pool_size=2, max_overflow=2, pool_pre_ping=True, connect_args=_connect_arguments(parsed)
        )
    engine = create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.isolation_level = None  # we say BEGIN ourselves
        configure_writer(dbapi, str(Path(parsed.database or "").absolute()))

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
            connect_args=_connect_arguments(parsed) | {"options": "-c default_transaction_read_only=on"},
        )
    path = Path(parsed.database or "").absolute()
    kind = network(path)

    def connect() -> sqlite3.Connection:
        if kind is not None and in_wal_mode(path):
            raise Refuse(
                f"the file is in WAL mode on {kind}, where that corrupts it: serve on the machine that indexes, or read"
                " a copy made with `summarydb snapshot`"
            )
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


def _connect_arguments(url: URL) -> dict[str, Any]:
    """Return what a PostgreSQL URL leaves open; SQLAlchemy lets arguments win over it."""
    return {name: value for name, value in POSTGRESQL_ARGUMENTS.items() if name not in url.query}


def server_time(conn: Connection) -> float | None:
    """Return seconds since the epoch by PostgreSQL's clock, which its indexers go by; None on SQLite: it has none."""
    if conn.dialect.name == SQLITE:
        return None
    query = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
    return float(conn.exec_driver_sql(query).scalar_one())


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
