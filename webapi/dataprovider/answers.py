"""Answers of the data provider as protobuf bytes, made by hand: what is repeated a thousand times is joined, not built.

A packed column of doubles is the array's own bytes. Field numbers: tensorboard's data_provider.proto, summary.proto,
tensor.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_VARINT, _FIXED64, _BYTES = 0, 1, 2
_DOUBLE = struct.Struct("<d")
_SMALL = [bytes([n]) for n in range(128)]
_MASK = 2**64 - 1


def varint(value: int) -> bytes:
    """Return a number of 64 bits, signed or not."""
    if 0 <= value < 128:
        return _SMALL[value]
    value &= _MASK
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return an integer field; nothing where it is 0, as proto3 has it."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def double(field: int, value: float) -> bytes:
    """Return a double field; nothing where it is 0."""
    return varint(field << 3 | _FIXED64) + _DOUBLE.pack(value) if value else b""


def block(field: int, content: bytes) -> bytes:
    """Return a message, or bytes: a field that is there even when it is empty."""
    return b"%b%b%b" % (varint(field << 3 | _BYTES), varint(len(content)), content)


def text(field: int, value: str) -> bytes:
    """Return a string field; nothing where it is empty."""
    return block(field, value.encode()) if value else b""


def packed(field: int, content: bytes) -> bytes:
    """Return a packed column; nothing where it is empty."""
    return block(field, content) if content else b""


def varints(values: Ints) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Return many varints, one behind the other, and where each ends. values: shape (n,); ends: shape (n,)."""
    rest = values.view(np.uint64)
    sizes = np.ones(len(rest), np.int64)
    for shift in range(7, 64, 7):
        longer = rest >= np.uint64(1 << shift)
        if not longer.any():
            break
        sizes += longer
    ends = np.cumsum(sizes)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - sizes
    for i in range(int(sizes.max()) if len(sizes) else 0):
        has = np.flatnonzero(sizes > i)
        byte = (rest[has] >> np.uint64(7 * i)).astype(np.uint8) & np.uint8(127)
        out[starts[has] + i] = byte | np.where(sizes[has] > i + 1, np.uint8(128), np.uint8(0))
    return out, ends


def scalar_data(counts: Sequence[int], step: Ints, wall_time: Floats, value: Floats) -> list[bytes]:
    """Return a ScalarData message a series. counts: points of each; the columns have shape (sum(counts),)."""
    steps, ends = varints(step)
    steps_raw = steps.tobytes()
    walls = np.ascontiguousarray(wall_time, "<f8").tobytes()
    with np.errstate(over="ignore"):  # beyond 32 bits is infinite
        values = np.ascontiguousarray(value, "<f4").tobytes()
    found, at, begin = [], 0, 0
    for count in counts:
        stop = at + count
        end = int(ends[stop - 1]) if count else begin
        found.append(
            packed(1, steps_raw[begin:end]) + packed(2, walls[8 * at : 8 * stop]) + packed(3, values[4 * at : 4 * stop])
        )
        at, begin = stop, end
    return found


def columns(step: Ints, wall_time: Floats, values: Iterable[bytes]) -> bytes:
    """Return a TensorData or BlobSequenceData message; `values` are messages."""
    steps, _ = varints(step)
    walls = np.ascontiguousarray(wall_time, "<f8").tobytes()
    return b"".join([packed(1, steps.tobytes()), packed(2, walls), *(block(3, value) for value in values)])


def metadata(max_step: int, max_wall_time: float, summary: bytes, max_length: int | None = None) -> bytes:
    """Return a metadata message of a List answer. summary: a SummaryMetadata message; max_length: of blob sequences."""
    start = number(1, max_step) + double(2, max_wall_time)
    if max_length is None:
        return start + block(3, summary)
    return start + number(3, max_length) + block(4, summary)


def entry(name: str, content: bytes) -> bytes:
    """Return a TagEntry as a field of its RunEntry."""
    return block(2, text(1, name) + block(2, content))


def run_entry(name: str, entries: Iterable[bytes]) -> bytes:
    """Return a RunEntry as a field of the answer."""
    return block(1, b"".join([text(1, name), *entries]))


def summary_metadata(plugin: str, content: bytes, data_class: int) -> bytes:
    """Return a SummaryMetadata message of a plugin."""
    return block(1, text(1, plugin) + packed(2, content)) + number(4, data_class)


def tensor(dtype: int, shape: Iterable[int], *, content: bytes = b"", strings: Iterable[bytes] = ()) -> bytes:
    """Return a TensorProto message; its elements are `content`, C order, little-endian, or `strings`."""
    dims = b"".join(block(2, number(1, size)) for size in shape)
    return b"".join([number(1, dtype), block(2, dims), packed(4, content), *(block(8, item) for item in strings)])


def blob_references(keys: Iterable[str]) -> bytes:
    """Return a BlobReferenceSequence message."""
    return b"".join(block(1, text(1, key)) for key in keys)
