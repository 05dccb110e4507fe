# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, assignment, call-overload"
"""Source of the compiled kernel: numba turns it into an object file once; kernel.py loads and calls that.

Only the process that compiles imports this module, and with it numba. The code sees raw pointers: nothing of Python is
left in it, so that the object file runs without numba. What it does not understand to the last byte it declines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.core.compiler import Flags, compile_extra
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from indexer.decode.kernel import (
    BAD_PAYLOAD,
    DONE,
    EVENT_WIDTH,
    FLAG_COUNTED,
    FLAG_WIDTHS,
    HEADER_CHECKS,
    HISTOGRAM_WIDTH,
    KEY_WIDTH,
    MINDSPORE,
    NEW_KEY,
    RECORD,
    REFERENCE,
    REST,
    RESYNCED,
    ROOM,
    SPAN_WIDTH,
    STATISTICS_WIDTH,
    STYLE_BARE,
    STYLE_BARE_DOUBLE,
    STYLE_BUCKETS,
    STYLE_GRID,
    STYLE_HISTO,
    STYLE_MINDSPORE,
    STYLE_NAMED,
    STYLE_SIMPLE,
    WHOLE,
    hardware_crc,
)

HARDWARE_CRC = hardware_crc()
_MAX_LENGTH = 2**31 - 1
_DECLINED = -(2**62)
_CROWDED = -(2**61)  # there is no room for the histograms of a record
_EXACT = 2**53  # whole numbers up to here are floats
_HISTOGRAM_BYTES = 20  # no histogram with a bucket is shorter
_HIGH_BITS = -0x7F7F7F7F7F7F7F80

_BYTES = types.CPointer(types.uint8)
_TABLES = types.CPointer(types.uint32)
_INT32 = types.CPointer(types.int32)
_INT64 = types.CPointer(types.int64)
_FLOAT64 = types.CPointer(types.float64)


def _load(pointer: types.Type, kind: ir.Type, result: types.Type, widen: Callable[[Any, Any], Any]) -> Any:
    """Return an intrinsic that loads a little-endian `kind`, aligned or not, `at` elements from a pointer."""

    @intrinsic
    def load(_typing: Any, _pointer: Any, _at: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            address = builder.bitcast(builder.gep(args[0], [args[1]]), kind.as_pointer())
            return widen(builder, builder.load(address, align=1))

        return result(pointer, types.int64), generate

    return load


# All integers below are int64: numba makes float64 of uint64 + int64, and uint64 of uint32 ^ uint32.
_i64 = _load(_BYTES, ir.IntType(64), types.int64, lambda _, x: x)
_u32 = _load(_BYTES, ir.IntType(32), types.int64, lambda b, x: b.zext(x, ir.IntType(64)))
_u8 = _load(_BYTES, ir.IntType(8), types.int64, lambda b, x: b.zext(x, ir.IntType(64)))
_f64 = _load(_BYTES, ir.DoubleType(), types.float64, lambda _, x: x)
_f32 = _load(_BYTES, ir.FloatType(), types.float64, lambda b, x: b.fpext(x, ir.DoubleType()))
_entry = _load(_TABLES, ir.IntType(32), types.int64, lambda b, x: b.zext(x, ir.IntType(64)))


def _njit(function: Any) -> Any:
    return numba.njit(function, error_model="numpy", boundscheck=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_njit
def _crc8(crc, low, high, tables):
    """Feed eight bytes, two little-endian halves, to the CRC register (slicing-by-8)."""
    low ^= crc
    return (
        _entry(tables, 1792 + (low & 0xFF))
        ^ _entry(tables, 1536 + ((low >> 8) & 0xFF))
        ^ _entry(tables, 1280 + ((low >> 16) & 0xFF))
        ^ _entry(tables, 1024 + (low >> 24))
        ^ _entry(tables, 768 + (high & 0xFF))
        ^ _entry(tables, 512 + ((high >> 8) & 0xFF))
        ^ _entry(tables, 256 + ((high >> 16) & 0xFF))
        ^ _entry(tables, high >> 24)
    )


@_njit
def _masked(crc):
    """Return a CRC register as the framing stores it."""
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | ((crc << 17) & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_instruction(width: int) -> Any:
    """Return an intrinsic that feeds `width` bits to the CRC register with the processor's own instruction."""

    @intrinsic
    def feed(_typing: Any, _crc: Any, _word: Any) -> Any:
        def generate(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            if not HARDWARE_CRC:
                return args[0]  # compiled, never run
            long, word = ir.IntType(64), ir.IntType(width)
            register = long if width == 64 else ir.IntType(32)
            kind = ir.FunctionType(register, [register, word])
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.x86.sse42.crc32.{register.width}.{width}"
            )
            crc, data = (builder.trunc(x, t) if t != long else x for x, t in zip(args, (register, word), strict=True))
            fed = builder.call(function, [crc, data])
            return fed if register is long else builder.zext(fed, long)

        return types.int64(types.int64, types.int64), generate

    return feed


