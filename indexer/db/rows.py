"""Rows of any table as both databases give them, streaming, and sums of them that can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, Table, Text

from indexer.db.connection import Connection, Row
from indexer.db.dialect import POSTGRESQL
from indexer.db.schema import METADATA

_TYPES = (  # of columns, in PostgreSQL's words; the first that fits
    (Boolean, "bool"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Double, "float8"),
    (Text, "text"),
    (LargeBinary, "bytea"),
)
_SUM_BYTES = 16
_SUM_LIMIT = 1 << 8 * _SUM_BYTES


@dataclass(slots=True)
class Tally:
    """Count and sum of rows, the same in whatever order and from whichever database they come."""

    rows: int = 0
    total: int = 0

    def add(self, row: Row) -> None:
        """Count a row of `Shape.canonical`."""
        digest = blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=_SUM_BYTES).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % _SUM_LIMIT
        self.rows += 1

    @property
    def checksum(self) -> str:
        """The sum of all rows' digests, hexadecimal."""
        return f"{self.total:0{2 * _SUM_BYTES}x}"


@dataclass(frozen=True)
class Shape:
    """A table as both databases have it."""

    table: Table
    left_out: frozenset[str] = frozenset()  # columns

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.table.name)

    @cached_property
    def chosen(self) -> list[Column[Any]]:
        """Its columns in the declared order, without those left out."""
        return [column for column in self.table.columns if column.name not in self.left_out]

    @cached_property
    def columns(self) -> str:
        """Its columns as SQL."""
        return ", ".join(f'"{column.name}"' for column in self.chosen)

    @cached_property
    def types(self) -> list[str]:
        """Types of its columns."""
        return [next(name for kind, name in _TYPES if isinstance(c.type, kind)) for c in self.chosen]

    @cached_property
    def order(self) -> str:
        """Its key as far as both databases sort it alike: a SQLite file grows at its end then."""
        keys = [f'"{c.name}"' for c in self.table.primary_key if isinstance(c.type, Integer)]
        return f" ORDER BY {', '.join(keys)}" if keys else ""

    @property
    def counts_itself(self) -> bool:
        """Its ids come from a sequence on PostgreSQL."""
        return self.table.autoincrement_column is not None

    @cached_property
    def _places(self) -> tuple[list[int], list[int], list[int]]:
        places = [[i for i, kind in enumerate(self.types) if kind == wanted] for wanted in ("float8", "bool", "bytea")]
        return places[0], places[1], places[2]

    def canonical(self, row: Sequence[Any]) -> Row:
        """Return a row as it is summed up: NaN is NULL, zeros have no sign (SQLite keeps none), bytes are a digest."""
        floats, booleans, binary = self._places
        out = list(row)
        for i in floats:
            value = out[i]
            if value is not None:
                out[i] = None if value != value else float(value) + 0.0
        for i in booleans:
            out[i] = None if out[i] is None else bool(out[i])
        for i in binary:
            out[i] = None if out[i] is None else blake2b(out[i]).digest()
        return tuple(out)

    def typed(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Yield rows as PostgreSQL's binary format wants them: SQLite has no booleans."""
        booleans = self._places[1]
        if not booleans:
            yield from rows
            return
        for row in rows:
            yield tuple(bool(v) if i in booleans and v is not None else v for i, v in enumerate(row))


SHAPES = tuple(Shape(table) for table in METADATA.sorted_tables)
"""All tables, those that others refer to first."""


def stream(conn: Connection, shape: Shape, tail: str = "") -> Iterator[Row]:
    """Yield the rows of a table, all or what `tail` (WHERE, ORDER BY) makes of it; one at a time is in memory."""
    query = f"SELECT {shape.columns} FROM {shape.name}{tail}"
    if conn.dialect == POSTGRESQL:
        with conn.raw.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(shape.types)
            yield from copy.rows()
        return
    yield from iter(conn.execute(query).fetchone, None)  # nothing to close, when the connection is closed first


def compare(one: Connection, other: Connection, shape: Shape, tail: str) -> tuple[Counter[Row], Counter[Row]]:
    """Return the rows that only one has, and those that only the other has; they are in memory where they differ."""
    sums = []
    for conn in (one, other):
        tally = Tally()
        for row in stream(conn, shape, tail):
            tally.add(shape.canonical(row))
        sums.append((tally.rows, tally.total))
    if sums[0] == sums[1]:
        return Counter(), Counter()
    found = [Counter(shape.canonical(row) for row in stream(conn, shape, tail)) for conn in (one, other)]
    return found[0] - found[1], found[1] - found[0]


def any_of(conn: Connection, shape: Shape, tail: str) -> bool:
    """Tell whether a table has rows at all, of those that `tail` chooses."""
    return bool(conn.value(f"SELECT EXISTS (SELECT 1 FROM {shape.name}{tail})"))
