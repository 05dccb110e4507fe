"""One moment of a database, read with the indexer's kind of connection for as long as it takes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from indexer.db import migrate
from indexer.db.connection import BUSY_MS, Connection, Database, translated
from indexer.db.dialect import POSTGRESQL, SQLITE, sqlite_file
from indexer.errors import Refuse


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Read a database in one snapshot, whatever is written meanwhile. Refuse where its schema is not the newest."""
    file = sqlite_file(url)
    with translated():
        raw: Any
        if file is not None:
            raw = open_read_only(Path(file))
            begin = "BEGIN"
        else:
            raw = Database(url).connect().raw
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with closing(raw):
            raw.execute(begin)
            conn = Connection(SQLITE if file is not None else POSTGRESQL, raw)
            migrate.require_newest(migrate.current_of(conn))  # its first look is the snapshot's moment
            yield conn


def open_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write. Refuse where there is no such file."""
    if not path.exists():
        raise Refuse(f"{path}: there is no such file; give another --db")
    uri = f"file:{quote(path.absolute().as_posix())}?mode=ro"
    raw = sqlite3.connect(uri, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    raw.execute("PRAGMA query_only = ON")
    return raw
