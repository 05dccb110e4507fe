"""Rows in every format: JSON in three shapes, ndjson, CSV, an Arrow stream, Parquet. Knows nothing of the database.

An encoder takes rows some at a time and gives back bytes; what it keeps does not grow with them (JSON in columns keeps
its text, Parquet a few hundred bytes for every ROW_GROUP rows).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Protocol

from indexer.payload import finite
from webapi import respond

Rows = Sequence[Sequence[Any]]

CONTENT_TYPES = {
    "json": respond.JSON,
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
"""Of a format, which is also the suffix of an address."""
ACCEPTED = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}
"""What an Accept header may say."""
SHAPES = ("records", "columns", "rows")
"""Of JSON: an object a row, a list a column, a list a row."""
ROW_GROUP = 65_536
"""Rows of a batch in Arrow and Parquet, and"""
HEAVY_BYTES = 16 * 2**20
"""the length of texts and bytes at which it ends before."""


class Kind(StrEnum):
    """What a column holds; NULL may be anywhere."""

    INTEGER = "integer"  # signed 64-bit
    NUMBER = "number"  # 64-bit float
    TEXT = "text"
    BOOLEAN = "boolean"
    BYTES = "bytes"
    JSON = "json"  # lists and objects; JSON text where a format has no such thing
    ANY = "any"  # of a query: whatever it gave, for Arrow and Parquet see `kinds_of`


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    kind: Kind = Kind.ANY


class Encoder(Protocol):
    """Makes bytes of rows."""

    def begin(self) -> bytes:
        """Return what comes before the rows."""

    def rows(self, rows: Rows) -> bytes:
        """Return rows."""

    def end(self, facts: Mapping[str, object]) -> bytes:
        """Return what comes behind the rows, with facts of the answer where the format has a place for them."""


class MissingLibrary(Exception):
    """A format needs what is not installed; the text says how to install it."""


def encoder(form: str, columns: Sequence[Column], shape: str = "records") -> Encoder:
    """Return a new encoder of a format; `shape` counts for JSON. MissingLibrary where pyarrow is missing."""
    match form:
        case "json":
            return _SHAPED[shape](columns)
        case "ndjson":
            return _Ndjson(columns)
        case "csv":
            return _Csv(columns)
    require(form)
    return Arrow(columns, parquet=form == "parquet")


def require(form: str) -> None:
    """MissingLibrary where a format needs what is not installed."""
    if form in {"arrow", "parquet"} and find_spec("pyarrow") is None:
        raise MissingLibrary(f"{form} needs pyarrow, which is not installed: pip install 'summarydb[arrow]'")


def unique(names: Iterable[str]) -> list[str]:
    """Return names without a double: the second `a` is `a_2`."""
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found[free] = None
    return list(found)


# Text -----------------------------------------------------------------------------------------------------------------
class _Text:
    """What the formats that are text share: bytes are hexadecimal there."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.names = [column.name for column in columns]
        self._numbers = [n for n, column in enumerate(columns) if column.kind == Kind.NUMBER]
        self._known = all(column.kind not in {Kind.ANY, Kind.BYTES, Kind.JSON} for column in columns)

    def prepared(self, rows: Rows) -> tuple[Rows, bool]:
        """Return rows without bytes, and whether every float in them is known to be finite."""
        if self._known:
            return rows, not respond.infinite(rows, self._numbers)
        return [[cell.hex() if isinstance(cell, bytes) else cell for cell in row] for row in rows], False

    def encoded(self, rows: Rows) -> bytes:
        """Return rows as a list of lists in JSON."""
        shown, strict = self.prepared(rows)
        return respond.encode_finite(shown) if strict else respond.encode(shown)

    def records(self, rows: Rows) -> tuple[list[dict[str, Any]], Callable[[object], bytes]]:
        """Return rows as objects, and what makes JSON of them."""
        shown, strict = self.prepared(rows)
        names = self.names
        return [dict(zip(names, row, strict=True)) for row in shown], (
            respond.encode_finite if strict else respond.encode
        )


def _facts(facts: Mapping[str, object]) -> bytes:
    return b"".join(b"," + respond.encode(name) + b":" + respond.encode(fact) for name, fact in facts.items()) + b"}"


