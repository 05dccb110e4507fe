"""`summarydb sql`: one SELECT, read-only by construction, streamed in a format for people or programs."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import Any, TextIO

from sqlalchemy import Connection, CursorResult

from indexer.db.dialect import POSTGRESQL, driver_error, is_write
from indexer.db.engine import read_only
from indexer.errors import Refuse, UsageError
from summarydb import table
from summarydb.work import naming, open_existing

_LEAD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
_WIDEST = 60  # characters of a cell in a table
_FETCH = 1_000  # rows at once


class Bounded:
    """At most `limit` rows (0: all) as JSON can hold them; `truncated` tells, at the end, whether there were more."""

    def __init__(self, rows: Iterator[Sequence[Any]], limit: int) -> None:
        self.rows = rows
        self.limit = limit
        self.truncated = False

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield rows of cells."""
        for row in islice(self.rows, self.limit or None):
            yield [cell(value) for value in row]
        if self.limit:
            self.truncated = next(self.rows, None) is not None


def run(url: str, query: str, *, form: str, limit: int, seconds: float, out: TextIO) -> bool:
    """Write the answer of `query` to `out`; tell whether it was cut after `limit` rows (0: never).

    UsageError where it is no SELECT; Refuse, Retry or Wait as the database says.
    """
    check(query)
    with naming(url):
        engine = open_existing(url)
        try:
            with read_only(engine, seconds=seconds) as conn, closing(select(conn, query)) as result:
                rows = Bounded(iter(result), limit)
                FORMATS[form](list(result.keys()), rows, out)
                return rows.truncated
        except Refuse as e:
            cause = None if e.__cause__ is None else driver_error(e.__cause__)
            if cause is not None and is_write(cause):
                raise UsageError("QUERY would write: this command only reads") from e
            raise
        finally:
            engine.dispose()


def check(query: str) -> None:
    """UsageError where `query` does not begin as one that only reads; the connection makes sure it cannot write."""
    first = _LEAD.match(query)
    if first is None or first.group(1).upper() not in {"SELECT", "WITH"} or "\x00" in query:
        raise UsageError("QUERY is not one SELECT or WITH: this command only reads")


def select(conn: Connection, query: str) -> CursorResult[Any]:
    """Return the answer of `query`, whose rows are fetched as they are asked for.

    One statement only: sqlite3 takes no second one, and a named cursor of psycopg sends the extended protocol.
    """
    if conn.dialect.name != POSTGRESQL:
        dbapi: Any = conn.connection.dbapi_connection
        dbapi.text_factory = lambda stored: stored.decode("utf-8", "replace")  # others may have stored anything
    how = {"no_parameters": True, "stream_results": True, "yield_per": _FETCH}  # a % in the query is a %
    return conn.exec_driver_sql(query, execution_options=how)


def cell(value: object) -> Any:
    """Return `value` as JSON can hold it: NaN and infinities as text, times as ISO 8601, bytes as hexadecimal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case Decimal():
            return int(value) if value.is_finite() and value == value.to_integral_value() else cell(float(value))
        case bytes() | memoryview():
            return value.hex()
        case datetime() | date() | time():
            return value.isoformat()
        case list() | tuple():
            return [cell(item) for item in value]
        case dict():
            return {str(key): cell(item) for key, item in value.items()}
        case _:
            return str(value)


def _table(columns: Sequence[str], rows: Bounded, out: TextIO) -> None:
    """Write a table; its widths are those of the first rows, so that nothing is kept."""
    remaining = iter(rows)
    head = [[table.printable(name) for name in columns]]
    widths: list[int] | None = None
    right = [False] * len(columns)
    while True:
        some = list(islice(remaining, _FETCH))
        if widths is None and some:
            right = [
                all(isinstance(row[n], int | float) or row[n] is None for row in some) for n in range(len(columns))
            ]
        shown = [[_shown(value) for value in row] for row in some]
        if widths is None:
            widths = [min(width, _WIDEST) for width in table.widths(head + shown)]
            out.writelines(
                f"{line}\n" for line in table.lines([*head, ["-" * w for w in widths]], right=right, widths=widths)
            )
        if not some:
            return
        out.writelines(f"{line}\n" for line in table.lines(shown, right=right, widths=widths))


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    return table.printable(value if isinstance(value, str) else _json(value))


def _json_document(columns: Sequence[str], rows: Bounded, out: TextIO) -> None:
    out.write(f'{{"columns": {_json(columns)}, "rows": [')
    out.writelines(("," if number else "") + "\n" + _json(row) for number, row in enumerate(rows))
    out.write(f'], "truncated": {_json(rows.truncated)}}}\n')


def _ndjson(columns: Sequence[str], rows: Bounded, out: TextIO) -> None:
    out.writelines(_json(dict(zip(columns, row, strict=True))) + "\n" for row in rows)


def _csv(columns: Sequence[str], rows: Bounded, out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_json(value) if isinstance(value, list | dict | bool) else value for value in row])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


FORMATS: dict[str, Callable[[Sequence[str], Bounded, TextIO], None]] = {
    "table": _table,
    "json": _json_document,
    "ndjson": _ndjson,
    "csv": _csv,
}
"""How rows are written: for people, and for programs."""
