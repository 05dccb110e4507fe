"""PostgreSQL's own floor: binary COPY of the rows that a load would write, then the primary key's index."""

from __future__ import annotations

import time

import numpy as np
import psycopg
from sqlalchemy import text

from benchmarks.generate import FIRST_TIME, SECONDS_PER_STEP, Shape, values
from indexer.db.engine import open_reader

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, no flags, no extension. Source: PostgreSQL manual, COPY
_CHUNK_BYTES = 1 << 20
_COLUMNS = {"tag_id": ">i4", "step": ">i8", "seq": ">i4", "wall_time": ">f8", "value": ">f8"}
_ROW = np.dtype(  # how many columns, then each with its length before it
    [
        ("columns", ">i2"),
        *(part for name, kind in _COLUMNS.items() for part in ((f"{name}_bytes", ">i4"), (name, kind))),
    ]
)


def copy_and_index(url: str, rows: bytes) -> float:
    """Time COPY of `rows` (of `rows_of`) into a table like tensor_points, then its primary key, one transaction."""
    begun = time.perf_counter()
    with psycopg.connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("SET LOCAL maintenance_work_mem = '128MB'")
        cursor.execute(
            "CREATE TABLE floor (tag_id int4 NOT NULL, step int8 NOT NULL, seq int4 NOT NULL, "
            "wall_time float8, value float8)"
        )
        with cursor.copy("COPY floor FROM STDIN (FORMAT binary)") as copy:
            for start in range(0, len(rows), _CHUNK_BYTES):
                copy.write(rows[start : start + _CHUNK_BYTES])
        cursor.execute("ALTER TABLE floor ADD PRIMARY KEY (tag_id, step, seq)")
    return time.perf_counter() - begun


def rows_of(shape: Shape) -> bytes:
    """Return the rows of all runs as COPY wants them, by tag and step."""
    rows = np.zeros((shape.runs, shape.tags, shape.points), _ROW)
    rows["columns"] = 5
    for name in _COLUMNS:
        rows[f"{name}_bytes"] = _ROW[name].itemsize
    rows["tag_id"] = np.arange(1, shape.runs * shape.tags + 1).reshape(shape.runs, shape.tags, 1)
    rows["step"] = np.arange(1, shape.points + 1)
    rows["wall_time"] = FIRST_TIME + np.arange(shape.runs)[:, None, None] + rows["step"] * SECONDS_PER_STEP
    for run in range(shape.runs):
        rows["value"][run] = values(shape, run).T
    return b"".join([_HEAD, rows.tobytes(), b"\xff\xff"])


def stored_bytes(url: str) -> int:
    """Return what the tables of our schema take in a database, indexes included."""
    reader = open_reader(url)
    with reader.connect() as conn:
        size = conn.execute(
            text(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
                "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        ).scalar_one()
    reader.dispose()
    return int(size)


def server_version(url: str) -> str:
    """Return the server's version."""
    with psycopg.connect(url) as conn:
        return f"{conn.info.server_version // 10_000}.{conn.info.server_version % 10_000}"
