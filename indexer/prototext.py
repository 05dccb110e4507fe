"""Serialized messages of MindSpore's graphs as protobuf's text format: what MindInsight shows of attributes.

Nothing here needs protobuf. Fields come by number, each value on a line of its own; what a table does not know, and
enum values without a name, are left out. Sources: protobuf's text format; MindSpore's graph proto
(docs/formats/mindspore.md).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from indexer import fields
from indexer.fields import BYTES, FIXED32, FIXED64, VARINT
from indexer.nodes import MINDSPORE_TYPES

_MAX_DEPTH = 32
_INDENT = "  "


class Field(NamedTuple):
    """A field: its name, and what it holds: a word below, or the name of a message in MESSAGES."""

    name: str
    kind: str
    many: bool = False


Fields = Mapping[int, Field]


def _table(*rows: tuple[int, str, str] | tuple[int, str, str, bool]) -> Fields:
    return {number: Field(*rest) for number, *rest in rows}


MESSAGES: Mapping[str, Fields] = {
    "Value": _table(
        (1, "dtype", "type"),
        (2, "bool_val", "bool"),
        (3, "int_val", "int64"),
        (4, "uint_val", "uint64"),
        (5, "float_val", "float"),
        (6, "double_val", "double"),
        (7, "str_val", "string"),
        (8, "tensor_val", "Tensor"),
        (9, "graph", "Graph"),
        (10, "bool_vals", "bool", True),
        (11, "int_vals", "int64", True),
        (12, "uint_vals", "uint64", True),
        (13, "float_vals", "float", True),
        (14, "double_vals", "double", True),
        (15, "str_vals", "string", True),
        (16, "tensor_vals", "Tensor", True),
        (17, "graphs", "Graph", True),
        (18, "values", "Value", True),
        (19, "dict_val", "NamedValue", True),
        (20, "type_val", "Type"),
    ),
    "Tensor": _table(
        (1, "dims", "int64", True),
        (2, "data_type", "type"),
        (3, "float_data", "float", True),
        (4, "int32_data", "int64", True),
        (5, "int64_data", "int64", True),
        (6, "double_data", "double", True),
        (7, "uint64_data", "uint64", True),
        (8, "raw_data", "string"),
    ),
    "Type": _table((1, "data_type", "type"), (2, "tensor_type", "TensorType"), (3, "sequence_type", "SequenceType")),
    "TensorType": _table((1, "elem_type", "type"), (2, "shape", "Shape")),
    "SequenceType": _table((1, "elem_types", "Type", True)),
    "Shape": _table((1, "dim", "Dimension", True)),
    "Dimension": _table((1, "size", "int64"), (2, "name", "string")),
    "NamedValue": _table((1, "key", "string"), (2, "value", "Value"), (3, "full_name", "string")),
    "Graph": _table(
        (1, "node", "Node", True),
        (2, "name", "string"),
        (3, "parameters", "Parameter", True),
        (4, "outputs", "Output", True),
        (5, "const_vals", "NamedValue", True),
    ),
    "Node": _table(
        (1, "input", "Input", True),
        (2, "name", "string"),
        (3, "op_type", "string"),
        (4, "scope", "string"),
        (5, "attribute", "Attribute", True),
        (6, "output_type", "Type"),
        (7, "output_i", "uint64"),
        (8, "full_name", "string"),
        (10, "instance_name", "string"),
    ),
    "Input": _table((1, "name", "string"), (2, "type", "edge")),
    "Attribute": _table((1, "name", "string"), (2, "value", "Value")),
    "Parameter": _table((1, "name", "string"), (2, "type", "Type"), (3, "default_val", "Value")),
    "Output": _table((1, "name", "string"), (2, "type", "Type")),
}
_EDGES = ("DATA_EDGE", "CONTROL_EDGE")
_PACKED = {"float": "<f", "double": "<d"}
_ESCAPES = {9: r"\t", 10: r"\n", 13: r"\r", 34: r"\"", 39: r"\'", 92: r"\\"}
_ESCAPED = [_ESCAPES.get(byte, chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in range(256)]


def render(data: bytes, message: str, start: int = 0, stop: int | None = None) -> str:
    """Return a message as text. What cannot be read any more ends it."""
    return "".join(_lines(data, start, len(data) if stop is None else stop, MESSAGES[message], 0))


def _lines(data: bytes, start: int, stop: int, known: Fields, depth: int) -> Iterator[str]:
    found: dict[int, list[tuple[int, int, int]]] = {}
    try:
        for number, wire, a, b in fields.walk(data, start, stop):
            if number in known:
                found.setdefault(number, []).append((wire, a, b))
    except ValueError:
        pass
    for number in sorted(found):
        field = known[number]
        values = found[number] if field.many else found[number][-1:]
        for wire, a, b in values:
            yield from _field(data, field, wire, a, b, depth)


def _field(data: bytes, field: Field, wire: int, a: int, b: int, depth: int) -> Iterator[str]:
    margin = _INDENT * depth
    if field.kind in MESSAGES:
        if wire == BYTES and depth < _MAX_DEPTH:
            yield f"{margin}{field.name} {{\n"
            yield from _lines(data, a, b, MESSAGES[field.kind], depth + 1)
            yield f"{margin}}}\n"
    elif field.kind == "string":
        if wire == BYTES:
            yield f'{margin}{field.name}: "{escaped(data[a:b])}"\n'
    else:
        for number in _numbers(data, field, wire, a, b):
            word = _word(field.kind, number)
            if word is not None:
                yield f"{margin}{field.name}: {word}\n"


def _numbers(data: bytes, field: Field, wire: int, a: int, b: int) -> Iterator[float]:
    """Yield the numbers of a field, packed or not."""
    if field.kind in _PACKED:
        if wire == BYTES:
            layout = _PACKED[field.kind]
            whole = (b - a) // struct.calcsize(layout) * struct.calcsize(layout)
            yield from (value for (value,) in struct.iter_unpack(layout, data[a : a + whole]))
        elif wire in {FIXED32, FIXED64}:
            yield fields.number(data, wire, a)
    elif wire == VARINT:
        yield a
    elif wire == BYTES:
        while a < b:
            try:
                value, a = fields.varint(data, a, b)
            except ValueError:
                return
            yield value


def _word(kind: str, number: float) -> str | None:
    match kind:
        case "float":
            return _float(number)
        case "double":
            return str(number)
        case "bool":
            return "true" if number else "false"
        case "uint64":
            return str(int(number))
        case "type":
            return f"DT_{MINDSPORE_TYPES[int(number)]}" if number < len(MINDSPORE_TYPES) else None
        case "edge":
            return _EDGES[int(number)] if number < len(_EDGES) else None
    return str(fields.signed(int(number)))


def _float(number: float) -> str:
    """Return a 32-bit float with the fewest digits that name it."""
    if not math.isfinite(number):
        return str(number)
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.unpack("<f", struct.pack("<f", short))[0] == number:
                return str(short)
        except OverflowError:  # rounded up beyond what a 32-bit float can be
            continue
    return str(float(f"{number:.9g}"))


def escaped(text: bytes) -> str:
    """Return bytes between quotes: what is not printable ASCII as octal numbers."""
    return "".join(map(_ESCAPED.__getitem__, text))
