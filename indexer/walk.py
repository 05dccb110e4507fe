"""Small protobuf messages by hand: the web shows what plugins wrote, and knows no protobuf.

Source: the wire format of Protocol Buffers. Only what such messages need: varints, strings, messages, repeated or not.
Fields that are not asked for are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 16
_MAX_VARINT_BYTES = 10


class Field(NamedTuple):
    """A field: `int`, `bool`, `str`, a table of an enum's names, or the fields of a message."""

    name: str
    type: type[int] | type[bool] | type[str] | Mapping[int, str] | Mapping[int, Field]
    many: bool = False


Fields = Mapping[int, Field]
"""Of a message, by number."""


def read(data: bytes, fields: Fields, depth: int = 0) -> dict[str, Any]:
    """Return the fields that `data` has, by name; repeated ones are lists. ValueError where it is no such message."""
    if depth > _MAX_DEPTH:
        raise ValueError("messages within messages, too deep")
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire_type, field = key & 7, fields.get(key >> 3)
        value: int | bytes
        if wire_type == _VARINT:
            value, at = _varint(data, at)
        elif wire_type == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire_type in {_FIXED64, _FIXED32}:
            at += 8 if wire_type == _FIXED64 else 4
            value = b""
        else:
            raise ValueError(f"byte {at}: wire type {wire_type}")
        if at > len(data):
            raise ValueError(f"ends within a field, at byte {len(data)}")
        if field is None or key >> 3 == 0 or wire_type in {_FIXED64, _FIXED32}:
            continue
        for made in _values(field, value, depth):
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
        number, at = _varint(value, at)
        numbers.append(_number(field, number))
    return numbers


def _is_number(field: Field) -> bool:
    if isinstance(field.type, type):
        return field.type is not str
    return not any(isinstance(inner, Field) for inner in field.type.values())


def _number(field: Field, number: int) -> int | bool | str:
    signed = number - 2**64 if number >= 2**63 else number
    if field.type is bool:
        return bool(number)
    if isinstance(field.type, type):
        return signed
    return str(field.type.get(signed, signed))


def _text(field: Field, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        raise ValueError(f"byte {e.start} of {field.name} is no UTF-8") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for n in range(_MAX_VARINT_BYTES):
        if at + n >= len(data):
            raise ValueError(f"ends within a number, at byte {len(data)}")
        number |= (data[at + n] & 0x7F) << (7 * n)
        if data[at + n] < 0x80:
            return number & (2**64 - 1), at + n + 1
    raise ValueError(f"byte {at}: a number of more than {_MAX_VARINT_BYTES} bytes")
