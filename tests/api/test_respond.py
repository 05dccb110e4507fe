"""Strict JSON, cursors and entity tags, without a database."""

from __future__ import annotations

import base64
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.payload import finite
from tests.api.conftest import refuse_constant
from webapi import respond
from webapi.errors import Malformed

NUMBERS = st.lists(st.none() | st.floats() | st.integers(-(2**63), 2**63 - 1))


def strict(text: str | bytes) -> object:
    """Read JSON that holds no NaN and no Infinity."""
    return json.loads(text, parse_constant=refuse_constant)


def meant(value: object, null: object) -> object:
    """Return what a number is in strict JSON."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return null
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


@given(numbers=NUMBERS)
def test_a_column_is_strict_json_and_exact(numbers: list[float | None]) -> None:
    """Every float and int64 survives; None and NaN become the word given."""
    assert [meant(n, None) for n in numbers] == strict(respond.column(numbers))
    assert [meant(n, "NaN") for n in numbers] == strict(respond.column(numbers, null=b'"NaN"'))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_encoding_is_strict_for_every_value(value: object) -> None:
    """Floats that are not finite become strings wherever they are."""
    assert finite(value) == strict(respond.encode(value))


def test_a_lone_surrogate_is_escaped() -> None:
    """Text that has no UTF-8 is still valid JSON in UTF-8."""
    assert {"a": "\udcff␛"} == strict(respond.encode({"a": "\udcff␛"}).decode())


@given(key=st.floats(allow_nan=False, allow_infinity=False), row=st.integers(-(2**63), 2**63 - 1))
def test_a_cursor_comes_back_as_it_was(key: float, row: int) -> None:
    """A cursor carries floats and integers exactly, in characters that need no quoting."""
    text = respond.cursor("jobs", key, row)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert [key, row] == respond.position(text, "jobs", float, int)


def packed(value: object) -> str:
    """Return `value` as somebody would forge a cursor."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "a b",
        "ä",
        "\0",
        "A",
        "A" * 200_000,
        packed(5),
        packed([]),
        packed(["tags", 5]),
        packed(["files"]),
        packed(["files", "5"]),
        packed(["files", True]),
        packed(["files", 5.0]),
        packed(["files", 2**63]),
        packed(["files", None]),
        packed(["files", 5, 6]),
        packed({"files": 5}),
        packed(["files", float("nan")]),
        base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode(),
        base64.urlsafe_b64encode(b'["files",' + b"9" * 5000 + b"]").rstrip(b"=").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe\xfd").rstrip(b"=").decode(),
    ],
)
def test_a_forged_cursor_is_refused(text: str) -> None:
    """Whatever is no cursor of the list is malformed, and `after` is named."""
    with pytest.raises(Malformed) as caught:
        respond.position(text, "files", int)
    assert caught.value.parameter == "after"


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 1e999])
def test_a_cursor_holds_nothing_a_database_refuses(value: object) -> None:
    """NUL, lone surrogates and infinities in a cursor are malformed, not errors of the database."""
    with pytest.raises(Malformed):
        respond.position(packed(["tags", value]), "tags", (str, float))


@pytest.mark.parametrize("value", [-1, 2**31, 2**63 - 1, None, "1"])
def test_an_id_in_a_cursor_is_one_that_may_exist(value: object) -> None:
    """PostgreSQL refuses integers beyond a column's 32 bits, so they are malformed before it sees them."""
    with pytest.raises(Malformed):
        respond.position(packed(["files", value]), "files", respond.Small)
    assert [7] == respond.position(packed(["files", 7]), "files", respond.Small)