_feed64 = _crc_instruction(64)
_feed32 = _crc_instruction(32)
_feed8 = _crc_instruction(8)


@_njit
def _checksum(buffer, start, stop, tables, hardware):
    """Return the masked CRC32C of `buffer[start:stop]`."""
    crc = int64(0xFFFFFFFF)
    if hardware:
        while stop - start >= 8:
            crc = _feed64(crc, _i64(buffer, start))
            start += 8
        if stop - start >= 4:
            crc = _feed32(crc, _u32(buffer, start))
            start += 4
        while start < stop:
            crc = _feed8(crc, _u8(buffer, start))
            start += 1
        return _masked(crc)
    while stop - start >= 8:
        crc = _crc8(crc, _u32(buffer, start), _u32(buffer, start + 4), tables)
        start += 8
    while start < stop:
        crc = _entry(tables, (crc ^ _u8(buffer, start)) & 0xFF) ^ (crc >> 8)
        start += 1
    return _masked(crc)


@_njit
def _length(buffer, at, tables, checks):
    """Return the payload length in the header at `at`; -1 where it is impossible or its checksum is wrong."""
    low = _u32(buffer, at)
    high = _u32(buffer, at + 4)
    if high or low > _MAX_LENGTH:
        return int64(-1)
    expected = _entry(checks, low) if low < HEADER_CHECKS else _masked(_crc8(int64(0xFFFFFFFF), low, high, tables))
    return low if expected == _u32(buffer, at + 8) else int64(-1)


@_njit
def _search(buffer, at, stop, limit, tables, checks, hardware):
    """Return where the first good header from `at` on is, if its whole record checks; -1 otherwise."""
    while stop - at >= 12:
        size = _length(buffer, at, tables, checks)
        if size >= 0:
            end = at + 12 + size
            if size > limit or end + 4 > stop or _checksum(buffer, at + 12, end, tables, hardware) != _u32(buffer, end):
                return int64(-1)
            return at
        at += 1
    return int64(-1)


