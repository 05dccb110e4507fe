"""Formats: the same rows come out of each of them, whatever they hold and however they were cut into pieces."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from webapi import formats
from webapi.formats import Column, Kind, KindsSeen, accepted, encoder, unique

COLUMNS = [
    Column("step", Kind.INTEGER),
    Column("value", Kind.NUMBER),
    Column("name", Kind.TEXT),
    Column("good", Kind.BOOLEAN),
    Column("data", Kind.BYTES),
    Column("more", Kind.JSON),
]
WORDS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\r\n",'))
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(),
        st.none() | WORDS,
        st.none() | st.booleans(),
        st.none() | st.binary(),
        st.none() | st.lists(st.integers(-5, 5) | st.text(max_size=3)) | st.dictionaries(WORDS, st.none()),
    ),
    max_size=8,
)


def encoded(form: str, rows: list[tuple[Any, ...]], cuts: int, shape: str = "records", **facts: object) -> bytes:
    """Return rows in a format, given in pieces of `cuts` rows."""
    made = encoder(form, COLUMNS, shape)
    parts = [made.begin()]
    parts += [made.rows(rows[at : at + cuts]) for at in range(0, len(rows), cuts)]
    return b"".join([*parts, made.end(facts)])


def as_json(row: tuple[Any, ...]) -> list[Any]:
    """Return what strict JSON has for a row."""
    step, value, name, good, data, more = row
    if value is not None and not math.isfinite(value):
        value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return [step, value, name, good, None if data is None else data.hex(), more]


def strict(text: bytes) -> Any:
    """Read strict JSON."""
    return json.loads(text, parse_constant=pytest.fail)


@given(rows=ROWS, cuts=st.integers(1, 9))
def test_every_shape_of_json_has_all_rows(rows: list[tuple[Any, ...]], cuts: int) -> None:
    """However the rows came, and with the facts behind them."""
    names, expected = [column.name for column in COLUMNS], [as_json(row) for row in rows]
    lists = strict(encoded("json", rows, cuts, "rows", truncated=False))
    assert {"columns": names, "rows": expected, "truncated": False} == lists
    records = strict(encoded("json", rows, cuts, "records", next="x"))
    assert {"items": [dict(zip(names, row, strict=True)) for row in expected], "next": "x"} == records
    columns = strict(encoded("json", rows, cuts, "columns", next=None))
    assert {"columns": {name: [row[n] for row in expected] for n, name in enumerate(names)}, "next": None} == columns
    lines = encoded("ndjson", rows, cuts).splitlines(keepends=True) if rows else []
    joined = b"".join(lines).decode().split("\n")[:-1] if rows else []
    assert records["items"] == [strict(line.encode()) for line in joined]


@given(rows=ROWS, cuts=st.integers(1, 9))
def test_csv_has_all_rows(rows: list[tuple[Any, ...]], cuts: int) -> None:
    """Numbers as JSON has them, NULL as nothing, lists as JSON."""
    found = list(csv.reader(io.StringIO(encoded("csv", rows, cuts).decode(), newline="")))
    assert [column.name for column in COLUMNS] == found[0]
    for row, shown in zip(rows, found[1:], strict=True):
        step, value, name, good, data, more = as_json(row)
        assert ["" if step is None else str(step), name or "", data or ""] == [shown[0], shown[2], shown[4]]
        assert ("" if value is None else repr(value) if isinstance(value, float) else value) == shown[1]
        assert ("" if good is None else str(good).lower()) == shown[3]
        assert more == (strict(shown[5].encode()) if shown[5] else None)


@pytest.mark.parametrize("form", ["arrow", "parquet"])
@given(rows=ROWS, cuts=st.integers(1, 9))
def test_arrow_has_all_rows(form: str, rows: list[tuple[Any, ...]], cuts: int) -> None:
    """Types are those of the columns, bytes are bytes, lists are JSON text."""
    content = encoded(form, rows, cuts)
    table = pa.ipc.open_stream(content).read_all() if form == "arrow" else parquet.read_table(io.BytesIO(content))
    types = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.large_binary(), pa.string()]
    assert types == table.schema.types
    found = [list(row.values()) for row in table.to_pylist()]
    assert len(rows) == len(found)
    for row, shown in zip(rows, found, strict=True):
        assert repr([*row[:5]]) == repr(shown[:5])
        assert row[5] == (None if shown[5] is None else strict(shown[5].encode()))


def test_batches_end_with_rows_and_with_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a batch is kept, however rows come, and heavy rows make short ones."""
    monkeypatch.setattr(formats, "ROW_GROUP", 10)
    monkeypatch.setattr(formats, "HEAVY_BYTES", 1_000)
    light = encoder("arrow", [Column("a", Kind.INTEGER)])
    content = light.begin() + light.rows([(n,) for n in range(25)])
    assert len(content) > len(light.rows([]))
    content += light.end({})
    assert [10, 10, 5] == [batch.num_rows for batch in pa.ipc.open_stream(content)]
    heavy = encoder("arrow", [Column("a", Kind.BYTES)])
    content = heavy.begin() + b"".join(heavy.rows([(b"x" * 400,)]) for _ in range(7)) + heavy.end({})
    assert [3, 3, 1] == [batch.num_rows for batch in pa.ipc.open_stream(content)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -5], Kind.INTEGER),
        ([1, 0.5], Kind.NUMBER),
        ([0.5, math.nan], Kind.NUMBER),
        ([True, None], Kind.BOOLEAN),
        ([True, 1], Kind.TEXT),
        ([b"x"], Kind.BYTES),
        ([b"x", "x"], Kind.TEXT),
        (["x", 1], Kind.TEXT),
        ([2**63], Kind.TEXT),
        ([2**63, 1], Kind.TEXT),
        ([None], Kind.TEXT),
        ([], Kind.TEXT),
        ([[1], {"a": 1}], Kind.JSON),
    ],
)
def test_kinds_are_those_of_all_values(values: list[Any], kind: Kind) -> None:
    """A column has the kind that all its values fit."""
    seen = KindsSeen(1)
    for value in values:
        seen.add([[value]])
    (column,) = seen.columns([Column("a")])
    assert kind == column.kind
    made = encoder("parquet", [column])
    content = made.begin() + made.rows([[value] for value in values]) + made.end({})
    assert len(values) == parquet.read_table(io.BytesIO(content)).num_rows