class _Lists(_Text):
    """`{"columns": [names], "rows": [[...]], facts}`."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self._comma = b""

    def begin(self) -> bytes:
        """Return the names."""
        return b'{"columns":' + respond.encode(self.names) + b',"rows":['

    def rows(self, rows: Rows) -> bytes:
        """Return lists."""
        if not rows:
            return b""
        comma, self._comma = self._comma, b","
        return comma + self.encoded(rows)[1:-1]

    def end(self, facts: Mapping[str, object]) -> bytes:
        """Return the facts."""
        return b"]" + _facts(facts)


class _Records(_Text):
    """`{"items": [{...}], facts}`."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.names = unique(self.names)
        self._comma = b""

    def begin(self) -> bytes:
        """Return the beginning of the list."""
        return b'{"items":['

    def rows(self, rows: Rows) -> bytes:
        """Return objects."""
        if not rows:
            return b""
        comma, self._comma = self._comma, b","
        items, encode = self.records(rows)
        return comma + encode(items)[1:-1]

    def end(self, facts: Mapping[str, object]) -> bytes:
        """Return the facts."""
        return b"]" + _facts(facts)


class _Columns(_Text):
    """`{"columns": {name: [...]}, facts}`: the text of the columns is kept until the end."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.names = unique(self.names)
        self._texts = [bytearray() for _ in columns]

    def begin(self) -> bytes:
        """Return nothing: the first column ends when all rows are there."""
        return b""

    def rows(self, rows: Rows) -> bytes:
        """Keep the rows."""
        shown, strict = self.prepared(rows)
        encode = respond.encode_finite if strict else respond.encode
        for text, cells in zip(self._texts, zip(*shown, strict=True), strict=bool(shown)):
            text += (b"," if text else b"") + encode(cells)[1:-1]
        return b""

    def end(self, facts: Mapping[str, object]) -> bytes:
        """Return all columns and the facts."""
        columns = [
            respond.encode(name) + b":[" + text + b"]" for name, text in zip(self.names, self._texts, strict=True)
        ]
        return b'{"columns":{' + b",".join(columns) + b"}" + _facts(facts)


_SHAPED: dict[str, Callable[[Sequence[Column]], Encoder]] = {"records": _Records, "columns": _Columns, "rows": _Lists}


class _Ndjson(_Text):
    """An object a line; there is no place for facts."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.names = unique(self.names)

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def rows(self, rows: Rows) -> bytes:
        """Return lines."""
        items, encode = self.records(rows)
        return b"".join(encode(item) + b"\n" for item in items)

    def end(self, facts: Mapping[str, object]) -> bytes:  # noqa: ARG002
        """Return nothing."""
        return b""


class _Csv(_Text):
    """Comma-separated values as RFC 4180 has them, with a line of names; NULL is nothing, lists are JSON text."""

    def begin(self) -> bytes:
        """Return the line of names."""
        return _lines([self.names])

    def rows(self, rows: Rows) -> bytes:
        """Return lines."""
        shown, strict = self.prepared(rows)
        return _lines(shown if strict else [[csv_cell(cell) for cell in row] for row in shown])

    def end(self, facts: Mapping[str, object]) -> bytes:  # noqa: ARG002
        """Return nothing."""
        return b""


