"""Rows in, as fast as each database takes them: a segment image on SQLite, binary COPY on PostgreSQL.

Rows are packed first, away from the database and in any thread, and inserted later.
Decisions: docs/decisions/0003-segment-images.md, 0005-postgresql-index-after-load.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer import log
from indexer.db import image
from indexer.db.connection import Connection, Database, transaction, translated
from indexer.db.dialect import POSTGRESQL
from indexer.errors import Retry
from indexer.types import Rows

COLUMNS = ("tag_id", "step", "seq", "wall_time", "value")
TABLE = "tensor_points"
Columns = Mapping[str, npt.NDArray[Any]]
Nulls = Mapping[str, npt.NDArray[np.bool_]]

_SMALL_ROWS = 1_000  # below, building an image costs more than it saves (measured)
_IMAGE_ROWS = 250_000  # 10 MB of points; the same again in SQLite's copy
_ATTACHED = 10  # databases at once: SQLite's default limit
_IMAGES = _ATTACHED - 4  # of one table; a batch has up to five, and the others have few rows
_VALUES = 250  # of one plain INSERT, 50 points: the knee of its speed
_COPY_ROWS = 65_536  # 3 MB of COPY at once
_SUSPEND_ROWS = 200_000  # a smaller load is not worth an index build
_LOCK_SECONDS = 2  # how long readers may hold up a change of the index
_INDEX_LOCK = 0x73756D69  # "sumi": two programs must not build the index at once


@dataclass(slots=True)
class Packed:
    """Rows of one table, in the form in which the database takes them."""

    table: str
    names: tuple[str, ...]
    count: int = 0
    images: list[image.Bytes] = field(default_factory=list)  # SQLite, many rows
    copies: list[image.Bytes] = field(default_factory=list)  # PostgreSQL
    columns: Columns = field(default_factory=dict)  # SQLite, few rows; or images do not work
    nulls: Nulls = field(default_factory=dict)
    schemas: list[str] = field(default_factory=list)  # where the images are attached


def pack(dialect: str, table: str, columns: Columns, nulls: Nulls | None = None, *, at_once: bool = False) -> Packed:
    """Return rows for `insert`, given as columns of equal length: int32, int64 or float64.

    NaN becomes NULL; `nulls` says where a column of integers holds NULL.  at_once: they are inserted in a transaction
    that is open already, where no image can be attached.
    """
    count = len(next(iter(columns.values())))
    packed = Packed(table, tuple(columns), count)
    if dialect == POSTGRESQL:
        for start in range(0, count, _COPY_ROWS):
            part = slice(start, start + _COPY_ROWS)
            masks = {name: mask[part] for name, mask in (nulls or {}).items()}
            packed.copies.append(copy_bytes({name: column[part] for name, column in columns.items()}, masks))
    elif at_once or nulls or count < _SMALL_ROWS or not images_work():
        packed.columns, packed.nulls = columns, nulls or {}
    else:
        size = max(_IMAGE_ROWS, -(-count // _IMAGES))
        for start in range(0, count, size):
            packed.images.append(image.build({name: c[start : start + size] for name, c in columns.items()}))
    return packed


def pack_points(dialect: str, rows: Rows) -> Packed:
    """Return points for `insert`."""
    return pack(dialect, TABLE, columns_of(rows))


@contextmanager
def load(database: Database, *packs: Packed) -> Iterator[Connection]:
    """Open a transaction in which `packs` can be inserted, with whatever belongs to them.

    Commits at the end of the block, rolls back on an exception. Errors come out as our families; a duplicate key is a
    bug of the caller and raises Refuse. On SQLite the write lock is held until the end of the block.
    """
    with translated(), _attached(database, packs), database.begin() as conn:
        yield conn


def insert(conn: Connection, packed: Packed) -> None:
    """Insert packed rows into their table, in the open transaction."""
    names = ", ".join(packed.names)
    for schema in packed.schemas:
        conn.execute(f"INSERT INTO {packed.table} ({names}) SELECT {names} FROM {schema}.p")
    if packed.columns:
        _insert(conn, packed.table, packed.columns, packed.nulls)
    if packed.copies:
        with conn.raw.cursor() as cursor, cursor.copy(f"COPY {packed.table} ({names}) FROM STDIN BINARY") as copy:
            copy.write(_COPY_HEADER)
            for part in packed.copies:
                copy.write(part.data)
            copy.write(_COPY_TRAILER)


def append(conn: Connection, table: str, columns: Columns, nulls: Nulls | None = None) -> None:
    """Insert rows given as columns into `table`, in the open transaction; see `pack`."""
    insert(conn, pack(conn.dialect, table, columns, nulls, at_once=True))


def _insert(conn: Connection, table: str, columns: Columns, nulls: Nulls) -> None:
    """Insert into SQLite, many rows a statement; the driver binds NaN as NULL."""
    into = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
    one = f"({', '.join('?' * len(columns))})"
    lists = [
        (_with_none(column, nulls[name]) if name in nulls else column.tolist()) for name, column in columns.items()
    ]
    per = _VALUES // len(columns)
    whole = len(lists[0]) - len(lists[0]) % per
    if whole:
        flat = list(chain.from_iterable(zip(*(values[:whole] for values in lists), strict=True)))
        width = per * len(columns)
        conn.many(into + ", ".join([one] * per), (flat[i : i + width] for i in range(0, len(flat), width)))
    rest = list(zip(*(values[whole:] for values in lists), strict=True))
    if rest:
        conn.many(into + one, rest)


def suspend_index(database: Database, expected_rows: int) -> bool:
    """Drop the key of tensor_points on PostgreSQL where a load of `expected_rows` outweighs what is stored.

    Returns whether it is gone. Then `ensure_index` must follow; until it does a duplicate key goes unnoticed and
    look-ups read the whole table. Readers go on; where one of them holds the table for long the index stays.
    """
    if database.dialect != POSTGRESQL or expected_rows < _SUSPEND_ROWS:
        return False
    try:
        with transaction(database) as conn:
            conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            conn.execute(f"SELECT pg_advisory_xact_lock({_INDEX_LOCK})")
            stored = conn.value("SELECT coalesce(sum(point_count), 0) FROM tags")
            if expected_rows <= stored:
                return index_missing(conn)
            conn.execute("ALTER TABLE tensor_points DROP CONSTRAINT IF EXISTS pk_tensor_points")
            conn.execute("DROP INDEX IF EXISTS pk_tensor_points")
    except Retry:
        return False
    return True


def ensure_index(database: Database) -> bool:
    """Build the key of tensor_points on PostgreSQL where it is missing, also after a kill during a load.

    Readers go on, other writers wait. Returns whether there was anything to do; then `rollups.catch_up` should follow.
    Refuse where a point is stored twice.
    """
    if database.dialect != POSTGRESQL:
        return False
    with transaction(database) as conn:
        if not index_missing(conn) and _is_primary_key(conn):
            return False
        conn.execute(f"SELECT pg_advisory_xact_lock({_INDEX_LOCK})")
        conn.execute("SET LOCAL maintenance_work_mem = '128MB'")
        conn.execute("CREATE UNIQUE INDEX IF NOT EXISTS pk_tensor_points ON tensor_points (tag_id, step, seq)")
    try:  # the index does its work already; making it the key needs the table to ourselves for a moment
        with transaction(database) as conn:
            conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            conn.execute(f"SELECT pg_advisory_xact_lock({_INDEX_LOCK})")
            if not index_missing(conn) and not _is_primary_key(conn):  # missing: another load suspended it again
                conn.execute(
                    "ALTER TABLE tensor_points ADD CONSTRAINT pk_tensor_points PRIMARY KEY USING INDEX pk_tensor_points"
                )
    except Retry as e:
        log.get().info("key_postponed", why=str(e))
    return True


def index_missing(conn: Connection) -> bool:
    """Tell whether look-ups in tensor_points would read the whole table just now; never on SQLite."""
    if conn.dialect != POSTGRESQL:
        return False
    return bool(conn.value("SELECT to_regclass('pk_tensor_points') IS NULL"))


def _is_primary_key(conn: Connection) -> bool:
    query = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'tensor_points'::regclass AND contype = 'p'"
    return bool(conn.value(query))


@contextmanager
def _attached(database: Database, packs: Sequence[Packed]) -> Iterator[None]:
    """Attach the images of `packs` as in-memory databases, outside of a transaction as SQLite wants it."""
    wanted = [(packed, one) for packed in packs for one in packed.images]
    if not wanted:
        yield
        return
    raw = database.connect().raw
    schemas: list[str] = []
    try:
        for packed, one in wanted:
            schema = f"segment{len(schemas)}"
            raw.execute(f"ATTACH ':memory:' AS {schema}")
            schemas.append(schema)
            raw.deserialize(one, name=schema)
            packed.schemas.append(schema)
        for packed in packs:
            packed.images.clear()  # SQLite has its own copy
        yield
    finally:
        with suppress(sqlite3.ProgrammingError):  # the connection was given up, and they with it
            for schema in schemas:
                raw.execute(f"DETACH {schema}")  # gives its memory back


@cache
def images_work() -> bool:
    """Tell, once a process, whether this SQLite reads images as we write them; a line in the log says why not."""
    odd: dict[str, npt.NDArray[Any]] = {
        "a": np.array([1, 1, 2, 2**31 - 1], np.int32),
        "b": np.array([-(2**63), 0, 2**53 + 1, 2**63 - 1], np.int64),
        "c": np.zeros(4, np.int32),
        "d": np.array([np.nan, 1.7e9, -0.5, 3.0]),
        "e": np.array([np.inf, -np.inf, np.nan, 1e-320]),
    }
    long = {name: np.resize(column, 4_000) for name, column in odd.items()}  # more than one page
    wide = {f"{name}{i}": column for i in range(5) for name, column in odd.items()}  # a longer cell
    try:
        for columns in (odd, odd | {"c": np.array([0, 1, 70_000, 2**31 - 1], np.int32)}, long, wide):
            if _read_back(columns) != _as_stored(columns):
                raise ValueError("an image was read back with other values")
    except (AttributeError, ValueError, sqlite3.Error) as e:  # AttributeError: a Python built without deserialize
        log.get().warning("slow_path_taken", why=str(e))
        return False
    return True


def _read_back(columns: Columns) -> list[tuple[float | None, ...]]:
    conn = sqlite3.connect(":memory:")
    try:
        for i in range(_ATTACHED):
            conn.execute(f"ATTACH ':memory:' AS segment{i}")
        conn.deserialize(image.build(columns), name="segment0")  # type: ignore[arg-type]  # any buffer will do
        return conn.execute(f"SELECT {', '.join(columns)} FROM segment0.p").fetchall()
    finally:
        conn.close()


def _as_stored(columns: Columns) -> list[tuple[float | None, ...]]:
    lists = [column.tolist() for column in columns.values()]
    return [tuple(None if x != x else x for x in row) for row in zip(*lists, strict=True)]


def _with_none(column: npt.NDArray[Any], null: npt.NDArray[np.bool_]) -> list[Any]:
    return [None if out else value for value, out in zip(column.tolist(), null.tolist(), strict=True)]


def columns_of(rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of `rows` by name."""
    return {name: getattr(rows, name) for name in COLUMNS}