@_njit
def _varint(buffer, at, stop, most):
    """Return a varint of at most `most` bytes and where it ends; -1 where it is none."""
    value = int64(0)
    shift = int64(0)
    while at < stop and shift < 7 * most:
        byte = _u8(buffer, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, (int64(-1) if shift == 63 and byte > 1 else at)
        shift += 7
    return value, int64(-1)


@_njit
def _field(buffer, at, stop):
    """Return start and end of a length-delimited field whose length is at `at`; -1, -1 where it is none."""
    length, first = _varint(buffer, at, stop, 4)
    if first < 0 or length > stop - first:
        return int64(-1), int64(-1)
    return first, first + length


@_njit
def _utf8(buffer, at, stop):
    """Tell whether `buffer[at:stop]` is UTF-8. Source: the Unicode Standard, table 3-7."""
    while at < stop:
        lead = buffer[at]
        at += 1
        if lead < 0x80:
            continue
        low, high, more = 0x80, 0xBF, 1
        if lead < 0xC2 or lead > 0xF4:
            return False
        if lead >= 0xF0:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        elif lead >= 0xE0:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        for _ in range(more):
            if at >= stop or buffer[at] < low or buffer[at] > high:
                return False
            at += 1
            low, high = 0x80, 0xBF
    return True


@_njit
def _ascii(buffer, at, stop):
    """Tell whether `buffer[at:stop]` is ASCII."""
    bits = int64(0)
    while stop - at >= 8:
        bits |= _i64(buffer, at)
        at += 8
    while at < stop:
        bits |= _u8(buffer, at)
        at += 1
    return (bits & _HIGH_BITS) == 0


@_njit
def _tensor(buffer, at, stop):
    """Return the number in a rank-0 float or double tensor, and its dtype, 0 where it is none."""
    dtype = int64(0)
    shaped = False
    found = 0
    value = 0.0
    while at < stop:
        tag = buffer[at]
        at += 1
        if tag == 0x08:  # dtype
            if dtype or at >= stop or buffer[at] > 2 or buffer[at] == 0:
                return value, int64(0)
            dtype = int64(buffer[at])
            at += 1
            continue
        first, end = _field(buffer, at, stop)
        if first < 0:
            return value, int64(0)
        at = end
        if tag == 0x12:  # tensor_shape: only the empty one
            if shaped or end != first:
                return value, int64(0)
            shaped = True
            continue
        if found:
            return value, int64(0)
        if end - first == 4 and (tag == 0x2A or tag == 0x22):  # float_val, tensor_content
            found = 1
            value = _f32(buffer, first)
        elif end - first == 8 and (tag == 0x32 or tag == 0x22):  # double_val, tensor_content
            found = 2
            value = _f64(buffer, first)
        else:
            return value, int64(0)
    return value, dtype if found != 0 and found == dtype else int64(0)


@_njit
def _names(buffer, at, stop):
    """Return which plugin a SummaryMetadata names, without content and its other fields ASCII and in order.

    1: scalars, 2: histograms, 0: another, or anything unusual.
    """
    plugin = 0
    # 0a 09: plugin_data; 0a 07: plugin_name; then the name
    if stop - at < 11:
        return 0
    if _i64(buffer, at) == 0x6C616373070A090A and _i64(buffer, at + 3) == 0x7372616C61637307:
        plugin = 1
        at += 11
    elif stop - at >= 14 and _i64(buffer, at) == 0x747369680A0A0C0A and _i64(buffer, at + 6) == 0x736D6172676F7473:
        plugin = 2
        at += 14
    else:
        return 0
    last = 0
    while at < stop:
        tag = int64(buffer[at])
        at += 1
        if tag <= last:
            return 0
        last = tag
        if tag == 0x12 or tag == 0x1A:  # display_name, summary_description
            first, end = _field(buffer, at, stop)
            if first < 0 or not _ascii(buffer, first, end):
                return 0
            at = end
        elif tag == 0x20:  # data_class
            if at >= stop or buffer[at] > 3:
                return 0
            at += 1
        else:
            return 0
    return plugin


@_njit
def _finite(value):
    return value - value == 0.0


@_njit
def _deviation(count, total, squares):
    """Return the standard deviation; NaN where floats do not hold it."""
    variance = squares / count - (total / count) * (total / count)
    if variance < 0.0:  # rounding
        variance = 0.0
    return math.sqrt(variance)


@_njit
def _sum_up(statistics, row, numbers, place, k, widths, low, high, total, lowest, highest, summed):
    """Write the statistics of a histogram whose writer counts not, or counts what is not finite too; return the count.

    low, high, total: the writer's, where `lowest`, `highest`, `summed` say that it gives them. The order of all
    additions is that of the reference (indexer/plugins/histogram.py): the results are the same to the last bit.
    """
    count = 0.0
    own_total = 0.0
    squares = 0.0
    left = math.inf
    right = -math.inf
    for i in range(k):
        a = numbers[place + 3 * i]
        b = numbers[place + 3 * i + 1]
        n = numbers[place + 3 * i + 2]
        if widths:
            b = a + b
        if n > 0.0:
            middle = (a + b) / 2.0
            if a < left:
                left = a
            if b > right:
                right = b
            count += n
            own_total += n * middle
            squares += n * middle * middle
    deviation = math.nan
    mean = math.nan
    if count > 0.0:
        deviation = _deviation(count, own_total, squares)
    if count != 0.0:
        mean = (total if summed else own_total) / count
        if not lowest:
            low = left
        if not highest:
            high = right
    else:
        low = math.nan
        high = math.nan
    statistics[row] = count
    statistics[row + 1] = low
    statistics[row + 2] = high
    statistics[row + 3] = total if summed else math.nan
    statistics[row + 4] = math.nan
    statistics[row + 5] = mean
    statistics[row + 6] = deviation
    statistics[row + 7] = math.nan
    return count


@_njit
def _histo(buffer, at, stop, most, statistics, row, numbers, place):
    """Read a HistogramProto; return its buckets, 0 where anything is unusual."""
    seen = 0
    low = 0.0
    high = 0.0
    count = 0.0
    total = 0.0
    squares = 0.0
    limits = int64(0)
    limits_end = int64(0)
    counts = int64(0)
    counts_end = int64(0)
    while at < stop:
        tag = buffer[at]
        at += 1
        bit = 1 << (int64(tag) >> 3)
        if seen & bit:
            return int64(0)
        seen |= bit
        if tag == 0x32 or tag == 0x3A:  # bucket_limit, bucket
            first, end = _field(buffer, at, stop)
            if first < 0:
                return int64(0)
            at = end
            if tag == 0x32:
                limits = first
                limits_end = end
            else:
                counts = first
                counts_end = end
            continue
        if stop - at < 8:
            return int64(0)
        value = _f64(buffer, at)
        at += 8
        if not _finite(value):
            return int64(0)
        if tag == 0x09:
            low = value
        elif tag == 0x11:
            high = value
        elif tag == 0x19:
            count = value
        elif tag == 0x21:
            total = value
        elif tag == 0x29:
            squares = value
        else:
            return int64(0)
    size = limits_end - limits
    k = size >> 3
    if size & 7 or size != counts_end - counts or k == 0 or k > most:
        return int64(0)
    left = low
    right = 0.0
    for i in range(k):
        right = _f64(buffer, limits + 8 * i)
        numbers[place + 3 * i] = left
        numbers[place + 3 * i + 1] = right
        numbers[place + 3 * i + 2] = _f64(buffer, counts + 8 * i)
        left = right
    if not _finite(right):
        return int64(0)
    numbers[place + 3 * k - 2] = high
    statistics[row + 7] = right if right != high else math.nan
    statistics[row] = count
    statistics[row + 3] = total
    statistics[row + 4] = squares
    statistics[row + 6] = _deviation(count, total, squares) if count > 0.0 else math.nan
    if count != 0.0:
        statistics[row + 1] = low
        statistics[row + 2] = high
        statistics[row + 5] = total / count
    else:
        statistics[row + 1] = math.nan
        statistics[row + 2] = math.nan
        statistics[row + 5] = math.nan
    return k


@_njit
def _grid(buffer, at, stop, most, statistics, row, numbers, place):
    """Read a 64-bit tensor of shape [k, 3] as a histogram; return its buckets, 0 where anything is unusual."""
    dtype = 0
    k = int64(-1)
    content = int64(-1)
    size = int64(0)
    while at < stop:
        tag = buffer[at]
        at += 1
        if tag == 0x08:  # dtype
            if dtype or at >= stop or buffer[at] != 2:
                return int64(0)
            dtype = 2
            at += 1
            continue
        first, end = _field(buffer, at, stop)
        if first < 0:
            return int64(0)
        at = end
        if tag == 0x12:  # tensor_shape: two dimensions of nothing but a size
            if k >= 0 or end - first < 8 or buffer[first] != 0x12 or buffer[first + 2] != 0x08:
                return int64(0)
            second = first + 2 + int64(buffer[first + 1])
            if end - second != 4:
                return int64(0)
            k, last = _varint(buffer, first + 3, second, 4)
            if last != second:
                return int64(0)
            if _u32(buffer, second) != 0x03080212:  # 12 02: a dimension, 08 03: of size 3
                return int64(0)
        elif tag == 0x22 or tag == 0x32:  # tensor_content, double_val
            if content >= 0:
                return int64(0)
            content = first
            size = end - first
        else:
            return int64(0)
    if dtype == 0 or k < 1 or k > most or size != 24 * k:
        return int64(0)
    for i in range(3 * k):
        numbers[place + i] = _f64(buffer, content + 8 * i)
    _sum_up(statistics, row, numbers, place, k, False, 0.0, 0.0, 0.0, False, False, False)
    return k


@_njit
def _buckets(buffer, at, stop, most, histograms, mark, statistics, row, numbers, place):
    """Read a histogram of MindSpore; return its buckets, 0 where anything is unusual."""
    seen = 0
    low = 0.0
    high = 0.0
    total = 0.0
    recorded = int64(0)
    outside = 0.0
    k = int64(0)
    for i in range(3):
        histograms[mark + 4 + i] = 0
    while at < stop:
        tag = buffer[at]
        at += 1
        if tag == 0x0A:  # a bucket
            first, end = _field(buffer, at, stop)
            if first < 0 or k == most:
                return int64(0)
            at = end
            found = 0
            while first < end:
                inner = buffer[first]
                first += 1
                which = int64(inner) >> 3
                if found & (1 << which):
                    return int64(0)
                found |= 1 << which
                if inner == 0x09 or inner == 0x11:  # left, width
                    if end - first < 8:
                        return int64(0)
                    numbers[place + 3 * k + which - 1] = _f64(buffer, first)
                    first += 8
                elif inner == 0x18:  # count
                    count, first = _varint(buffer, first, end, 10)
                    if first < 0 or count < 0 or count > _EXACT:
                        return int64(0)
                    numbers[place + 3 * k + 2] = float(count)
                else:
                    return int64(0)
            if found != 0b1110:  # all of them are required
                return int64(0)
            k += 1
            continue
        which = int64(tag) >> 3
        if seen & (1 << which):
            return int64(0)
        seen |= 1 << which
        if tag == 0x10 or tag == 0x18 or tag == 0x20 or tag == 0x40:
            count, at = _varint(buffer, at, stop, 10)
            if at < 0 or count < 0 or count > _EXACT:
                return int64(0)
            if tag == 0x40:
                recorded = count
            else:
                histograms[mark + 2 + which] = count
                outside += float(count)
            continue
        if stop - at < 8:
            return int64(0)
        value = _f64(buffer, at)
        at += 8
        if not _finite(value):
            return int64(0)
        if tag == 0x29:
            high = value
        elif tag == 0x31:
            low = value
        elif tag == 0x39:
            total = value
        else:
            return int64(0)
    if k == 0:
        return int64(0)
    histograms[mark + 3] = FLAG_WIDTHS | (((seen >> 2) & 7) * FLAG_COUNTED)
    count = _sum_up(
        statistics, row, numbers, place, k, True, low, high, total,
        (seen & (1 << 6)) != 0, (seen & (1 << 5)) != 0, (seen & (1 << 7)) != 0,
    )  # fmt: skip
    whole = count + outside
    if whole > _EXACT or ((seen & (1 << 8)) != 0 and float(recorded) != whole):
        return int64(0)
    return k


@_njit
def _hash(buffer, at, stop, job, style):
    """Return a hash of a tag's bytes, its job and its style."""
    h = (job * 0x1E3779B97F4A7C15) ^ ((stop - at) * 8 + style)
    while stop - at >= 8:
        h = (h ^ _i64(buffer, at)) * 0x56E8FEB86659FD93
        h ^= h >> 32
        at += 8
    while at < stop:
        h = (h ^ _u8(buffer, at)) * 0x100000001B3
        at += 1
    h ^= h >> 29
    h *= 0x3F58476D1CE4E5B9
    return h ^ (h >> 32)


@_njit
def _same(buffer, at, names, other, size):
    """Tell whether two stretches of bytes are equal."""
    while size >= 8:
        if _i64(buffer, at) != _i64(names, other):
            return False
        at += 8
        other += 8
        size -= 8
    while size > 0:
        if buffer[at] != names[other]:
            return False
        at += 1
        other += 1
        size -= 1
    return True


@_njit
def _find(buffer, at, stop, job, style, h, slots, slot_mask, keys, names):
    """Return the key number of (job, style, tag), or -1 minus the slot where it belongs."""
    slot = h & slot_mask
    while True:
        key = int64(slots[slot])
        if key < 0:
            return -1 - slot
        row = key * KEY_WIDTH
        if (
            keys[row] == job
            and keys[row + 1] == style
            and keys[row + 3] == stop - at
            and keys[row + 4] == h
            and _same(buffer, at, names, keys[row + 2], stop - at)
        ):
            return key
        slot = (slot + 1) & slot_mask


@_njit
def _rehash(slots, slot_mask, keys, key_count):
    """Put all keys into empty slots."""
    for key in range(key_count):
        slot = keys[key * KEY_WIDTH + 4] & slot_mask
        while slots[slot] >= 0:
            slot = (slot + 1) & slot_mask
        slots[slot] = key


@_njit
def _event(events, state, kind, span, a, b, records):
    """Note something for Python to look at, in order."""
    row = state[3] * EVENT_WIDTH
    events[row] = kind
    events[row + 1] = span
    events[row + 2] = a
    events[row + 3] = b
    events[row + 4] = state[2]
    events[row + 5] = records
    state[3] += 1


@_njit
def _values(
    buffer, at, stop, span, job, mindspore, step, wall_time, insert,
    state, key_column, step_column, wall_column, value_column, slots, keys, names, events,
    histograms, statistics, numbers_column,
):  # fmt: skip
    """Append the values of a summary `buffer[at:stop]` to the columns.

    Returns how many there are, negated minus one where a key is new (and `insert` is not set); the caller makes it
    count. Returns _DECLINED where anything is unusual, _CROWDED where there is no room for histograms.
    """
    declined = int64(_DECLINED)
    count = int64(0)
    fresh = False
    size = stop - at
    state[23] = state[18]
    state[24] = state[19]
    while at < stop:
        if buffer[at] != 0x0A:
            return declined
        first, end = _field(buffer, at + 1, stop)
        if first < 0:
            return declined
        at = end
        tag_first = int64(-1)
        tag_end = int64(-1)
        meta_first = int64(-1)
        meta_end = int64(-1)
        numbers = 0
        plugin = 0  # that metadata names
        dtype = int64(0)  # of a tensor
        field = 0  # of a histogram
        histogram = int64(-1)
        histogram_end = int64(-1)
        value = 0.0
        while first < end:
            tag = buffer[first]
            first += 1
            if (tag == 0x15 and not mindspore) or (tag == 0x1D and mindspore):  # simple_value, scalar_value
                if numbers or end - first < 4:
                    return declined
                numbers = 1
                value = _f32(buffer, first)
                first += 4
                continue
            inner, inner_end = _field(buffer, first, end)
            if inner < 0:
                return declined
            first = inner_end
            if tag == 0x0A:
                if tag_first >= 0:
                    return declined
                tag_first = inner
                tag_end = inner_end
            elif tag == (0x4A if mindspore else 0x2A):  # histogram, histo
                if numbers:
                    return declined
                numbers = 1
                field = 9 if mindspore else 5
                histogram = inner
                histogram_end = inner_end
            elif mindspore:
                return declined
            elif tag == 0x42:  # tensor
                if numbers:
                    return declined
                numbers = 1
                value, dtype = _tensor(buffer, inner, inner_end)
                if not dtype:
                    field = 8
                    histogram = inner
                    histogram_end = inner_end
            elif tag == 0x4A:  # metadata
                plugin = _names(buffer, inner, inner_end)
                if meta_first >= 0 or not plugin:
                    return declined
                meta_first = inner
                meta_end = inner_end
            else:
                return declined
        if tag_first < 0 or numbers == 0:
            return declined
        if (field == 8) != (plugin == 2) or (field == 5 and plugin):
            return declined
        if field:
            state[25] = state[18] + size // _HISTOGRAM_BYTES + 1
            state[26] = state[19] + 3 * (size >> 4) + 3  # no bucket takes less than 16 bytes
            if state[25] > state[20] or state[26] > state[21]:
                return int64(_CROWDED)
            value = math.nan
            mark = state[23] * HISTOGRAM_WIDTH
            line = state[23] * STATISTICS_WIDTH
            place = state[24]
            most = state[22]
            histograms[mark] = state[2] + count
            histograms[mark + 1] = place
            histograms[mark + 3] = 0
            if field == 9:
                style = STYLE_BUCKETS
                k = _buckets(
                    buffer, histogram, histogram_end, most, histograms, mark, statistics, line, numbers_column, place
                )
            elif field == 5:
                style = STYLE_HISTO
                k = _histo(buffer, histogram, histogram_end, most, statistics, line, numbers_column, place)
            else:
                style = STYLE_GRID
                k = _grid(buffer, histogram, histogram_end, most, statistics, line, numbers_column, place)
            if k == 0:
                return declined
            histograms[mark + 2] = k
            state[23] += 1
            state[24] += 3 * k
        elif mindspore:
            style = STYLE_MINDSPORE
        elif meta_first >= 0:
            style = STYLE_NAMED
        elif dtype:
            style = STYLE_BARE if dtype == 1 else STYLE_BARE_DOUBLE
        else:
            style = STYLE_SIMPLE
        h = _hash(buffer, tag_first, tag_end, job, style)
        key = _find(buffer, tag_first, tag_end, job, style, h, slots, state[10], keys, names)
        if key < 0:
            fresh = True
            if insert:
                slot = -1 - key
                key = state[4]
                state[4] += 1
                slots[slot] = key
                row = key * KEY_WIDTH
                keys[row] = job
                keys[row + 1] = style
                keys[row + 2] = state[5]
                keys[row + 3] = tag_end - tag_first
                keys[row + 4] = h
                for i in range(tag_end - tag_first):
                    names[state[5] + i] = buffer[tag_first + i]
                state[5] += tag_end - tag_first
                _event(events, state, NEW_KEY, span, key, meta_first, meta_end)
            elif not _utf8(buffer, tag_first, tag_end):
                return declined
        row = state[2] + count
        key_column[row] = key
        step_column[row] = step
        wall_column[row] = wall_time
        value_column[row] = value
        count += 1
    return -1 - count if fresh else count


def _walk(
    buffer, spans, clocks, state, key_column, step_column, wall_column, value_column,
    slots, keys, names, events, tables, checks, histograms, statistics, numbers,
):  # fmt: skip
    """Walk spans from where `state` stands. Returns DONE, or ROOM where an array must grow first.

    Layouts: kernel.py.
    """
    if state[11]:
        _rehash(slots, state[10], keys, state[4])
        state[11] = 0
    limit = state[12]
    hardware = state[1] != 0
    while state[0] < state[13]:
        span = state[0]
        row = span * SPAN_WIDTH
        job = spans[row]
        stop = spans[row + 2]
        mode = spans[row + 3]
        records = spans[row + 5]
        clock = clocks[span]
        if state[3] + 2 > state[7]:
            return ROOM
        if mode == REFERENCE:
            _event(events, state, WHOLE, span, 0, 0, 0)
            spans[row + 6] = state[2]
            state[0] += 1
            continue
        at = spans[row + 1]
        mindspore = mode == MINDSPORE
        if spans[row + 4]:  # lost since before
            found = _search(buffer, at, stop, limit, tables, checks, hardware)
            if found < 0:
                _event(events, state, REST, span, at, 1, records)
                at = stop
            else:
                _event(events, state, RESYNCED, span, -1, found, records)
                at = found
                spans[row + 4] = 0
        while at < stop:
            state[17] = 2
            if state[3] + 2 > state[7]:
                break
            size = int64(-1)
            if stop - at >= 12:
                size = _length(buffer, at, tables, checks)
                if size < 0:
                    found = _search(buffer, at + 1, stop, limit, tables, checks, hardware)
                    if found >= 0:
                        _event(events, state, RESYNCED, span, at, found, records)
                        at = found
                        continue
            whole = size >= 0 and size <= limit and size + 16 <= stop - at
            if not whole:  # torn, too large, lost: the reference says which
                _event(events, state, REST, span, at, 0, records)
                at = stop
                break
            first = at + 12
            end = first + size
            if _checksum(buffer, first, end, tables, hardware) != _u32(buffer, end):
                _event(events, state, BAD_PAYLOAD, span, at, size, records)
                at = end + 4
                continue
            if size == 0:
                at = end + 4
                continue
            state[14] = state[2] + size // 9 + 1  # no value is shorter than nine bytes
            if state[14] > state[6]:
                break
            # Event: wall_time, step, summary, each at most once
            p = first
            timed = False
            stepped = False
            summary = int64(-1)
            summary_end = int64(-1)
            wall_time = 0.0
            step = int64(0)
            plain = True
            while p < end and plain:
                tag = buffer[p]
                p += 1
                if tag == 0x09 and not timed and end - p >= 8:
                    timed = True
                    wall_time = _f64(buffer, p)
                    p += 8
                elif tag == 0x10 and not stepped:
                    stepped = True
                    step, p = _varint(buffer, p, end, 10)
                    plain = p >= 0
                elif tag == 0x2A and summary < 0:
                    summary, summary_end = _field(buffer, p, end)
                    p = summary_end
                    plain = summary >= 0
                else:
                    plain = False
            count = int64(_DECLINED)
            inserting = int64(0)
            if plain and timed and summary >= 0:
                count = _values(
                    buffer, summary, summary_end, span, job, mindspore, step, wall_time, inserting,
                    state, key_column, step_column, wall_column, value_column, slots, keys, names, events,
                    histograms, statistics, numbers,
                )  # fmt: skip
                if count == _CROWDED:
                    break
                if count < 0 and count > _DECLINED:
                    fresh = -1 - count
                    state[15] = state[4] + fresh
                    state[16] = state[5] + size
                    state[17] = fresh + 2
                    if state[15] > state[8] or state[16] > state[9] or state[3] + state[17] > state[7]:
                        break
                    inserting = int64(1)
                    count = -1 - _values(
                        buffer, summary, summary_end, span, job, mindspore, step, wall_time, inserting,
                        state, key_column, step_column, wall_column, value_column, slots, keys, names, events,
                        histograms, statistics, numbers,
                    )  # fmt: skip
            at = end + 4
            if count < 0:
                _event(events, state, RECORD, span, end + 4 - (size + 16), size, records)
                continue
            state[2] += count
            state[18] = state[23]
            state[19] = state[24]
            records += 1
            if wall_time < clock and wall_time - wall_time == 0.0:
                clock = wall_time
        clocks[span] = clock
        spans[row + 5] = records
        spans[row + 1] = at
        if at < stop:
            return ROOM
        spans[row + 6] = state[2]
        state[0] += 1
    return DONE


SIGNATURE = types.int64(
    _BYTES, _INT64, _FLOAT64, _INT64, _INT32, _INT64, _FLOAT64, _FLOAT64,
    _INT32, _INT64, _BYTES, _INT64, _TABLES, _TABLES, _INT64, _FLOAT64, _FLOAT64,
)  # fmt: skip


def object_code() -> tuple[str, bytes]:
    """Compile; return the function's name and the object file. Raises RuntimeError where it would need numba to run.

    The function takes the address of its result, that of an error, and then what `_walk` takes.
    """
    flags = Flags()
    flags.error_model = "numpy"
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True  # they would refer to Python and to numba
    target = cpu_target.target_context
    compiled = compile_extra(cpu_target.typing_context, target, _walk, SIGNATURE.args, types.int64, flags, {})
    lines = compiled.library.get_llvm_str().splitlines()
    outside = [line for line in lines if line.startswith("declare") and "@llvm." not in line]
    if outside:
        raise RuntimeError(f"the compiled kernel refers to other code: {outside}")
    return compiled.fndesc.llvm_func_name, compiled.library._get_compiled_object()  # noqa: SLF001  # what numba's own cache keeps
