"""Bytes of a shard → records: the pure reference that the compiled kernel must equal.

A record is `length u64 | masked CRC32C of it u32 | payload | masked CRC32C of it u32`, little-endian; see
docs/formats/records.md. No I/O and no policy: what is torn or wrong is a value.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt

from indexer.types import MAX_PROTOBUF_BYTES, MAX_RECORD_BYTES, Damage

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER_BYTES = 12
"""A length and its checksum."""

FRAME_BYTES = 16
"""What framing adds to a payload."""

PREFIX_BYTES = 1024
"""While searching, the checksum of every prefix of so many bytes more is kept."""

UNKNOWN_LOSS = "bytes that are no record"
"""Reason of a damage whose beginning another process saw."""

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_COPIED_BYTES = 2**20  # larger payloads stay views
_WINDOW_BYTES = 2**20  # searched at once, at most
_FIRST_WINDOW_BYTES = 4096
_KNOWN_LENGTHS = 4096  # bytes; lengths repeat, and a look-up is cheaper than a checksum
_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8


class Record(NamedTuple):
    """A record whose checksums are good."""

    offset: int  # bytes, in the buffer; where its length field starts
    payload: bytes | memoryview  # a view where it is large


@dataclass(frozen=True, slots=True)
class Frames:
    """What a buffer held. All offsets are in the buffer, but those of damages, which count from its `base`."""

    records: Sequence[Record]
    damages: Sequence[Damage]  # what was wrong and passed over, in order
    end: int  # the next read starts here; short of the buffer: torn, too large, or nothing that checks yet
    need: int  # bytes from `end` on that complete the record there (a header where no length is known); 0: none begun
    oversize: bool  # the record at `end` is good so far and longer than the limit: skip `need` bytes once all are there
    lost_since: int | None  # damage that is still open at `end`; counts from `base`
    lost_reason: str | None


class Resync(NamedTuple):
    """Where a search through damaged bytes ended."""

    position: int  # of the good record, of a record still to come, or of the first byte not yet decided
    found: bool  # a good record starts at `position`
    need: int  # as in Frames
    oversize: bool


def masked(crc: int) -> int:
    """Return `crc` as the framing stores it. Source: TFRecord's masking of CRC32C."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def checksum(payload: Buffer) -> int:
    """Return the masked CRC32C of `payload`."""
    return masked(_crc(payload, 0))


