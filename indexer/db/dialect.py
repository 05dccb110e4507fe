"""The only place that knows two databases: URLs, upserts, what an error means."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from indexer.errors import Refuse, UsageError

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
SQLITE_PAGE_BYTES = 16384
"""Measured: the knee of load speed over page size. Source: spec of the project's first measurements, docs/decisions."""


def parse_url(url: str) -> URL:
    """Return `url` as SQLAlchemy's, with the drivers we use. Refuse names what is wrong and what to write."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as e:
        hint = "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        raise UsageError(f"database URL {url!r} cannot be read: {hint}") from e
    name = parsed.get_backend_name()
    if name in {"postgres", POSTGRESQL}:
        driver = parsed.drivername.partition("+")[2] or "psycopg"
        if driver != "psycopg":
            raise Refuse(f"database driver {parsed.drivername!r} is not supported: write postgresql://...")
        if importlib.util.find_spec("psycopg") is None:
            raise Refuse("PostgreSQL needs the driver psycopg: pip install 'summarydb[postgres]'")
        return parsed.set(drivername="postgresql+psycopg")
    if name == SQLITE:
        if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
            raise Refuse(f"database driver {parsed.drivername!r} is not supported: write sqlite:///FILE")
        if not parsed.database or parsed.database == ":memory:":
            raise Refuse("an in-memory database would be lost at once: write sqlite:///FILE")
        return parsed.set(drivername="sqlite+pysqlite")
    raise Refuse(f"database {name!r} is not supported: write sqlite:///FILE or postgresql://USER@HOST/DATABASE")


def _insert(dialect: Dialect, table: Table) -> Any:
    if dialect.name == POSTGRESQL:
        from sqlalchemy.dialects import postgresql  # 60 ms that SQLite's users need not wait for

        return postgresql.insert(table)
    return sqlite.insert(table)


def upsert(dialect: Dialect, table: Table, keys: Iterable[str], *, update: Iterable[str] | None = None) -> Any:
    """Return `INSERT ... ON CONFLICT (keys) DO UPDATE` of the columns `update`, else every one that is no key."""
    insert = _insert(dialect, table)
    keys = list(keys)
    changed = [c.name for c in table.columns if c.name not in keys] if update is None else update
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in changed})


def insert_new(dialect: Dialect, table: Table) -> Any:
    """Return `INSERT ... ON CONFLICT DO NOTHING`."""
    return _insert(dialect, table).on_conflict_do_nothing()


def take_turns(conn: Connection, key: int) -> None:
    """Until the transaction ends, keep out others that ask with the same key. On SQLite its lock does that already."""
    if conn.dialect.name == POSTGRESQL:
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({key:d})")


def is_busy(error: DBAPIError) -> bool:
    """Tell whether the same call may succeed in a moment: locked, serialization failure, deadlock."""
    match error.orig:
        case sqlite3.Error() as e:
            return getattr(e, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        case e:
            return getattr(e, "sqlstate", None) in {"40001", "40P01", "55P03"}


def is_write(error: DBAPIError) -> bool:
    """Tell whether a read-only connection was asked to write."""
    match error.orig:
        case sqlite3.Error() as e:
            return getattr(e, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
        case e:
            return getattr(e, "sqlstate", None) == "25006"


def is_gone(error: DBAPIError) -> bool:
    """Tell whether the database cannot be reached just now: none made, lost, too many, server stopping."""
    if isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "sqlstate", None) or ""
    if not state and isinstance(error, OperationalError):
        return True  # no connection came about: libpq's own errors have no code
    return error.connection_invalidated or state[:2] == "08" or state in {"53300", "57P01", "57P02", "57P03"}


def is_timeout(error: DBAPIError) -> bool:
    """Tell whether the statement was cut at its deadline."""
    match error.orig:
        case sqlite3.Error() as e:
            return getattr(e, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT
        case e:
            return getattr(e, "sqlstate", None) == "57014"
