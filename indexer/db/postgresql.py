"""Many rows at once into PostgreSQL, where a statement a row would wait for the server a row.

Decision: docs/decisions/0014-postgresql-many-rows-at-once.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.db import bulk
from indexer.db.connection import Connection, Database, Row, translated
from indexer.db.dialect import POSTGRESQL

FEW = 20
"""Rows that are sent one by one: the statement for many costs as much."""

TYPES: Mapping[str, str] = (
    dict.fromkeys(("id", "root_id", "job_id", "generation", "max_length", "seq", "segments"), "integer")
    | dict.fromkeys(("bytes_on_disk", "bytes_indexed", "point_count", "revision"), "bigint")
    | dict.fromkeys(("cursor", "size", "mtime_ns", "record_count", "bad_records", "bad_bytes", "lost_since"), "bigint")
    | dict.fromkeys(("name_key", "first_step", "last_step", "min_step", "max_step"), "bigint")
    | dict.fromkeys(("nan_count", "pos_inf_count", "neg_inf_count", "rolled_count", "rolled_step"), "bigint")
    | dict.fromkeys(("create_time", "update_time", "start_time", "missing_since", "access_time"), "double precision")
    | dict.fromkeys(("evicted_at", "pruned_at"), "double precision")
    | dict.fromkeys(("listed_create_time", "listed_update_time"), "double precision")
    | dict.fromkeys(("explain_create_time", "explain_update_time"), "double precision")
    | dict.fromkeys(("profiler_dir", "profiler_type", "graph_mode", "dump_dir"), "text")
    | dict.fromkeys(("first_wall_time", "last_wall_time", "max_wall_time"), "double precision")
    | dict.fromkeys(("last_value", "min_value", "max_value"), "double precision")
    | dict.fromkeys(("train_key", "fingerprint", "tail", "series_key", "metadata", "content"), "bytea")
    | dict.fromkeys(("train_id", "cache_status", "last_error", "name", "kind", "format", "file_id", "state"), "text")
    | dict.fromkeys(("plugin", "data_class", "display_name", "description"), "text")
)
"""Of columns that rows of jobs, shards and tags come with; the same name has the same type in all of them."""

_FIXED = {"integer": np.int32, "bigint": np.int64, "double precision": np.float64}
_NULL = b"\xff\xff\xff\xff"


def insert_new(conn: Connection, table: str, names: Sequence[str], rows: Sequence[Row]) -> bool:
    """Insert rows in one statement; one whose key exists is left out. False: nothing is done, send them one by one."""
    values = _as_json(conn, names, rows)
    if values is None:
        return False
    listed = _listed(names)
    conn.execute(
        f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {_recordset(names)} ON CONFLICT DO NOTHING", (values,)
    )
    return True


def update(conn: Connection, table: str, names: Sequence[str], rows: Sequence[Row], *, was: str = "") -> int | None:
    """Set the columns `names` of rows by id in one statement; return how many rows of the table it met.

    rows: values of `names`, then the id, then with `was` the value that this column must still have. None: nothing is
    done, send them one by one.
    """
    keys = ("id", "was") if was else ("id",)
    values = _as_json(conn, (*names, *keys), rows)
    if values is None or len({row[len(names)] for row in rows}) < len(rows):  # of two for one row one would be lost
        return None
    changes = ", ".join(f'"{name}" = v."{name}"' for name in names)
    same = f' AND t."{was}" = v.was' if was else ""
    types = {**TYPES, "was": TYPES[was]} if was else TYPES
    found = f"FROM {_recordset((*names, *keys), types)} WHERE t.id = v.id{same}"
    return conn.execute(f"UPDATE {table} AS t SET {changes} {found}", (values,)).rowcount


def _as_json(conn: Connection, names: Sequence[str], rows: Sequence[Row]) -> str | None:
    """Return many rows as a JSON array of objects; None where they are few, or JSON cannot hold a value."""
    if conn.dialect != POSTGRESQL or len(rows) < FEW:
        return None
    try:
        return json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_hex, allow_nan=False)
    except ValueError:
        return None


def _hex(value: object) -> str:
    """Return bytes as PostgreSQL reads them in text."""
    if not isinstance(value, bytes):
        raise TypeError(f"no value of a row: {value!r}")
    return f"\\x{value.hex()}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _recordset(names: Sequence[str], types: Mapping[str, str] = TYPES) -> str:
    return f"json_to_recordset(?) AS v({', '.join(f'{chr(34)}{name}{chr(34)} {types[name]}' for name in names)})"


def pack(table: str, names: Sequence[str], rows: Sequence[Row]) -> bulk.Packed:
    """Return rows, at least one, of plain Python values as `bulk.insert` takes them. NaN becomes NULL, as on SQLite."""
    values = dict(zip(names, zip(*rows, strict=True), strict=True))
    fixed = [name for name in names if TYPES[name] in _FIXED]
    others = [name for name in names if TYPES[name] not in _FIXED]
    columns: dict[str, npt.NDArray[Any]] = {}
    nulls: dict[str, npt.NDArray[np.bool_]] = {}
    for name in fixed:
        columns[name], nulls[name] = _column(values[name], _FIXED[TYPES[name]])
    sizes = np.full(len(rows), 2 + sum(4 + column.itemsize for column in columns.values()))
    for name, null in nulls.items():
        sizes -= null * columns[name].itemsize
    ends = np.cumsum(sizes).tolist()
    flat = bulk.copy_bytes(columns, nulls, more=len(others)).tobytes()
    known: dict[Row, bytes] = {}  # runs of a sweep have the same tags
    parts: list[bytes] = []
    start = 0
    for end, row in zip(ends, zip(*(values[name] for name in others), strict=True), strict=True):
        tail = known.get(row)
        if tail is None:
            tail = known[row] = b"".join([_field(value) for value in row])
        parts += (flat[start:end], tail)
        start = end
    return bulk.Packed(table, (*fixed, *others), len(rows), copies=[np.frombuffer(b"".join(parts), np.uint8)])


def _column(values: Sequence[Any], kind: type[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return values as an array, and where it is NULL."""
    if kind is np.float64:
        column = np.array(values, kind)  # None becomes NaN
        return column, np.isnan(column)
    try:
        return np.array(values, kind), np.zeros(len(values), np.bool_)
    except TypeError:
        null = np.array([value is None for value in values])
        return np.array([0 if value is None else value for value in values], kind), null


def _field(value: str | bytes | None) -> bytes:
    """Return a value of any length as a field of a binary COPY."""
    if value is None:
        return _NULL
    content = value.encode() if isinstance(value, str) else value
    return len(content).to_bytes(4, "big") + content


@contextmanager
def unhurried(database: Database) -> Iterator[None]:
    """Let commits return before they are on disk, until the end of the block; the next one behind it waits for all.

    Each is still whole or not there. A server that breaks down in between loses the last of them, points with their
    cursors, and its clients' connections: who wrote them reads the tables again and goes on from there.
    """
    if database.dialect != POSTGRESQL:
        yield
        return
    with translated():
        database.connect().raw.execute("SET synchronous_commit = off")
    database.unsure = True
    try:
        yield
    finally:
        with suppress(Exception):  # a connection that is lost needs no setting; whoever uses it next will meet it
            database.connect().raw.execute("RESET synchronous_commit")
