"""`summarydb sql`: one SELECT under the guard of `/sql`, streamed in a format for people or programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

from indexer.errors import UsageError
from summarydb import table
from summarydb.work import naming, require_file
from webapi import formats
from webapi.query import BadQuery, Bounds, Query, TooMuch, encoded
from webapi.query import run as start

FORMATS = ("table", "json", "ndjson", "csv", "arrow", "parquet")
_WIDEST = 60  # characters of a cell in a table
_MEASURED = 1_000  # rows that say how wide a table is


def run(url: str, query: str, *, form: str, bounds: Bounds, most: int, out: BinaryIO) -> bool:
    """Write the answer of `query` to `out`; tell whether it was cut after as many rows as it may have.

    most: bytes of the answer, 0 for any number. UsageError where it is no query that may run, or a format needs what
    is not installed; TooMuch, Deadline, Refuse, Retry or Wait as may be, where part of it may be written already.
    """
    try:
        formats.require(form)
    except formats.MissingLibrary as e:
        raise UsageError(f"--format {e}") from e
    with naming(url):
        require_file(url)
    size = 0
    try:
        with start(url, query, bounds) as found:
            for chunk in _table(found) if form == "table" else encoded(found, form):
                size += len(chunk)
                if most and size > most:
                    raise TooMuch(
                        f"the answer has more than {most:,} bytes: ask for less, or give a larger --max-bytes"
                    )
                out.write(chunk)
            if form == "json":
                out.write(b"\n")
            return found.truncated
    except BadQuery as e:
        raise UsageError(str(e)) from e


def _table(found: Query) -> Iterator[bytes]:
    """Yield a table; its widths are those of the first rows, so that nothing is kept."""
    batches = found.batches()
    first: list[list[Any]] = []
    for some in batches:
        first += some
        if len(first) >= _MEASURED:
            break
    head = [[table.printable(name) for name in found.columns]]
    places = range(len(found.columns))
    right = [bool(first) and all(isinstance(row[n], int | float) or row[n] is None for row in first) for n in places]
    widths = [min(width, _WIDEST) for width in table.widths(head + _shown(first))]
    yield _lines([*head, ["-" * width for width in widths]], right, widths)
    for some in chain([first], batches):
        yield _lines(_shown(some), right, widths)


def _lines(rows: Sequence[Sequence[str]], right: Sequence[bool], widths: Sequence[int]) -> bytes:
    lines = table.lines(rows, right=right, widths=widths)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _shown(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return value.hex()
    return table.printable(value if isinstance(value, str) else formats.as_text(value))
