"""The only place that knows two databases: their URLs, and what an error means."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from indexer.errors import Refuse, UsageError

if TYPE_CHECKING:  # SQLAlchemy takes a quarter of a second to import
    from sqlalchemy.engine import URL

SQLITE = "sqlite"
POSTGRESQL = "postgresql"
SQLITE_PAGE_BYTES = 16384
"""Measured: the knee of load speed over page size. Source: spec of the project's first measurements, docs/decisions."""


_PLAIN_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///([^?%]+)")
_PLAIN_POSTGRESQL = re.compile(
    r"postgres(?:ql)?(?:\+psycopg)?://"
    r"(?:(?P<user>[^:/?#@\[\]\s]*)(?::(?P<password>[^:/?#@\[\]\s]*))?@)?"
    r"(?P<host>[\w.-]*)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/(?P<dbname>[^/?#@\s]*))?"
    r"(?:\?(?P<query>[^?#@\s]*))?",
    re.ASCII,
)


def sqlite_file(url: str) -> str | None:
    """Return the path in a SQLite URL, None where `url` is of PostgreSQL. Refuse as `parse_url`."""
    plain = _PLAIN_SQLITE.fullmatch(url)
    if plain is not None and plain.group(1) != ":memory:":
        return plain.group(1)  # without SQLAlchemy, which reads it the same way
    if _PLAIN_POSTGRESQL.fullmatch(url) is not None:
        return None
    parsed = parse_url(url)
    return parsed.database if parsed.get_backend_name() == SQLITE else None


def postgresql_arguments(url: str) -> dict[str, Any]:
    """Return what a PostgreSQL URL means as arguments of psycopg.connect. Refuse as `parse_url`.

    SQLAlchemy decides, so that one address means one server to all of us; usual forms are read without it, the same
    way. libpq would read some differently (`+` in arguments, an argument without value).
    """
    plain = _PLAIN_POSTGRESQL.fullmatch(url)
    pairs = parse_qsl(plain["query"]) if plain is not None and plain["query"] else []
    query = dict(pairs)
    several = len(query) != len(pairs) or "port" in query or re.search("[:,]", query.get("host", ""))
    if plain is not None and not several:
        _require_psycopg()
        found = {name: unquote(plain[name] or "") for name in ("host", "dbname", "user", "password")}
        port = {"port": int(plain["port"])} if plain["port"] and int(plain["port"]) else {}
        return {name: value for name, value in found.items() if value} | port | query
    parsed = parse_url(url)
    return dict(parsed.get_dialect()().create_connect_args(parsed)[1])


def _require_psycopg() -> None:
    if importlib.util.find_spec("psycopg") is None:
        raise Refuse("PostgreSQL needs the driver psycopg: pip install 'summarydb[postgres]'")


def parse_url(url: str) -> URL:
    """Return `url` as SQLAlchemy's, with the drivers we use. Refuse names what is wrong and what to write."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

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
        _require_psycopg()
        return parsed.set(drivername="postgresql+psycopg")
    if name == SQLITE:
        if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
            raise Refuse(f"database driver {parsed.drivername!r} is not supported: write sqlite:///FILE")
        if not parsed.database or parsed.database == ":memory:":
            raise Refuse("an in-memory database would be lost at once: write sqlite:///FILE")
        return parsed.set(drivername="sqlite+pysqlite")
    raise Refuse(f"database {name!r} is not supported: write sqlite:///FILE or postgresql://USER@HOST/DATABASE")


def driver_error(error: BaseException) -> Exception | None:
    """Return the driver's own error in `error`, which may be SQLAlchemy's around it; None where there is none."""
    inner = getattr(error, "orig", None)
    found = error if inner is None else inner
    psycopg: Any = sys.modules.get("psycopg")
    kinds = (sqlite3.Error,) if psycopg is None else (sqlite3.Error, psycopg.Error)
    return found if isinstance(found, kinds) else None


def is_busy(error: Exception) -> bool:
    """Tell whether the same call may succeed in a moment: locked, serialization failure, deadlock."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return getattr(error, "sqlstate", None) in {"40001", "40P01", "55P03"}


def is_write(error: Exception) -> bool:
    """Tell whether a read-only connection was asked to write."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY
    return getattr(error, "sqlstate", None) == "25006"


def is_full(error: Exception) -> bool:
    """Tell whether the database found no space on its disk."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return getattr(error, "sqlstate", None) == "53100"


def is_failing(error: Exception) -> bool:
    """Tell whether what is below the database fails it: its disk, its memory. It may pass.

    On SQLite a quota or a limit on file sizes shows as an error of the disk, too.
    """
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
    return getattr(error, "sqlstate", None) in {"58030", "53200", "53400"}


def is_gone(error: Exception) -> bool:
    """Tell whether the database cannot be reached just now: none made, lost, cut as idle, too many, server stopping."""
    if isinstance(error, sqlite3.Error):
        return False
    state = getattr(error, "sqlstate", None) or ""
    if not state:  # no connection came about, or it broke: libpq's own errors have no code
        psycopg: Any = sys.modules.get("psycopg")
        return psycopg is not None and isinstance(error, psycopg.OperationalError)
    return state[:2] == "08" or state in {"53300", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}


def is_timeout(error: Exception) -> bool:
    """Tell whether the statement was cut at its deadline."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_INTERRUPT
    return getattr(error, "sqlstate", None) == "57014"