def split(
    buffer: Buffer,
    offset: int = 0,
    *,
    stop: int | None = None,
    base: int = 0,
    lost_since: int | None = None,
    lost_reason: str | None = None,
    limit: int = MAX_RECORD_BYTES,
) -> Frames:
    """Split `buffer[offset:stop]` into records; `base + i` is what damages call byte i.

    A torn tail is no damage: `end` is its first byte. Behind a bad payload under a good length reading goes on; after a
    bad or impossible length it searches on from the next byte, in linear time, for the first record that checks
    wholly. While there is none, `lost_since` says where the damage began and `end` what need not be read again; give
    both (and `lost_reason`) to the next call, whose buffer starts at `end`.
    """
    view = memoryview(buffer).toreadonly()
    stop = len(view) if stop is None else stop
    crc32c, stored_crc = google_crc32c.value, _CRC.unpack_from
    known: dict[bytes, int] = {}  # headers that check, of small records
    records: list[Record] = []
    damages: list[Damage] = []
    position, need, oversize = offset, 0, False
    while True:
        if lost_since is not None:
            found = resync(view, position, stop, limit)
            position, need, oversize = found.position, found.need, found.oversize
            if not found.found:
                break
            damages.append(Damage(lost_since, base + position - lost_since, lost_reason or UNKNOWN_LOSS))
            lost_since = lost_reason = None
        left = stop - position
        if left < HEADER_BYTES:
            need = HEADER_BYTES if left else 0
            break
        header = view[position : position + HEADER_BYTES].tobytes()
        length = known.get(header, -1)
        if length < 0:
            why = header_fault(view, position)
            if why is not None:
                lost_since, lost_reason = base + position, why
                position += 1
                continue
            length = _HEADER.unpack(header)[0]
            if length < _KNOWN_LENGTHS:
                known[header] = length
        if left < FRAME_BYTES + length or length > limit:
            need, oversize = FRAME_BYTES + length, length > limit
            break
        content = payload(view, position, length)
        crc: int = crc32c(content) if length <= _COPIED_BYTES else _crc(content, 0)
        masked_crc = (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
        if masked_crc != stored_crc(view, position + HEADER_BYTES + length)[0]:
            damages.append(payload_damage(view, position, length, base))
        elif length:  # a record without content says nothing
            records.append(Record(position, content))
        position += FRAME_BYTES + length
    return Frames(records, damages, position, need, oversize, lost_since, lost_reason)


def payload(view: memoryview, position: int, length: int) -> bytes | memoryview:
    """Return the payload of the record at `position`, a copy where it is small."""
    body = view[position + HEADER_BYTES : position + HEADER_BYTES + length]
    return bytes(body) if length <= _COPIED_BYTES else body


def header_fault(view: memoryview, position: int) -> str | None:
    """Say what is wrong with the header at `position`."""
    length, stored = _HEADER.unpack_from(view, position)
    computed = checksum(view[position : position + 8])
    if computed != stored:
        return f"length checksum {computed:#010x}, file says {stored:#010x}"
    if length > MAX_PROTOBUF_BYTES:
        return f"impossible length of {length} bytes"
    return None


def payload_damage(view: memoryview, position: int, length: int, base: int) -> Damage:
    """Return the damage of the record at `position`, whose header is good and whose payload is not."""
    computed = checksum(payload(view, position, length))
    (stored,) = _CRC.unpack_from(view, position + HEADER_BYTES + length)
    reason = f"payload checksum {computed:#010x}, file says {stored:#010x}"
    return Damage(base + position, FRAME_BYTES + length, reason)


def resync(view: memoryview, position: int, stop: int, limit: int) -> Resync:
    """Find the first offset from `position` on where a whole record checks, header and payload.

    Ends early at a header that checks and whose record is not all there, or longer than `limit`. Linear in
    `stop - position`: headers are checked at all offsets at once, and the checksum of any stretch comes from those of
    two prefixes, however many false headers claim overlapping stretches.
    """
    array = np.frombuffer(view, dtype=np.uint8, count=stop)
    prefixes = _Prefixes(view, position)
    width = _FIRST_WINDOW_BYTES
    while stop - position >= HEADER_BYTES:
        width = min(width, stop - position)
        candidates, lengths = _headers(array[position : position + width])
        candidates = candidates + position
        ends = candidates + (lengths + HEADER_BYTES)
        waits = (ends + 4 > stop) | (lengths > limit)
        first = int(np.argmax(waits)) if waits.any() else len(waits)
        good = _good_payloads(array, prefixes, candidates[:first] + HEADER_BYTES, ends[:first])
        if good.any():
            return Resync(int(candidates[np.argmax(good)]), True, 0, False)
        if first < len(waits):
            length = int(lengths[first])
            return Resync(int(candidates[first]), False, FRAME_BYTES + length, length > limit)
        position += width - HEADER_BYTES + 1
        width = min(width * 4, _WINDOW_BYTES)
    return Resync(position, False, HEADER_BYTES, False)


def _headers(window: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the offsets in `window` at which a header checks and its length is possible, and those lengths."""
    tables = crc_tables()
    count = len(window) - HEADER_BYTES + 1
    crc = np.zeros(count, dtype=np.uint32)
    for i in range(8):  # CRC32C of eight bytes: each byte's share depends only on its distance from the end
        byte = window[i : i + count]
        crc ^= tables[7 - i][byte ^ np.uint8(0xFF)] if i < 4 else tables[7 - i][byte]
    crc ^= np.uint32(0xFFFFFFFF)
    crc = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    crc += np.uint32(_MASK_DELTA)
    offsets = np.flatnonzero(crc == _little(window, 8, count, np.uint32))
    lengths = np.zeros(len(offsets), dtype=np.uint64)
    for i in range(8):
        lengths |= window[offsets + i].astype(np.uint64) << np.uint64(8 * i)
    possible = lengths <= MAX_PROTOBUF_BYTES
    return offsets[possible], lengths[possible].astype(np.int64)


def _little(window: npt.NDArray[np.uint8], first: int, count: int, kind: type[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return `count` overlapping little-endian 32-bit numbers, from byte `first` on."""
    out = np.zeros(count, dtype=kind)
    for i in range(4):
        out |= window[first + i : first + i + count].astype(kind) << kind(8 * i)
    return out


def _good_payloads(
    array: npt.NDArray[np.uint8],
    prefixes: _Prefixes,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Tell which of the payloads `[start, end)` have the checksum that follows them."""
    before = np.array([prefixes.crc(int(start)) for start in starts], dtype=np.uint32)
    after = np.array([prefixes.crc(int(end)) for end in ends], dtype=np.uint32)
    crc = after ^ _append_zeros(before, ends - starts)
    crc = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    crc += np.uint32(_MASK_DELTA)
    stored = np.zeros(len(ends), dtype=np.uint32)
    for i in range(4):
        stored |= array[ends + i].astype(np.uint32) << np.uint32(8 * i)
    good: npt.NDArray[np.bool_] = crc == stored
    return good


class _Prefixes:
    """CRC32C of `view[first:x]` for any x, each byte read about once."""

    def __init__(self, view: memoryview, first: int) -> None:
        self._view = view
        self._first = first
        self._kept = [0]  # of the first 0, PREFIX_BYTES, 2 * PREFIX_BYTES ... bytes

    def crc(self, x: int) -> int:
        """Return the CRC32C of `view[first:x]`."""
        whole, rest = divmod(x - self._first, PREFIX_BYTES)
        while len(self._kept) <= whole:
            at = self._first + (len(self._kept) - 1) * PREFIX_BYTES
            self._kept.append(_crc(self._view[at : at + PREFIX_BYTES], self._kept[-1]))
        return _crc(self._view[x - rest : x], self._kept[whole]) if rest else self._kept[whole]


def _append_zeros(crc: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return what each `crc` contributes to the CRC32C of its bytes followed by `counts` others.

    CRC(a + b) = shift(CRC(a), len(b)) ^ CRC(b), where the shift is linear over bits: one table a power of two.
    """
    crc = crc.copy()
    for bit in range(int(counts.max(initial=0)).bit_length()):
        rows = np.flatnonzero(counts >> bit & 1)
        tables = _zeros_tables(bit)
        old = crc[rows]
        crc[rows] = (
            tables[0][old & 0xFF] ^ tables[1][old >> 8 & 0xFF] ^ tables[2][old >> 16 & 0xFF] ^ tables[3][old >> 24]
        )
    return crc


@functools.cache
def _zeros_tables(bit: int) -> npt.NDArray[np.uint32]:
    """Return tables, shape (4, 256), by byte of a CRC register, of 2**bit zero bytes appended to it."""
    byte = np.arange(256, dtype=np.uint32)
    crc: npt.NDArray[np.uint32] = np.stack([byte << np.uint32(8 * i) for i in range(4)])
    if bit == 0:
        shifted: npt.NDArray[np.uint32] = (crc >> np.uint32(8)) ^ crc_tables()[0][crc & 0xFF]
        return shifted
    half = _zeros_tables(bit - 1)
    for _ in range(2):
        crc = half[0][crc & 0xFF] ^ half[1][crc >> 8 & 0xFF] ^ half[2][crc >> 16 & 0xFF] ^ half[3][crc >> 24]
    return crc


@functools.cache
def crc_tables() -> npt.NDArray[np.uint32]:
    """Return the tables of slicing-by-8, shape (8, 256): row i is a byte followed by i zero bytes."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL), table >> np.uint32(1))
    tables = [table]
    for _ in range(7):
        tables.append((tables[-1] >> np.uint32(8)) ^ table[tables[-1] & 0xFF])
    return np.stack(tables)


def _crc(content: Buffer, crc: int) -> int:
    """Return the CRC32C of what `crc` is of, followed by `content`; large content is not copied."""
    if not isinstance(content, bytes):  # google_crc32c takes bytes or an array, no view
        content = bytes(content) if len(content) <= _COPIED_BYTES else np.frombuffer(content, dtype=np.uint8)  # type: ignore[assignment]
    result: int = google_crc32c.extend(crc, content)
    return result
