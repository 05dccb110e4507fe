"""An empty database of our schema that goes when it is closed: rows are made there again, to be compared."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from indexer.db import migrate
from indexer.db.connection import Connection
from indexer.db.dialect import SQLITE


class Scratch:
    """A temporary SQLite database with one job at a time; what does not fit into its cache is in a nameless file."""

    def __init__(self) -> None:
        self._raw = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "foreign_keys = ON"):
            self._raw.execute(f"PRAGMA {pragma}")
        self.conn = Connection(SQLITE, self._raw)
        migrate.create(self.conn)

    def begin(self, job_id: int, shards: Iterable[tuple[int, str, str]]) -> None:
        """Forget the job before; hold one with this id and these files: id, name and kind of each."""
        conn = self.conn
        conn.execute("DELETE FROM roots")  # all else goes with it
        conn.execute("INSERT INTO roots (id, name, path) VALUES (1, '', '')")
        conn.execute("INSERT INTO jobs (id, root_id, train_id, train_key) VALUES (?, 1, '', ?)", (job_id, b""))
        insert = "INSERT INTO shards (id, job_id, name, kind, format) VALUES (?, ?, ?, ?, 'mindspore')"
        conn.many(insert, [(id_, job_id, name, kind) for id_, name, kind in shards])

    def close(self) -> None:
        """Give everything back."""
        self._raw.close()