def part(rows: Rows, start: int, stop: int) -> Rows:
    """Return rows[start:stop], not copied."""
    return Rows(*(getattr(rows, name)[start:stop] for name in COLUMNS))


# Binary COPY: a row is its number of fields, then each field as its length and bytes; length -1 is NULL.
# Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
_COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)  # signature, flags, length of the header's extension
_COPY_TRAILER = b"\xff\xff"


def copy_bytes(columns: Columns, nulls: Nulls, *, more: int = 0) -> npt.NDArray[np.uint8]:
    """Return the rows of a binary COPY, shape (bytes,): 4 bytes a field and the field, big-endian, none for NULL.

    more: fields that the caller puts behind those of each row.
    """
    kinds = {name: column.dtype.newbyteorder(">") for name, column in columns.items()}
    row = np.dtype(
        [("fields", ">i2"), *((f, k) for name in kinds for f, k in ((f"+{name}", ">i4"), (name, kinds[name])))]
    )
    out = np.empty(len(next(iter(columns.values()))), row)
    out["fields"] = len(columns) + more
    keep = None
    for name, column in columns.items():
        size = kinds[name].itemsize
        out[f"+{name}"] = size
        out[name] = column
        null = nulls.get(name, np.isnan(column) if column.dtype.kind == "f" else None)
        if null is not None and null.any():
            if keep is None:
                keep = np.ones((len(out), row.itemsize), np.bool_)
            out[f"+{name}"][null] = -1
            place = row.fields[name][1]  # type: ignore[index]  # bytes from the row's start
            keep[null, place : place + size] = False
    flat = out.view(np.uint8)
    return flat if keep is None else flat[keep.reshape(-1)]