def test_names_are_made_unique() -> None:
    """A name that repeats gets a number that nobody has."""
    assert ["a", "a_2", "b", "a_3", "a_2_2"] == unique(["a", "a", "b", "a", "a_2"])


def test_a_lone_surrogate_breaks_no_format() -> None:
    """What is no Unicode is escaped where a format has no place for it."""
    for form in formats.CONTENT_TYPES:
        made = encoder(form, [Column("a\udcff", Kind.TEXT)])
        assert made.begin() + made.rows([("\udcff",)]) + made.end({})


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ([], "json"),
        ([("*/*", 1)], "json"),
        ([("text/html", 1), ("*/*", 0.8)], "json"),
        ([("text/csv", 1)], "csv"),
        ([("text/csv", 1), ("*/*", 0.5)], "csv"),
        ([("application/json", 1), ("text/csv", 0.5)], "json"),
        ([("*/*", 1), ("text/csv", 0.5)], "json"),
        ([("text/csv; charset=utf-8", 1)], "csv"),
        ([("TEXT/CSV", 1)], "csv"),
        ([("text/csv", 0)], "json"),
        ([("application/x-ndjson", 1)], "ndjson"),
        ([("application/vnd.apache.parquet", 1)], "parquet"),
        ([("image/png", 1)], "json"),
    ],
)
def test_accept_chooses(header: list[tuple[str, float]], form: str) -> None:
    """The best that we have, JSON where there is none."""
    assert form == accepted(header)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the line says what installs it; text needs nothing."""
    monkeypatch.setattr(formats, "find_spec", lambda _name: None)
    with pytest.raises(formats.MissingLibrary, match=r"pip install 'summarydb\[arrow\]'"):
        encoder("parquet", COLUMNS)
    encoder("csv", COLUMNS)
