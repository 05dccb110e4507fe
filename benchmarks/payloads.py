"""Large, deterministic inputs whose points are no numbers: images as PNG files, histograms of both formats.

A record differs from its template in a few bytes, as in generate.py, whose framing this is.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks import generate
from benchmarks.generate import (
    FIRST_TIME,
    SECONDS_PER_STEP,
    Shape,
    _Bytes,
    _field,
    _Templates,
    _varint,
    _widths,
    tag_name,
)

_SIDE = 100  # pixels
_PICTURES = 16  # different ones; each image has its number behind its end, so that no two files are equal
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Payloads:
    """What to write: one run with `count` payloads, the series in turn, steps from 1."""

    kind: Literal["images", "histograms"]
    count: int
    tags: int = 4
    format: Literal["tensorboard", "mindspore"] = "tensorboard"
    buckets: int = 30  # of a histogram
    tensor: bool = False  # tensorboard only: histograms as tensors of shape [buckets, 3]


@dataclass(frozen=True, slots=True)
class Truth:
    """What a loader must have found."""

    series: int
    payloads: int
    size: int  # bytes of all payloads as they are stored
    values: float  # in all histograms; 0 for images
    last: bytes  # SHA-256 of the last image; empty for histograms


def write(wanted: Payloads, directory: Path) -> Truth:
    """Write the run below `directory`, which need not exist; return what is in it."""
    path = directory / "run" / generate.file_name(Shape(format=wanted.format), 0)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.write(generate.version_record(Shape(format=wanted.format)))
        for block in _images(wanted) if wanted.kind == "images" else _histograms(wanted):
            file.write(block)
    if wanted.kind == "images":
        last = (wanted.count - 1) % (wanted.tags * _PICTURES) // wanted.tags
        data = _pictures()[last] + struct.pack("<Q", wanted.count - 1)
        return Truth(wanted.tags, wanted.count, wanted.count * len(data), 0.0, hashlib.sha256(data).digest())
    size = wanted.count * wanted.buckets * 24
    return Truth(wanted.tags, wanted.count, size, float(_counts(wanted, 0, wanted.count).sum()), b"")


def _pictures() -> list[bytes]:
    """Return PNG files of about 30 KB: noise, which does not compress."""
    noise = np.random.default_rng(7).integers(0, 256, (_PICTURES, _SIDE, 1 + 3 * _SIDE), np.uint8)
    noise[:, :, 0] = 0  # each line's filter: none
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
    return [
        b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(pixels.tobytes(), 0)) + _chunk(b"IEND", b"")
        for pixels in noise
    ]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _images(wanted: Payloads) -> Iterator[bytes]:
    head = _varint(8) + _varint(_SIDE) + _varint(16) + _varint(_SIDE) + _varint(24) + _varint(3)
    kinds = [
        _field(1, tag_name(tag).encode()) + _field(4, head + _field(4, picture + bytes(8)))
        for picture in _pictures()
        for tag in range(wanted.tags)
    ]
    yield from _filled(wanted, kinds, 8, lambda first, last: np.arange(first, last, dtype="<u8")[:, None])


def _counts(wanted: Payloads, first: int, last: int) -> npt.NDArray[np.float64]:
    """Return how many values lie in each bucket, shape (last - first, buckets): 1, 2, 3 ..., each time turned on."""
    at = np.arange(first, last)[:, None] * 7 + np.arange(wanted.buckets)[None, :]
    return (at % wanted.buckets + 1).astype(np.float64)


def _histograms(wanted: Payloads) -> Iterator[bytes]:
    """Yield records that differ in their counts, whose sum is the same."""
    k = wanted.buckets
    edges = np.linspace(-1.0, 1.0, k + 1)
    if wanted.format == "mindspore":  # counts below 128 take a byte
        rows = b"".join(
            _field(1, b"\x09" + struct.pack("<d", edges[i]) + b"\x11" + struct.pack("<d", 2 / k) + b"\x18\x00")
            for i in range(k)
        )
        last = b"\x29" + struct.pack("<d", 1.0) + b"\x31" + struct.pack("<d", -1.0) + b"\x39" + struct.pack("<d", 0.5)
        content = rows + b"\x10\x00\x18\x00\x20\x00" + last
        kinds = [_field(1, tag_name(tag).encode()) + _field(9, content) for tag in range(wanted.tags)]
        ends = [len(rows) // k * (i + 1) - len(content) for i in range(k)]
        yield from _filled(wanted, kinds, 1, lambda a, b: _counts(wanted, a, b).astype(np.uint8), ends)
        return
    if wanted.tensor:
        grid = np.stack([edges[:-1], edges[1:], np.zeros(k)], axis=1).astype("<f8").tobytes()
        shape = _field(2, b"\x08" + _varint(k)) + _field(2, b"\x08\x03")
        after = _field(9, _field(1, _field(1, b"histograms")) + b"\x20\x02")
        content = b"\x08\x02" + _field(2, shape) + _field(4, grid)
        kinds = [_field(1, tag_name(tag).encode()) + _field(8, content) + after for tag in range(wanted.tags)]
        ends = [24 * (i + 1) - len(grid) - len(after) for i in range(k)]
    else:
        numbers = (-1.0, 1.0, float(_counts(wanted, 0, 1).sum()), 0.5, 99.0)
        head = b"".join(_varint(8 * i + 9) + struct.pack("<d", x) for i, x in enumerate(numbers))
        content = head + _field(6, edges[1:].astype("<f8").tobytes()) + _field(7, bytes(8 * k))
        kinds = [_field(1, tag_name(tag).encode()) + _field(5, content) for tag in range(wanted.tags)]
        ends = [8 * (i + 1) - 8 * k for i in range(k)]
    yield from _filled(wanted, kinds, 8, lambda a, b: _counts(wanted, a, b).astype("<f8"), ends)


class _Filled(_Templates):
    """Templates whose holes are counted from their end."""

    def __init__(self, values: list[bytes], step_bytes: int, holes: list[int]) -> None:
        head = b"\x09" + bytes(8) + b"\x10" + bytes(step_bytes)
        payloads = [head + _field(5, _field(1, value)) for value in values]
        self.prepare(payloads, step_bytes, [len(payloads[0]) + hole for hole in holes])


def _filled(
    wanted: Payloads,
    values: list[bytes],
    width: int,
    numbers: Callable[[int, int], npt.NDArray[Any]],
    ends: Sequence[int] = (0,),
) -> Iterator[bytes]:
    """Yield records of `values` in turn, with numbers of `width` bytes in them.

    numbers: returns those of payloads first to last, shape (last - first, len(ends)).  ends: where each number ends,
    from the end of a value, so 0 or less.
    """
    holes = [end - width + i for end in ends for i in range(width)]
    for first, last, step_bytes in _widths(-(-wanted.count // wanted.tags)):
        templates = _Filled(values, step_bytes, holes)
        length = max(1, _CHUNK_BYTES // templates.record_bytes)
        stop = min(wanted.count, last * wanted.tags)
        for start in range(first * wanted.tags, stop, length):
            index = np.arange(start, min(stop, start + length))
            steps = index // wanted.tags + 1
            content: _Bytes = np.ascontiguousarray(numbers(start, start + len(index))).view(np.uint8)
            yield templates.put(index % len(values), steps, FIRST_TIME + steps * SECONDS_PER_STEP, content)
