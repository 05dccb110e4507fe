"""Builders of framed records, independent of the code under test: protobuf and framing by hand.

Sources of the bytes: docs/formats/records.md; tensorflow's event.proto, summary.proto, tensor.proto; MindSpore's
summary.proto. Every function that is not said to return something else returns one framed record.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

import google_crc32c

START = 1
"""SessionLog.status of a training that begins."""

_DT_FLOAT, _DT_DOUBLE = 1, 2


def masked_crc(data: bytes) -> int:
    """Return the masked CRC32C that the framing stores."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def header(length: int) -> bytes:
    """Return the 12 bytes before a payload of `length` bytes; `length` may lie."""
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", masked_crc(head))


def frame(payload: bytes) -> bytes:
    """Return `payload` as a record."""
    return header(len(payload)) + payload + struct.pack("<I", masked_crc(payload))


def varint(number: int) -> bytes:
    """Return `number` as protobuf writes an int64 or uint64."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def bytes_field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint_field(number: int, value: int) -> bytes:
    """Return a varint field."""
    return varint(number << 3) + varint(value)


def float_field(number: int, value: float) -> bytes:
    """Return a 32-bit float field."""
    return varint(number << 3 | 5) + struct.pack("<f", value)


def double_field(number: int, value: float) -> bytes:
    """Return a 64-bit float field."""
    return varint(number << 3 | 1) + struct.pack("<d", value)


def event(wall_time: float, what: bytes = b"", step: int | None = None) -> bytes:
    """Return the payload of an Event (both formats agree on fields 1 and 2); `what` is its other fields, encoded."""
    return double_field(1, wall_time) + (b"" if step is None else varint_field(2, step)) + what


def tb_metadata(plugin: str, content: bytes = b"", *, display_name: str = "", description: str = "") -> bytes:
    """Return an encoded SummaryMetadata (no record)."""
    plugin_data = bytes_field(1, plugin.encode()) + (bytes_field(2, content) if content else b"")
    return (
        bytes_field(1, plugin_data)
        + (bytes_field(2, display_name.encode()) if display_name else b"")
        + (bytes_field(3, description.encode()) if description else b"")
    )


def tb_value(tag: str | bytes, what: bytes, metadata: bytes | None = None) -> bytes:
    """Return an encoded Event.summary with one value (no record); `what` is the value's field, encoded."""
    name = tag if isinstance(tag, bytes) else tag.encode()
    value = bytes_field(1, name) + what + (b"" if metadata is None else bytes_field(9, metadata))
    return bytes_field(5, bytes_field(1, value))


def tb_event(wall_time: float, what: bytes = b"", step: int | None = None) -> bytes:
    """Return a TensorBoard event with any content."""
    return frame(event(wall_time, what, step))


def tb_version(wall_time: float) -> bytes:
    """Return the first record of a TensorBoard file."""
    return tb_event(wall_time, bytes_field(3, b"brain.Event:2"))


def tb_scalar(
    tag: str | bytes,
    step: int,
    value: float,
    wall_time: float,
    *,
    style: Literal["simple", "tensor", "double"] = "simple",
    metadata: bool = True,
) -> bytes:
    """Return one number as `simple_value`, as a rank-0 float or double tensor of plugin scalars (or bare)."""
    if style == "simple":
        return tb_event(wall_time, tb_value(tag, float_field(2, value)), step)
    if style == "tensor":
        tensor = varint_field(1, _DT_FLOAT) + bytes_field(2, b"") + bytes_field(5, struct.pack("<f", value))
    else:
        tensor = varint_field(1, _DT_DOUBLE) + bytes_field(2, b"") + bytes_field(6, struct.pack("<d", value))
    return tb_event(
        wall_time, tb_value(tag, bytes_field(8, tensor), tb_metadata("scalars") if metadata else None), step
    )


def tb_session_start(step: int, wall_time: float) -> bytes:
    """Return a SessionLog START."""
    return tb_event(wall_time, bytes_field(7, varint_field(1, START)), step)


def ms_event(wall_time: float, what: bytes = b"", step: int | None = None) -> bytes:
    """Return a MindSpore event with any content."""
    return frame(event(wall_time, what, step))


def ms_version(wall_time: float) -> bytes:
    """Return the first record of a MindSpore summary file."""
    return ms_event(wall_time, bytes_field(3, b"MindSpore.Event:1"))


def ms_scalars(step: int | None, values: Mapping[str, float], wall_time: float) -> bytes:
    """Return one record with a scalar of each tag."""
    summary = b"".join(
        bytes_field(1, bytes_field(1, tag.encode()) + float_field(3, value)) for tag, value in values.items()
    )
    return ms_event(wall_time, bytes_field(5, summary), step)
