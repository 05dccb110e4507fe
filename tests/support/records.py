"""Builders of framed records, independent of the code under test: protobuf and framing by hand.

Sources of the bytes: docs/formats/records.md; tensorflow's event.proto, summary.proto, tensor.proto; MindSpore's
summary.proto. Every function that is not said to return something else returns one framed record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

import google_crc32c

START = 1
"""SessionLog.status of a training that begins."""

_DT_FLOAT, _DT_DOUBLE, _DT_STRING = 1, 2, 7


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


def png(width: int, height: int, pixel: int = 0) -> bytes:
    """Return a grey image of one shade (no record). Source: ISO 15948."""
    rows = b"".join(b"\x00" + bytes([pixel]) * width for _ in range(height))

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tb_image(tag: str, step: int, image: bytes, wall_time: float, *, width: int = 1, height: int = 1) -> bytes:
    """Return an image in TensorBoard's old style."""
    message = varint_field(1, height) + varint_field(2, width) + varint_field(3, 1) + bytes_field(4, image)
    return tb_event(wall_time, tb_value(tag, bytes_field(4, message)), step)


def tb_strings(tag: str, step: int, items: Sequence[bytes], wall_time: float, *, plugin: str = "text") -> bytes:
    """Return a tensor of strings of rank 1."""
    shape = bytes_field(2, varint_field(1, len(items)))
    tensor = varint_field(1, _DT_STRING) + bytes_field(2, shape) + b"".join(bytes_field(8, item) for item in items)
    return tb_event(wall_time, tb_value(tag, bytes_field(8, tensor), tb_metadata(plugin)), step)


def tb_tensor(tag: str, step: int, shape: Sequence[int], content: bytes, wall_time: float) -> bytes:
    """Return a float tensor without metadata, its elements as `tensor_content`."""
    dims = b"".join(bytes_field(2, varint_field(1, size)) for size in shape)
    tensor = varint_field(1, _DT_FLOAT) + bytes_field(2, dims) + bytes_field(4, content)
    return tb_event(wall_time, tb_value(tag, bytes_field(8, tensor)), step)


def tb_histogram(tag: str, step: int, limits: Sequence[float], counts: Sequence[float], wall_time: float) -> bytes:
    """Return a histogram in TensorBoard's old style."""
    lists = [struct.pack(f"<{len(numbers)}d", *numbers) for numbers in (limits, counts)]
    facts = [0.0, limits[-1] if limits else 0.0, float(sum(counts)), 1.0, 2.0]  # min, max, num, sum, sum of squares
    message = b"".join(double_field(number, fact) for number, fact in enumerate(facts, 1))
    message += bytes_field(6, lists[0]) + bytes_field(7, lists[1])
    return tb_event(wall_time, tb_value(tag, bytes_field(5, message)), step)


def ms_image(tag: str, step: int, image: bytes, wall_time: float, *, width: int = 1, height: int = 1) -> bytes:
    """Return an image of MindSpore."""
    message = varint_field(1, height) + varint_field(2, width) + varint_field(3, 3) + bytes_field(4, image)
    value = bytes_field(1, tag.encode()) + bytes_field(4, message)
    return ms_event(wall_time, bytes_field(5, bytes_field(1, value)), step)


def ms_tensor(tag: str, step: int, dims: Sequence[int], content: bytes, wall_time: float, *, dtype: int = 11) -> bytes:
    """Return a tensor of MindSpore; `content` are its elements as float32."""
    tensor = b"".join(varint_field(1, size) for size in dims) + varint_field(2, dtype) + bytes_field(3, content)
    value = bytes_field(1, tag.encode()) + bytes_field(8, tensor)
    return ms_event(wall_time, bytes_field(5, bytes_field(1, value)), step)


def ms_lineage(field: int, content: bytes, wall_time: float = 1.0) -> bytes:
    """Return a lineage record: 6 trains, 7 evaluates, 9 is a dataset graph, 10 holds user-defined values."""
    return ms_event(wall_time, bytes_field(field, content))


def ms_train(learning_rate: float, optimizer: str = "SGD", wall_time: float = 1.0) -> bytes:
    """Return the lineage record of a training."""
    hyper = bytes_field(1, optimizer.encode()) + float_field(2, learning_rate)
    return ms_lineage(6, bytes_field(1, hyper), wall_time)


def ms_evaluation(metric: str, wall_time: float = 1.0) -> bytes:
    """Return the lineage record of an evaluation; `metric` is a JSON object."""
    return ms_lineage(7, bytes_field(2, metric.encode()), wall_time)


def ms_user_defined(values: Mapping[str, str], wall_time: float = 1.0) -> bytes:
    """Return the lineage record of user-defined texts."""
    return ms_lineage(
        10, b"".join(bytes_field(1, ms_user_item(4, key, value)) for key, value in values.items()), wall_time
    )


def ms_user_item(field: int, key: str, value: str) -> bytes:
    """Return an item of user-defined values (no record), a text in map number `field`."""
    return bytes_field(field, bytes_field(1, key.encode()) + bytes_field(2, value.encode()))


def tb_hparams(tag: str, content: bytes, wall_time: float = 1.0, what: bytes = b"") -> bytes:
    """Return a value of plugin hparams: its metadata's content, and as torch has it no field."""
    return tb_event(wall_time, tb_value(f"_hparams_/{tag}", what, tb_metadata("hparams", content)))


def hparams_start(values: Mapping[str, float], *, group: str = "", start: float = 0.0) -> bytes:
    """Return the content of a session start (no record)."""
    entries = (bytes_field(1, name.encode()) + bytes_field(2, double_field(2, v)) for name, v in values.items())
    info = b"".join(bytes_field(1, entry) for entry in entries) + bytes_field(4, group.encode())
    return bytes_field(3, info + double_field(5, start))


def hparams_end(status: int, end: float = 0.0) -> bytes:
    """Return the content of a session end (no record): status 1 is success, 2 failure."""
    return bytes_field(4, varint_field(1, status) + double_field(2, end))


def hparams_experiment(*metrics: tuple[str, str]) -> bytes:
    """Return the content of an experiment that names metrics by group and tag (no record)."""
    names = (bytes_field(1, group.encode()) + bytes_field(2, tag.encode()) for group, tag in metrics)
    return bytes_field(2, b"".join(bytes_field(5, bytes_field(1, name)) for name in names))


def grid(rows: Sequence[tuple[float, float, float]]) -> bytes:
    """Return a tensor of shape [k, 3] that holds left edge, right edge and count of buckets."""
    shape = bytes_field(2, varint_field(1, len(rows))) + bytes_field(2, varint_field(1, 3))
    content = b"".join(struct.pack("<3d", *row) for row in rows)
    return varint_field(1, 2) + bytes_field(2, shape) + bytes_field(4, content)


def ms_buckets(rows: Sequence[tuple[float, float, int]], *, nan_count: int = 0) -> bytes:
    """Return a histogram of MindSpore from left edge, width and count of buckets, as its writer fills it."""
    buckets = [double_field(1, left) + double_field(2, width) + varint_field(3, count) for left, width, count in rows]
    count = sum(row[2] for row in rows) + nan_count
    return b"".join(
        [
            *(bytes_field(1, bucket) for bucket in buckets),
            *(varint_field(number, n) for number, n in ((2, nan_count), (3, 0), (4, 0))),
            *(double_field(number, value) for number, value in ((5, 1.0), (6, -1.0), (7, 0.25))),
            varint_field(8, count),
        ]
    )
