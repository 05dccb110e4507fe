"""What can be asked of a database about its own condition, whatever its schema is; nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from indexer.db import bulk, migrate
from indexer.db.connection import Connection, Database, translated
from indexer.db.dialect import POSTGRESQL, SQLITE, sqlite_file
from indexer.db.reading import open_read_only


class Indexer(NamedTuple):
    """A process that has not said that it ended."""

    pid: int
    host: str
    heartbeat: float  # seconds since the epoch
    state: str
    message: str | None = None  # what it waits for


@dataclass(slots=True)
class Server:
    """What a PostgreSQL server says of itself."""

    version: int  # 160003 is 16.3
    encoding: str  # of the database
    role: str
    superuser: bool
    max_connections: int
    connections: int  # just now
    now: float  # its clock, seconds since the epoch
    without_key: bool  # a first load runs, or was cut


@dataclass(slots=True)
class Condition:
    """What a database says of itself."""

    revision: str | None = None  # None: it is empty
    bytes: int = 0
    journal_mode: str | None = None  # SQLite only
    roots: list[str] = field(default_factory=list)  # paths, as stored
    indexers: list[Indexer] = field(default_factory=list)  # newest heartbeat first
    newest_mtime_ns: int = 0  # of a file, when it was read
    server: Server | None = None


def examine(url: str) -> Condition:
    """Ask the database at `url`. Errors come out as our families."""
    with translated(), _opened(url) as conn:
        found = Condition()
        if conn.dialect == POSTGRESQL:
            found.bytes = int(conn.value("SELECT pg_database_size(current_database())"))
            found.server = _server(conn)
        else:
            found.bytes = int(conn.value("PRAGMA page_count")) * int(conn.value("PRAGMA page_size"))
            found.journal_mode = str(conn.value("PRAGMA journal_mode"))
        found.revision = migrate.current_of(conn)
        if found.revision is None:
            return found
        if found.server is not None:
            found.server.without_key = bulk.index_missing(conn)
        found.roots = [row[0] for row in conn.execute("SELECT path FROM roots ORDER BY id")]
        found.newest_mtime_ns = conn.value("SELECT coalesce(max(mtime_ns), 0) FROM shards")
        query = (
            "SELECT pid, host, heartbeat, state, message FROM indexers WHERE state <> 'stopped' ORDER BY heartbeat DESC"
        )
        found.indexers = [Indexer(*row) for row in conn.execute(query)]
        return found


def sqlite_options() -> list[str]:
    """Return the options that SQLite was compiled with."""
    with closing(sqlite3.connect(":memory:")) as raw:
        return [str(row[0]) for row in raw.execute("PRAGMA compile_options")]


@contextmanager
def _opened(url: str) -> Iterator[Connection]:
    file = sqlite_file(url)
    if file is not None:
        with closing(open_read_only(Path(file))) as raw:
            yield Connection(SQLITE, raw)
        return
    database = Database(url)
    try:
        yield database.connect()
    finally:
        database.dispose()


def _server(conn: Connection) -> Server:
    row: Any = conn.execute(
        "SELECT current_setting('server_version_num')::int, pg_encoding_to_char(encoding), current_user::text, "
        "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), current_setting('max_connections')::int, "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "
        "extract(epoch FROM clock_timestamp())::float8 FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    return Server(row[0], row[1], row[2], row[3], row[4], row[5], row[6], without_key=False)
