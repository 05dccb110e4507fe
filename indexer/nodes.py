"""One node of a graph: its serialized message → what there is to say of it, for JSON. Everything is bounded.

Sources: MindSpore's graph proto (docs/formats/mindspore.md); tensorflow's node_def.proto, attr_value.proto,
types.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from indexer import graphs
from indexer.fields import BYTES, FIXED32, VARINT, Field, number, signed, varint, walk

MAX_ATTRIBUTES = 200
MAX_VALUE_BYTES = 1_024
"""A longer value is left out, and its length said."""
MAX_ITEMS = 64
"""Of a list."""
_DEPTH = 4  # of lists of lists

_MINDSPORE_WORDS = """
UNDEFINED BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FLOAT16 FLOAT32 FLOAT64 STRING TENSOR GRAPH
BOOLS INTS8 INTS16 INTS32 INTS64 UINTS8 UINTS16 UINTS32 UINTS64 FLOATS16 FLOATS32 FLOATS64 STRINGS TENSORS
GRAPHS TUPLE LIST DICT NONE SYM_INST BASE_INT BASE_UINT BASE_FLOAT TYPE ANYTHING REFKEY REF
"""
_TENSORBOARD_WORDS = """
INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 BFLOAT16 QINT16
QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64
"""
MINDSPORE_TYPES, _TENSORBOARD_TYPES = _MINDSPORE_WORDS.split(), _TENSORBOARD_WORDS.split()
_TENSOR, _TUPLE = 14, 31

Message = tuple[bytes, int, int]
"""Bytes, and where in them a message begins and ends."""


def describe(data: bytes, content: str, what: int) -> dict[str, Any]:
    """Return what the message of a node says.

    content: which message the graph is.  what: graphs.NODE, PARAMETER or CONSTANT.
    `inputs` are as written; `attributes` name, type and value each.  A message that was cut says what it can.
    """
    found: dict[str, Any] = {"inputs": [], "attributes": [], "attribute_count": 0}
    if content not in {graphs.MINDSPORE_GRAPH, graphs.MINDSPORE_MODEL}:
        read: Callable[[dict[str, Any], bytes, Field], None] = _node_def
    else:
        read = {graphs.PARAMETER: _parameter, graphs.CONSTANT: _constant}.get(what, _node)
    for one in _fields(data, 0, len(data)):
        read(found, data, one)
    return found


def _fields(data: bytes, start: int, stop: int) -> Iterator[Field]:
    """Yield fields as far as they can be read."""
    try:
        yield from walk(data, start, stop)
    except ValueError:
        return


def _text(data: bytes, a: int, b: int) -> str:
    return data[a : min(b, a + MAX_VALUE_BYTES)].decode("utf-8", "backslashreplace")


def _attribute(found: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    found["attribute_count"] += 1
    if len(found["attributes"]) < MAX_ATTRIBUTES:
        found["attributes"].append({"name": name, **value})


# MindSpore ------------------------------------------------------------------------------------------------------------
def _node(found: dict[str, Any], data: bytes, one: Field) -> None:
    field, wire, a, b = one
    if wire != BYTES:
        if field == 7 and wire == VARINT:
            found["output_i"] = a
        return
    match field:
        case 1:
            found["inputs"].append(
                next((_text(data, c, d) for n, w, c, d in _fields(data, a, b) if (n, w) == (1, 2)), "")
            )
        case 2 | 8 | 10:
            found[{2: "id", 8: "full_name", 10: "instance_name"}[field]] = _text(data, a, b)
        case 5:
            name, value = "", dict[str, Any](type=None, value=None)
            for n, w, c, d in _fields(data, a, b):
                if (n, w) == (1, BYTES):
                    name = _text(data, c, d)
                elif (n, w) == (2, BYTES):
                    value = _mindspore_value((data, c, d), 0)
            _attribute(found, name, value)
        case 6:
            found["data_type"], found["shape"] = _mindspore_type((data, a, b), 0)


def _parameter(found: dict[str, Any], data: bytes, one: Field) -> None:
    field, wire, a, b = one
    if wire == BYTES and field == 2:
        found["data_type"], found["shape"] = _mindspore_type((data, a, b), 0)
    elif wire == BYTES and field == 3:
        _attribute(found, "default_val", _mindspore_value((data, a, b), 0))


def _constant(found: dict[str, Any], data: bytes, one: Field) -> None:
    field, wire, a, b = one
    if wire == BYTES and field == 2:
        _attribute(found, "value", _mindspore_value((data, a, b), 0))
    elif wire == BYTES and field == 3:
        found["full_name"] = _text(data, a, b)


def _mindspore_type(message: Message, depth: int) -> tuple[str, list[list[int]]]:
    """Return a TypeProto in words, and its shapes: of a tuple, those of its elements."""
    code, shapes, inner = 0, list[list[int]](), list[str]()
    for field, wire, a, b in _fields(*message):
        if (field, wire) == (1, VARINT):
            code = a
        elif (field, wire) == (2, BYTES):
            for n, w, c, d in _fields(message[0], a, b):
                if (n, w) == (1, VARINT):
                    inner.append(_mindspore_name(c))
                elif (n, w) == (2, BYTES):
                    shapes.append(_dims((message[0], c, d), 1))
        elif (field, wire) == (3, BYTES) and depth < _DEPTH:
            for n, w, c, d in _fields(message[0], a, b):
                if (n, w) == (1, BYTES) and len(inner) < MAX_ITEMS:
                    name, more = _mindspore_type((message[0], c, d), depth + 1)
                    inner.append(name)
                    shapes += more
    name = _mindspore_name(code)
    return f"{name}[{', '.join(inner)}]" if code in {_TENSOR, _TUPLE} else name, shapes


def _mindspore_name(code: int) -> str:
    return f"DT_{MINDSPORE_TYPES[code]}" if code < len(MINDSPORE_TYPES) else f"type {code}"


def _dims(message: Message, of: int) -> list[int]:
    """Return the sizes in a shape, whose dimensions are field `of`."""
    sizes: list[int] = []
    for field, wire, a, b in _fields(*message):
        if (field, wire) == (of, BYTES) and len(sizes) < MAX_ITEMS:
            sizes.append(next((signed(c) for n, w, c, _ in _fields(message[0], a, b) if (n, w) == (1, VARINT)), 0))
    return sizes


_MINDSPORE_VALUES: dict[int, str] = {
    **dict.fromkeys((2, 10), "bool"),
    **dict.fromkeys((3, 11), "int"),
    **dict.fromkeys((4, 12), "uint"),
    **dict.fromkeys((5, 13), "float"),
    **dict.fromkeys((6, 14), "double"),
    **dict.fromkeys((7, 15), "text"),
}


def _mindspore_value(message: Message, depth: int) -> dict[str, Any]:
    """Return a ValueProto: its type and its value; null where that is long, or no plain value."""
    data, start, stop = message
    if stop - start > MAX_VALUE_BYTES:
        types = (a for field, wire, a, _ in _fields(data, start, min(stop, start + 64)) if (field, wire) == (1, VARINT))
        return {"type": _mindspore_name(next(types, 0)), "value": None, "bytes": stop - start}
    code, single, several = 0, None, list[Any]()
    for field, wire, a, b in _fields(data, start, stop):
        if (field, wire) == (1, VARINT):
            code = a
        elif field in _MINDSPORE_VALUES:
            values = list(_plain(data, _MINDSPORE_VALUES[field], wire, a, b))
            if field < 10:
                single = values[-1] if values else None
            else:
                several += values
        elif (field, wire) in {(8, BYTES), (16, BYTES)}:
            tensor = _mindspore_tensor((data, a, b))
            single, several = (tensor, several) if field == 8 else (single, [*several, tensor])
        elif (field, wire) == (18, BYTES) and depth < _DEPTH:
            several.append(_mindspore_value((data, a, b), depth + 1)["value"])
        elif (field, wire) == (20, BYTES):
            single = _mindspore_type((data, a, b), 0)[0]
    return {"type": _mindspore_name(code), "value": single if single is not None else several or None}


def _mindspore_tensor(message: Message) -> dict[str, Any]:
    dims, code = list[int](), 0
    for field, wire, a, _ in _fields(*message):
        if (field, wire) == (1, VARINT) and len(dims) < MAX_ITEMS:
            dims.append(signed(a))
        elif (field, wire) == (2, VARINT):
            code = a
    return {"dtype": _mindspore_name(code), "shape": dims}


def _plain(data: bytes, kind: str, wire: int, a: int, b: int) -> Iterator[Any]:
    """Yield the numbers or texts of a field, packed or not."""
    if kind == "text":
        if wire == BYTES:
            yield _text(data, a, b)
    elif wire == BYTES and kind in {"float", "double"}:
        layout = "<f" if kind == "float" else "<d"
        whole = (b - a) // struct.calcsize(layout) * struct.calcsize(layout)
        yield from (value for (value,) in struct.iter_unpack(layout, data[a : a + whole]))
    elif wire == BYTES:
        while a < b:
            try:
                value, a = varint(data, a, b)
            except ValueError:
                return
            yield _integer(kind, value)
    elif kind in {"float", "double"}:
        if wire != VARINT:
            yield number(data, wire, a)
    elif wire == VARINT:
        yield _integer(kind, a)


def _integer(kind: str, value: int) -> int | bool:
    return bool(value) if kind == "bool" else value if kind == "uint" else signed(value)


# TensorBoard ----------------------------------------------------------------------------------------------------------
def _node_def(found: dict[str, Any], data: bytes, one: Field) -> None:
    field, wire, a, b = one
    if wire != BYTES:
        return
    match field:
        case 3:
            found["inputs"].append(_text(data, a, b))
        case 4:
            found["device"] = _text(data, a, b)
        case 5:
            name, value = "", dict[str, Any](type=None, value=None)
            for n, w, c, d in _fields(data, a, b):
                if (n, w) == (1, BYTES):
                    name = _text(data, c, d)
                elif (n, w) == (2, BYTES):
                    value = _attr_value((data, c, d))
            _attribute(found, name, value)
            if name == "_output_shapes" and isinstance(value["value"], list):
                found["shape"] = value["value"]


_ATTRS: dict[int, tuple[str, str]] = {
    2: ("s", "text"),
    3: ("i", "int"),
    4: ("f", "float"),
    5: ("b", "bool"),
    6: ("type", "type"),
    7: ("shape", "shape"),
    8: ("tensor", "tensor"),
    9: ("placeholder", "text"),
    10: ("func", "func"),
}


def _attr_value(message: Message) -> dict[str, Any]:
    """Return an AttrValue: which of its fields is set, and that."""
    data, start, stop = message
    if stop - start > MAX_VALUE_BYTES:
        return {"type": None, "value": None, "bytes": stop - start}
    found: dict[str, Any] = {"type": None, "value": None}
    for field, wire, a, b in _fields(data, start, stop):
        if (field, wire) == (1, BYTES):
            items: list[Any] = []
            for n, w, c, d in _fields(data, a, b):
                if n in _ATTRS:
                    kind = "func" if n == 9 else _ATTRS[n][1]
                    items += _attrs(data, kind, w, c, d)
            found = {"type": "list", "value": items}
        elif field in _ATTRS:
            name, kind = _ATTRS[field]
            values = _attrs(data, kind, wire, a, b)
            found = {"type": name, "value": values[-1] if values else None}
    return found


def _attrs(data: bytes, kind: str, wire: int, a: int, b: int) -> Sequence[Any]:
    match kind:
        case "type":
            return [_tensorboard_name(int(code)) for code in _plain(data, "uint", wire, a, b)]
        case "shape":
            return [_dims((data, a, b), 2)] if wire == BYTES else []
        case "func":
            return [next((_text(data, c, d) for n, w, c, d in _fields(data, a, b) if (n, w) == (1, BYTES)), "")]
        case "tensor":
            if wire != BYTES:
                return []
            code, shape = 0, list[int]()
            for n, w, c, d in _fields(data, a, b):
                if (n, w) == (1, VARINT):
                    code = c
                elif (n, w) == (2, BYTES):
                    shape = _dims((data, c, d), 2)
            return [{"dtype": _tensorboard_name(code), "shape": shape}]
        case "float":
            return list(_plain(data, kind, wire, a, b)) if wire in {FIXED32, BYTES} else []
    return list(_plain(data, kind, wire, a, b))


def _tensorboard_name(code: int) -> str:
    if 0 < code - 100 < len(_TENSORBOARD_TYPES):
        return f"DT_{_TENSORBOARD_TYPES[code - 100]}_REF"
    return f"DT_{_TENSORBOARD_TYPES[code]}" if code < len(_TENSORBOARD_TYPES) else f"type {code}"
