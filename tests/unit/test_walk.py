"""Small messages read by hand, against the bytes of the format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import content
from indexer.plugins import log
from indexer.walk import Field, Fields, read
from tests.support.records import bytes_field, double_field, float_field, varint, varint_field

INNER: Fields = {1: Field("title", str), 2: Field("on", bool)}
FIELDS: Fields = {
    1: Field("number", int),
    2: Field("numbers", int, many=True),
    3: Field("level", {0: "LOW", 20: "HIGH"}),
    4: Field("inner", INNER, many=True),
    5: Field("text", str),
    6: Field("one", INNER),
}


def test_every_type_of_field() -> None:
    """Numbers with their sign, packed and not, names of an enum, texts, messages; the last of several counts."""
    message = (
        varint_field(1, 1)
        + varint_field(1, -5)
        + bytes_field(2, varint(7) + varint(300))
        + varint_field(2, -1)
        + varint_field(3, 20)
        + bytes_field(4, bytes_field(1, "grün".encode()) + varint_field(2, 1))
        + bytes_field(4, b"")
        + bytes_field(5, b"a\0b")
        + bytes_field(6, varint_field(2, 0))
    )
    assert {
        "number": -5,
        "numbers": [7, 300, -1],
        "level": "HIGH",
        "inner": [{"title": "grün", "on": True}, {}],
        "text": "a\0b",
        "one": {"on": False},
    } == read(message, FIELDS)


def test_what_is_not_asked_for_is_passed_over() -> None:
    """Fields of a later version, of every wire type, and known ones of another type; an enum's new number is itself."""
    message = (
        varint_field(100, 1)
        + double_field(101, 0.5)
        + float_field(102, 0.5)
        + bytes_field(103, b"\xff")
        + bytes_field(1, b"\x01")
        + varint_field(5, 1)
        + double_field(1, 0.5)
        + varint_field(3, 21)
    )
    assert {"level": "21"} == read(message, FIELDS)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\x08", "ends inside a field"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x2a\x05abc", "ends inside a field"),
        (double_field(9, 0.5)[:-1], "ends inside a field"),
        (b"\x0b", "wire type 3"),
        (bytes_field(5, b"\xff"), "byte 0 of text is no UTF-8"),
        (bytes_field(4, b"\x0a\x7f"), "ends inside a field"),
    ],
)
def test_what_is_no_message_is_an_error(message: bytes, says: str) -> None:
    """Cut numbers and fields, groups, texts that are no UTF-8, also within a message."""
    with pytest.raises(ValueError, match=says):
        read(message, FIELDS)


@given(
    st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(range(40)), max_size=60).map(bytes)),
    st.sampled_from([FIELDS, content.LAYOUT, *content.CONTENTS.values(), *log.MESSAGES.values()]),
)
def test_any_bytes_are_read_or_refused(message: bytes, fields: Fields) -> None:
    """Nothing but ValueError comes out, whatever goes in, and only names that were asked for."""
    try:
        found = read(message, fields)
    except ValueError:
        return
    assert set(found) <= {field.name for field in fields.values()}


def test_content_that_nobody_knows_is_nothing() -> None:
    """No plugin of ours, no content, damaged content; an empty one says nothing."""
    assert [None, None, None, {}, {"version": 3}] == [
        content.decoded(plugin, data)
        for plugin, data in (("mine", b"x"), ("mesh", None), ("mesh", b"\xff"), ("mesh", b""), ("text", b"\x08\x03"))
    ]
