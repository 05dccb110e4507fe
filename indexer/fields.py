"""Protobuf messages without protobuf: which fields a message has, and where in its bytes.

Source: the wire format as protobuf's documentation has it (encoding). A field is (number, wire type, a, b): of a varint
`a` is the value (unsigned), of all others a and b are the bounds of its bytes. Groups are obsolete and refused.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Places = npt.NDArray[np.int64]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

MORE = "more nodes than are taken apart"
"""Begins the error of a message that is only too long."""

Field = tuple[int, int, int, int]
Buffer = bytes | memoryview
"""What messages are read from; a view, so that the longest of them need not be copied."""
Bounds = tuple["array[int]", "array[int]"]
"""Where fields begin, and where they end."""

_SIZES = {FIXED64: 8, FIXED32: 4}
_FEW = 32  # messages: fewer are read one after the other
_CUT = "a message ends inside a field"
_LONG = "a number has more than 64 bits"
_ODD = "a field of wire type {}"
_LAST_NUMBER = 2**29 - 1


def walk(data: Buffer, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in data[start:stop], in its order. ValueError where that is no message."""
    at, stop = start, len(data) if stop is None else stop
    while at < stop:
        key, at = varint(data, at, stop)
        number, wire = key >> 3, key & 7
        if not 0 < number <= _LAST_NUMBER:
            raise ValueError(f"a field of number {number}")
        if wire == VARINT:
            value, at = varint(data, at, stop)
            yield number, wire, value, at
            continue
        if wire == BYTES:
            size, at = varint(data, at, stop)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:
            raise ValueError(_ODD.format(wire))
        if size > stop - at:
            raise ValueError(_CUT)
        yield number, wire, at, at + size
        at += size


def varint(data: Buffer, at: int, stop: int) -> tuple[int, int]:
    """Return the number at `at`, and where it ends."""
    value = shift = 0
    while at < stop:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7
        if shift > 63:
            raise ValueError(_LONG)
    raise ValueError(_CUT)


def signed(value: int) -> int:
    """Return what a varint is as int64."""
    return value - 2**64 if value >= 2**63 else value


def number(data: Buffer, wire: int, a: int) -> float:
    """Return a fixed-width field as a float."""
    (value,) = struct.unpack_from("<d" if wire == FIXED64 else "<f", data, a)
    return float(value)


# Many messages at once ------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Table:
    """Fields of many messages, shape (n,): `of` is the message's index. Those of one message are in its order."""

    of: Places
    number: Places
    wire: Places
    a: Places
    b: Places


def tabulate(data: Buffer, starts: Places, stops: Places) -> Table:
    """Return the fields of the messages data[starts[i]:stops[i]]: what `walk` gives, read in lockstep by numpy.

    A varint above 2^63 - 1 is negative. ValueError where one of them is no message.
    """
    import numpy as np

    buffer = np.frombuffer(data, np.uint8)
    active = np.flatnonzero(stops > starts)
    at, stop = starts[active], stops[active]
    parts: list[tuple[Places, ...]] = []
    while len(active) >= _FEW:
        key, at = _varints(buffer, at, stop)
        number_, wire = (key >> np.uint64(3)).astype(np.int64), (key & np.uint64(7)).astype(np.int64)
        if number_.min() < 1 or number_.max() > _LAST_NUMBER:
            raise ValueError("a field of number 0, or of one too large")
        a, b = at.copy(), at.copy()
        for kind in np.unique(wire).tolist():
            some = np.flatnonzero(wire == kind)
            if kind == VARINT:
                value, ends = _varints(buffer, at[some], stop[some])
                a[some], b[some] = value.view(np.int64), ends
                continue
            begins = at[some]
            if kind == BYTES:
                size, begins = _varints(buffer, begins, stop[some])
                if size.max() > np.uint64(2**31):
                    raise ValueError(_CUT)
                ends = begins + size.astype(np.int64)
            elif kind in _SIZES:
                ends = begins + _SIZES[kind]
            else:
                raise ValueError(_ODD.format(kind))
            if (ends > stop[some]).any():
                raise ValueError(_CUT)
            a[some], b[some] = begins, ends
        parts.append((active, number_, wire, a, b))
        rest = np.flatnonzero(b < stop)
        active, at, stop = active[rest], b[rest], stop[rest]
    few: list[tuple[int, ...]] = []
    for of, begin, end in zip(active.tolist(), at.tolist(), stop.tolist(), strict=True):
        few.extend((of, n, wire, signed(a) if wire == VARINT else a, b) for n, wire, a, b in walk(data, begin, end))
    if few:
        parts.append(tuple(np.array(few, np.int64).T))
    if not parts:
        return Table(*(np.empty(0, np.int64) for _ in range(5)))
    return Table(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _varints(buffer: npt.NDArray[Any], at: Places, stop: Places) -> tuple[npt.NDArray[np.uint64], Places]:
    """Return the numbers at `at`, and where they end."""
    import numpy as np

    if (at >= stop).any():
        raise ValueError(_CUT)
    byte = buffer[at]
    value, ends = (byte & 0x7F).astype(np.uint64), at + 1
    more, shift = np.flatnonzero(byte > 0x7F), 7
    while len(more):
        if shift > 63:
            raise ValueError(_LONG)
        places = ends[more]
        if (places >= stop[more]).any():
            raise ValueError(_CUT)
        byte = buffer[places]
        value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        ends[more] = places + 1
        more, shift = more[byte > 0x7F], shift + 7
    return value, ends


def submessages(data: Buffer, start: int, stop: int, wanted: tuple[int, ...], limit: int) -> dict[int, Bounds]:
    """Return where the length-delimited fields `wanted` of one message begin and end, as `walk` would find them.

    A long list of short messages is what most of a graph is: this reads 100,000 in 30 ms. ValueError where data is no
    message, or has more than `limit` of these fields.
    """
    found: dict[int, Bounds] = {number_: (array("q"), array("q")) for number_ in wanted}
    usual = {number_ << 3 | BYTES: [column.append for column in found[number_]] for number_ in wanted if number_ < 16}
    at, left = start, limit
    while at < stop:
        key = data[at]
        if key in usual and at + 4 < stop:  # one byte of key, at most three of length
            size = data[at + 1]
            begin = at + 2
            if size > 0x7F:
                size = size & 0x7F | data[at + 2] << 7
                begin = at + 3
                if size > 0x3FFF:
                    size = size & 0x3FFF | data[at + 3] << 14
                    begin = at + 4
                    if size > 0x1FFFFF:
                        size, begin = varint(data, at + 1, stop)
            at = begin + size
            if at > stop:
                raise ValueError(_CUT)
            add_begin, add_end = usual[key]
        else:
            number_, wire, begin, at = next(walk(data, at, stop))
            if wire != BYTES or number_ not in found:
                continue
            add_begin, add_end = (column.append for column in found[number_])
        left -= 1
        if left < 0:
            raise ValueError(MORE)
        add_begin(begin)
        add_end(at)
    return found
