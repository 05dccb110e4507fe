"""Payloads into the tables and out of them, as plain SQL: many rows at once, in the transaction of their points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from indexer.db.connection import Connection
from indexer.db.dialect import POSTGRESQL
from indexer.plugins import TABLES

COLUMNS = (
    "tag_id",
    "step",
    "seq",
    "ordinal",
    "kind",
    "encoding",
    "content_type",
    "width",
    "height",
    "colorspace",
    "dtype",
    "shape",
    "length",
    "digest",
    "facts",
    "error",
    "shard_id",
    "offset",
    "data",
)
_TYPES = (
    "int4",
    "int8",
    "int4",
    "int4",
    *("text",) * 3,
    *("int4",) * 3,
    "text",
    "text",
    "int8",
    "bytea",
    "text",
    "text",
)
_BINARY = (*_TYPES, "int4", "int8", "bytea")  # of COLUMNS: bytes go as they are, not as text twice as long
KEY = ("tag_id", "step", "seq")
_COUNT = """INSERT INTO blob_counts (tag_id, kind, count, errors, bytes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tag_id, kind) DO UPDATE SET count = blob_counts.count + excluded.count,
    errors = blob_counts.errors + excluded.errors, bytes = blob_counts.bytes + excluded.bytes"""

Rows = Sequence[tuple[Any, ...]]


def add(conn: Connection, rows: Rows) -> None:
    """Insert blobs, given by COLUMNS; a duplicate key is a bug and raises."""
    _insert(conn, "blobs", COLUMNS, rows, _BINARY)


def add_rows(conn: Connection, table: str, rows: Rows) -> None:
    """Insert rows of a kind's own table: its key, then its columns."""
    columns = next(known.columns for known in TABLES if known.name == table)
    _insert(conn, table, (*KEY, *columns), rows)


def count(conn: Connection, rows: Rows) -> None:
    """Add to what tags have: (tag_id, kind, count, errors, bytes)."""
    if rows:
        conn.many(_COUNT, rows)


def forget(conn: Connection, job_id: int) -> None:
    """Delete all payloads of a job; before its tags are deleted."""
    for table in ("blobs", *(known.name for known in TABLES)):
        own = "SELECT id FROM tags WHERE job_id = ?"
        conn.execute(f"DELETE FROM {table} WHERE tag_id IN ({own})", (job_id,))


def _insert(
    conn: Connection, table: str, columns: Iterable[str], rows: Rows, types: Sequence[str] | None = None
) -> None:
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in columns)  # one of them is a word of SQL
    if conn.dialect == POSTGRESQL:
        binary = " BINARY" if types else ""
        with conn.raw.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN{binary}") as copy:
            if types:
                copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(rows[0]))
    conn.many(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