def csv_cell(value: Any) -> Any:
    """Return a value as csv.writer takes it: what is not finite as in JSON, lists and objects as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return finite(value)
    return as_text(value) if isinstance(value, (bool, list, tuple, dict)) else value


def as_text(value: object) -> str:
    """Return a value as JSON text."""
    return respond.encode(value).decode()


def csv_line(cells: Sequence[Any]) -> bytes:
    """Return a line of CSV without its end. Cells are as `csv_cell` returns them."""
    return _written([cells], "\r\n")[:-2].encode("utf-8", "backslashreplace")


def _lines(rows: Rows) -> bytes:
    text = _written(rows, "\n")
    if "\r" in text:  # the writer quotes only what ends its own lines, and readers end lines there too
        return b"".join(csv_line(row) + b"\n" for row in rows)
    return text.encode("utf-8", "backslashreplace")


def _written(rows: Rows, end: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(rows)
    return buffer.getvalue()


# Arrow ----------------------------------------------------------------------------------------------------------------
class Arrow:
    """An Arrow stream, or a Parquet file, in batches of ROW_GROUP rows."""

    def __init__(self, columns: Sequence[Column], *, parquet: bool) -> None:
        import pyarrow as pa

        types = {
            Kind.INTEGER: pa.int64(),
            Kind.NUMBER: pa.float64(),
            Kind.BOOLEAN: pa.bool_(),
            Kind.BYTES: pa.large_binary(),
        }
        self._sink = _Sink()
        names = unique(column.name.encode("utf-8", "backslashreplace").decode() for column in columns)
        self._kinds = [column.kind for column in columns]
        self._schema = pa.schema(
            [(name, types.get(kind, pa.string())) for name, kind in zip(names, self._kinds, strict=True)]
        )
        if parquet:
            from pyarrow import parquet as files

            self._writer: Any = files.ParquetWriter(self._sink, self._schema)
        else:
            self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._waiting: list[Sequence[Any]] = []
        light = {Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN}
        self._heavy = [n for n, kind in enumerate(self._kinds) if kind not in light]
        self._size = 0  # of texts and bytes that wait

    def begin(self) -> bytes:
        """Return the schema of a stream, the first bytes of a file."""
        return self._sink.take()

    def rows(self, rows: Rows) -> bytes:
        """Return what is complete: batches of ROW_GROUP rows, shorter ones where they are HEAVY_BYTES long."""
        self._waiting += rows
        for n in self._heavy:
            self._size += sum(len(row[n]) for row in rows if isinstance(row[n], (str, bytes)))
        while len(self._waiting) >= ROW_GROUP:
            self._write(self._waiting[:ROW_GROUP])
            del self._waiting[:ROW_GROUP]
            self._size = 0
        return self._flushed() if self._size >= HEAVY_BYTES else self._sink.take()

    def _write(self, rows: Rows) -> None:
        import pyarrow as pa

        cells = zip(*rows, strict=True)
        arrays = [
            pa.array(_fitting(values, kind), field.type)
            for values, kind, field in zip(cells, self._kinds, self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))

    def _flushed(self) -> bytes:
        """Return a batch of what waits, however short."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting.clear()
            self._size = 0
        return self._sink.take()

    def end(self, facts: Mapping[str, object]) -> bytes:  # noqa: ARG002  # neither has a place for them behind rows
        """Return the last batch and what closes the file."""
        before = self._flushed()
        self._writer.close()
        return before + self._sink.take()


class _Sink(io.RawIOBase):
    """Takes what a writer writes, until it is taken from here."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._written

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


def _fitting(values: Sequence[Any], kind: Kind) -> Sequence[Any]:
    """Return values as Arrow takes them for a column of a kind."""
    match kind:
        case Kind.INTEGER | Kind.BOOLEAN | Kind.BYTES:
            return values
        case Kind.NUMBER:
            return [None if value is None else float(value) for value in values]
    return [None if value is None else _text_of(value) for value in values]


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    text = value if isinstance(value, str) else as_text(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class KindsSeen:
    """What the columns of a query turn out to hold, for the formats that must know before the first row."""

    def __init__(self, count: int) -> None:
        self._seen: list[set[Kind]] = [set() for _ in range(count)]

    def add(self, rows: Rows) -> None:
        """Note the values of some rows."""
        for seen, cells in zip(self._seen, zip(*rows, strict=True), strict=bool(rows)):
            seen.update(map(_kind_of, cells))

    def columns(self, columns: Sequence[Column]) -> list[Column]:
        """Return the columns with their kinds: integers and floats together are numbers, all else together is text."""
        return [replace(column, kind=_common(seen)) for column, seen in zip(columns, self._seen, strict=True)]


def _kind_of(value: Any) -> Kind:
    match value:
        case None:
            return Kind.ANY
        case bool():
            return Kind.BOOLEAN
        case int():
            return Kind.INTEGER if -(2**63) <= value < 2**63 else Kind.TEXT
        case float():
            return Kind.NUMBER
        case bytes():
            return Kind.BYTES
        case str():
            return Kind.TEXT
    return Kind.JSON


def _common(seen: set[Kind]) -> Kind:
    kinds = seen - {Kind.ANY}
    if len(kinds) == 1:
        return kinds.pop()
    return Kind.NUMBER if kinds == {Kind.INTEGER, Kind.NUMBER} else Kind.TEXT


# Which one ------------------------------------------------------------------------------------------------------------
def accepted(best: Iterable[tuple[str, float]]) -> str:
    """Return the format that an Accept header asks for: the first of the best that we have, else JSON."""
    for media_type, quality in best:
        if quality > 0 and (form := ACCEPTED.get(media_type.partition(";")[0].strip().lower())) is not None:
            return form
        if quality > 0 and media_type in {"*/*", "application/*"}:
            return "json"
    return "json"
