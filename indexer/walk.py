"""Small protobuf messages as dicts: the web shows what plugins wrote, and knows no protobuf.

Only what such messages need: varints, strings, messages, repeated or not. Fields nobody asks for are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from indexer import fields

_MAX_DEPTH = 16


class Field(NamedTuple):
    """A field: `int`, `bool`, `str`, a table of an enum's names, or the fields of a message."""

    name: str
    type: type[int] | type[bool] | type[str] | Mapping[int, str] | Mapping[int, Field]
    many: bool = False


Fields = Mapping[int, Field]
"""Of a message, by number."""


def read(data: bytes, known: Fields, depth: int = 0) -> dict[str, Any]:
    """Return the fields that `data` has, by name; repeated ones are lists. ValueError where it is no such message."""
    if depth > _MAX_DEPTH:
        raise ValueError("messages within messages, too deep")
    found: dict[str, Any] = {}
    for number, wire, start, stop in fields.walk(data):
        field = known.get(number)
        if field is None or wire not in {fields.VARINT, fields.BYTES}:
            continue
        for made in _values(field, start if wire == fields.VARINT else data[start:stop], depth):
            if field.many:
                found.setdefault(field.name, []).append(made)
            else:
                found[field.name] = made
    return found


def _values(field: Field, value: int | bytes, depth: int) -> list[Any]:
    """Return what a field holds: one value, or several where numbers are packed."""
    if isinstance(value, int):
        return [_number(field, value)] if _is_number(field) else []
    if not _is_number(field):
        if field.type is str:
            return [_text(field, value)]
        return [read(value, field.type, depth + 1)]  # type: ignore[arg-type]  # the fields of a message
    if not field.many:
        return []
    numbers, at = [], 0
    while at < len(value):
        number, at = fields.varint(value, at, len(value))
        numbers.append(_number(field, number))
    return numbers


def _is_number(field: Field) -> bool:
    if isinstance(field.type, type):
        return field.type is not str
    return not any(isinstance(inner, Field) for inner in field.type.values())


def _number(field: Field, number: int) -> int | bool | str:
    if field.type is bool:
        return bool(number)
    signed = fields.signed(number)
    if isinstance(field.type, type):
        return signed
    return str(field.type.get(signed, signed))


def _text(field: Field, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise ValueError(f"byte {e.start} of {field.name} is no UTF-8") from None
