"""Payloads into the tables and out of them, as plain SQL: many rows at once, in the transaction of their points."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain, islice
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
OWN = "SELECT id FROM tags WHERE job_id = ? UNION ALL SELECT -id FROM tags WHERE job_id = ?"
"""Ids under which rows of a job's points are; below zero they are set aside, see kept.py."""

_COUNT = """INSERT INTO blob_counts (tag_id, kind, count, errors, bytes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tag_id, kind) DO UPDATE SET count = blob_counts.count + excluded.count,
    errors = blob_counts.errors + excluded.errors, bytes = blob_counts.bytes + excluded.bytes"""

_INTO = """INSERT INTO blobs (tag_id, step, seq, shape, length, digest, facts, data,
    ordinal, kind, encoding, content_type, dtype) VALUES """
_ONE = "(?, ?, ?, ?, ?, ?, ?, ?, 0, 'histogram', 'raw', 'application/octet-stream', 'float64')"
_AT_ONCE = 30  # rows of a statement: 240 values, the knee of its speed

# Binary COPY: a row is its number of fields, then each field as its length and bytes; length -1 is NULL.
# Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)  # signature, flags, length of the header's extension
_COPY_TRAILER = b"\xff\xff"
_COPY_ROWS = 500  # 400 KB of usual histograms at once
_NULL = b"\xff" * 4
_KEY = struct.Struct(">hiiiqii")  # number of fields; tag_id, step, seq
_LENGTH = struct.Struct(">iq")
_SIZE = struct.Struct(">i")


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _SIZE.pack(len(encoded)) + encoded


_ALIKE = b"".join(  # ordinal to dtype
    [
        _SIZE.pack(4) + _SIZE.pack(0),
        *map(_text, ("histogram", "raw", "application/octet-stream")),
        _NULL * 3,
        _text("float64"),
    ]
)

Rows = Sequence[tuple[Any, ...]]


def _copied(row: tuple[Any, ...]) -> tuple[bytes, ...]:
    """Return a histogram, as `add_histograms` takes it, as a row of COLUMNS for a binary COPY."""
    tag_id, step, seq, shape, length, digest, facts, data = row
    return (
        _KEY.pack(len(COLUMNS), 4, tag_id, 8, step, 4, seq),
        _ALIKE,
        _text(shape),
        _LENGTH.pack(8, length),
        _SIZE.pack(len(digest)),
        digest,
        _text(facts),
        _NULL * 3,
        _SIZE.pack(length),
        data,
    )


def add(conn: Connection, rows: Rows) -> None:
    """Insert blobs, given by COLUMNS; a duplicate key is a bug and raises."""
    _insert(conn, "blobs", COLUMNS, rows, _BINARY)
    conn.bytes_written += sum(len(row[-1] or b"") for row in rows)


def add_histograms(conn: Connection, columns: Sequence[list[Any]]) -> None:
    """Insert histograms that came as columns: tag_id, step, seq, shape, length, digest, facts, data."""
    if not columns:
        return
    if conn.dialect == POSTGRESQL:
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        with conn.raw.cursor() as cursor, cursor.copy(f"COPY blobs ({names}) FROM STDIN BINARY") as copy:
            copy.write(_COPY_HEADER)
            rows = zip(*columns, strict=True)
            while part := list(islice(rows, _COPY_ROWS)):
                copy.write(b"".join(chain.from_iterable(map(_copied, part))))
            copy.write(_COPY_TRAILER)
        return
    conn.bytes_written += sum(columns[4])
    # Each execution gives up Python's global lock and waits for it again, while another thread prepares a batch.
    flat = list(chain.from_iterable(zip(*columns, strict=True)))
    one, width = len(columns), _AT_ONCE * len(columns)
    whole = len(flat) - len(flat) % width
    many = _INTO + ", ".join([_ONE] * _AT_ONCE)
    conn.many(many, (flat[i : i + width] for i in range(0, whole, width)))
    conn.many(_INTO + _ONE, (flat[i : i + one] for i in range(whole, len(flat), one)))


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
        conn.execute(f"DELETE FROM {table} WHERE tag_id IN ({OWN})", (job_id, job_id))


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
