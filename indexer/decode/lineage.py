"""Records of MindSpore's lineage files → plain values, under the names that MindSpore gives them.

Maps keep the order of the file: of several keys where one is meant, the first counts (indexer/plugins/lineage.py).
"""

from __future__ import annotations

import struct
from typing import Any, Final

from google.protobuf.message import Message

from indexer.payload import Lineage, Neutral, Unreadable

MAX_BYTES = 512 * 1024
"""A longer record is kept as it is and not looked into: in memory it would be a hundred times as long."""

_NAMES: Final = {
    name.lower(): name.replace("_", "")
    for name in ("operation_Param", "map_Str", "map_Str_List", "map_Bool", "map_Int", "map_Double", "str_Value")
}
"""Of an operation's parameters, which MindSpore writes in another case than all else."""
_DATASET: Final = "dataset_graph"


def convert(event: Any, data: bytes) -> Neutral:
    """Return what a lineage event says; `data` is its record's payload."""
    if len(data) > MAX_BYTES:
        return Unreadable("lineage", data, f"longer than the {MAX_BYTES} bytes that are looked into")
    part = event.WhichOneof("what")
    try:
        return Lineage(part, plain(getattr(event, part), _NAMES if part == _DATASET else {}), data)
    except UnicodeDecodeError as e:
        return Unreadable("lineage", data, f"a text of {part} is no UTF-8: {e.object[:80]!r}")


def plain(message: Any, names: dict[str, str]) -> dict[str, Any]:
    """Return the fields that are set, an entry of a map as its key and value."""
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        if field.message_type is not None and field.message_type.name.endswith("Entry"):
            found: Any = {_text(entry.key): _one(entry.value, names, floats=False) for entry in value}
        else:
            floats = field.type == field.TYPE_FLOAT
            found = [_one(item, names, floats=floats) for item in value] if many else _one(value, names, floats=floats)
        out[names.get(field.name, field.name)] = found
    return out


def _one(value: Any, names: dict[str, str], *, floats: bool) -> Any:
    if isinstance(value, Message):
        return plain(value, names)
    return _shortest(value) if floats else _text(value)


def _text(value: Any) -> Any:
    """Return a value as it is, but for bytes: a text that is no UTF-8. Raises UnicodeDecodeError."""
    return value.decode() if isinstance(value, bytes) else value


def _shortest(value: float) -> float:
    """Return the float with the fewest digits that is `value` as a float32: 0.12, not 0.11999999731779099."""
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        try:
            if struct.unpack("<f", struct.pack("<f", short))[0] == value:
                return short
        except OverflowError:  # rounded up beyond what a float32 can be
            continue
    return float(f"{value:.9g}")
