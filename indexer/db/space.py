"""How much room a database takes, and how much is left where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, text

from indexer.db.connection import WAL_BYTES
from indexer.db.dialect import POSTGRESQL

STARVED_BYTES = 2 * WAL_BYTES
"""A WAL of this length: a reader has kept a transaction open for long, so that nothing behind it can be copied back."""
_LEAST_FREE_BYTES = 2**30
_LEAST_FREE_SHARE = 0.1  # of a small disk
_ROOM_TO_WORK = 0.1  # of the database: its WAL grows with a load, an upgrade copies tables


class Space(NamedTuple):
    """Bytes of a database and of its disk. A PostgreSQL server's disk cannot be seen: then those are None."""

    size: int
    wal: int | None = None  # SQLite's write-ahead log
    free: int | None = None  # for us, on the disk that holds the database
    disk: int | None = None  # all of that disk

    @property
    def starved(self) -> bool:
        """Whether a reader keeps the WAL from being copied back."""
        return (self.wal or 0) > STARVED_BYTES

    @property
    def scarce(self) -> bool:
        """Whether the disk is nearly full. Source: docs/decisions/0038-well-or-degraded.md"""
        if self.free is None or self.disk is None:
            return False
        return self.free < max(min(_LEAST_FREE_BYTES, _LEAST_FREE_SHARE * self.disk), _ROOM_TO_WORK * self.size)


def space(conn: Connection) -> Space:
    """Return the room that the database of `conn` takes and has."""
    if conn.dialect.name == POSTGRESQL:
        return Space(int(conn.execute(text("SELECT pg_database_size(current_database())")).scalar_one()))
    query = (
        "SELECT page_count * page_size, file FROM pragma_page_count(), pragma_page_size(), pragma_database_list()"
        " WHERE name = 'main'"
    )
    size, file = conn.execute(text(query)).one()
    path = Path(file)
    try:
        disk = shutil.disk_usage(path.parent)
    except OSError:
        return Space(size, _bytes_of(Path(f"{file}-wal")))
    return Space(size, _bytes_of(Path(f"{file}-wal")), disk.free, disk.total)


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
