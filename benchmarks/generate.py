"""Large, deterministic inputs: event files of TensorBoard, summary files of MindSpore.

Framing and messages as in docs/formats; only numpy is needed. A record of a given length differs from its template in
a few bytes (time, step, values), and CRC-32C is linear over XOR, so a checksum is the template's XOR one table entry
per differing byte. That writes two million records in about a second.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

FIRST_TIME = 1_700_000_000  # seconds; run r starts r seconds later
SECONDS_PER_STEP = 0.25
_CHUNK_BYTES = 8 * 2**20  # of records built at once
_HEADER_BYTES = 12  # length (8) and its checksum (4); the payload's checksum (4) follows the payload

_Bytes = npt.NDArray[np.uint8]
_Crc = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Shape:
    """What to write: `runs` directories of one file, each with `tags` series of `points` points, steps from 1."""

    runs: int = 1
    tags: int = 10
    points: int = 1_000  # a tag
    format: Literal["tensorboard", "mindspore"] = "tensorboard"
    tensor: bool = False  # tensorboard only: rank-0 tensors with the scalars plugin's metadata, else simple_value
    interleaved: bool = True  # step after step, as training writes; else tag after tag
    seed: int = 0

    @property
    def total(self) -> int:
        """Points in all."""
        return self.runs * self.tags * self.points


@dataclass(frozen=True, slots=True)
class Truth:
    """What a loader must have found."""

    runs: int
    series: int
    points: int
    value_sum: float  # of all values, in float64


def write(shape: Shape, directory: Path) -> int:
    """Write the runs of `shape` below `directory`, which need not exist; return the bytes written."""
    size = 0
    for run in range(shape.runs):
        path = directory / run_name(run) / file_name(shape, run)
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            for block in _file(shape, run):
                size += file.write(block)
    return size


def truth(shape: Shape) -> Truth:
    """Return what the files of `shape` hold."""
    value_sum = sum(float(values(shape, run).sum(dtype=np.float64)) for run in range(shape.runs))
    return Truth(shape.runs, shape.runs * shape.tags, shape.total, value_sum)


def values(shape: Shape, run: int) -> npt.NDArray[np.float32]:
    """Return the values of one run, shape (points, tags): falling curves with noise, the same on every machine."""
    noise = np.random.default_rng([shape.seed, run]).random((shape.points, shape.tags), dtype=np.float32)
    left = np.float32(1) - np.arange(shape.points, dtype=np.float32) / np.float32(shape.points)
    level = np.float32(1) + np.arange(shape.tags, dtype=np.float32) / np.float32(shape.tags)
    noise *= np.float32(0.125)
    noise += (left * left)[:, None] * level[None, :]
    return noise


def run_name(run: int) -> str:
    """Return the name of a run's directory."""
    return f"run_{run:05d}"


def tag_name(tag: int) -> str:
    """Return the name of a tag; all names have one length, as the templates need."""
    return f"{('train', 'valid')[tag % 2]}/layer_{tag // 10:04d}/metric_{tag:06d}"


def file_name(shape: Shape, run: int) -> str:
    """Return the name of a run's file, with its time in it as the writers put it."""
    if shape.format == "tensorboard":
        return f"events.out.tfevents.{FIRST_TIME + run}.benchmark.{run}.0"
    return f"events.out.events.summary.{FIRST_TIME + run}.0.benchmark_MS"


def record(tag: str, step: int, wall_time: float, value: float) -> bytes:
    """Return one framed record of TensorBoard with a `simple_value`: what a live writer appends. `step` ≥ 1."""
    return _Templates([[tag]], Shape(), len(_varint(step))).fill(
        np.zeros(1, np.intp), np.array([step]), np.array([wall_time]), np.array([[value]], np.float32)
    )


def version_record(shape: Shape) -> bytes:
    """Return the record that begins a file."""
    text = b"brain.Event:2" if shape.format == "tensorboard" else b"MindSpore.Event:1"
    payload = b"\x09" + struct.pack("<d", FIRST_TIME) + _field(3, text)
    framed: bytes = _framed(np.frombuffer(payload, np.uint8)[None, :]).tobytes()
    return framed


def _file(shape: Shape, run: int) -> Iterator[bytes]:
    """Yield the bytes of a run's file in parts."""
    yield version_record(shape)
    steps = np.arange(1, shape.points + 1)
    times = (FIRST_TIME + run + steps * SECONDS_PER_STEP).astype(np.float64)
    numbers = values(shape, run)
    names = [tag_name(tag) for tag in range(shape.tags)]
    together = shape.format == "mindspore" and shape.interleaved  # SummaryRecord writes a step's values as one record
    parts = [
        (first, last, _Templates([names] if together else [[name] for name in names], shape, width))
        for first, last, width in _widths(shape.points)
    ]
    if shape.interleaved:
        for first, last, templates in parts:
            length = max(1, _CHUNK_BYTES // (templates.record_bytes * (1 if together else shape.tags)))
            for start in range(first, last, length):
                at = np.arange(start, min(last, start + length))
                if together:
                    yield templates.fill(np.zeros(len(at), np.intp), steps[at], times[at], numbers[at])
                else:
                    rows, tags = np.repeat(at, shape.tags), np.tile(np.arange(shape.tags), len(at))
                    yield templates.fill(tags, steps[rows], times[rows], numbers[at].reshape(-1, 1))
        return
    for tag in range(shape.tags):
        for first, last, templates in parts:
            length = max(1, _CHUNK_BYTES // templates.record_bytes)
            for start in range(first, last, length):
                at = np.arange(start, min(last, start + length))
                yield templates.fill(np.full(len(at), tag), steps[at], times[at], numbers[at, tag, None])


class _Templates:
    """Framed records of one length, a kind for each list of names, with zeros where time, step and values go."""

    def __init__(self, kinds: list[list[str]], shape: Shape, step_bytes: int) -> None:
        summaries = [b"".join(_value(name, shape) for name in names) for names in kinds]
        head = b"\x09" + bytes(8) + b"\x10" + bytes(step_bytes)  # wall_time = 1 (double), step = 2 (varint)
        at = len(head) + len(_field(5, summaries[0])) - len(summaries[0])
        holes: list[int] = []
        for name in kinds[0]:
            text = _value(name, shape)
            hole = at + len(text) - len(_after_value(shape)) - 4
            holes += range(hole, hole + 4)
            at += len(text)
        self.prepare([head + _field(5, text) for text in summaries], step_bytes, holes)

    def prepare(self, payloads: list[bytes], step_bytes: int, holes: list[int]) -> None:
        """Take over templates of one length; `holes` are where each byte of a value lies in them."""
        rows = np.array([np.frombuffer(payload, np.uint8) for payload in payloads])
        self.step_bytes = step_bytes
        self.framed = _framed(rows)
        self.record_bytes = self.framed.shape[1]
        self.holes = [*range(1, 9), *range(10, 10 + step_bytes), *holes]
        self.crcs = _crc(rows)
        self.tables = _positions(self.holes, rows.shape[1])

    def fill(
        self,
        kind: npt.NDArray[np.intp],
        steps: npt.NDArray[np.int64],
        times: npt.NDArray[np.float64],
        numbers: npt.NDArray[np.float32],
    ) -> bytes:
        """Return n framed records. `kind`, `steps`, `times`: shape (n,); `numbers`: shape (n, names of a kind)."""
        return self.put(kind, steps, times, np.ascontiguousarray(numbers, "<f4").view(np.uint8))

    def put(
        self, kind: npt.NDArray[np.intp], steps: npt.NDArray[np.int64], times: npt.NDArray[np.float64], content: _Bytes
    ) -> bytes:
        """Return n framed records with the bytes of `content`, shape (n, holes), in the holes of their values."""
        clocks = times.astype("<f8")[:, None].view(np.uint8)
        columns = np.concatenate([clocks, _varints(steps, self.step_bytes), content], axis=1)
        rows = self.framed[kind]
        crc = self.crcs[kind]
        for column, hole in enumerate(self.holes):
            rows[:, _HEADER_BYTES + hole] = columns[:, column]
            crc ^= self.tables[hole][columns[:, column]]
        rows[:, -4:] = _masked(crc)
        framed: bytes = rows.tobytes()
        return framed


def _value(name: str, shape: Shape) -> bytes:
    """Return one Summary.Value as a field of Summary, its float32 zero."""
    text = _field(1, name.encode())
    if shape.format == "mindspore":
        text += b"\x1d" + bytes(4)  # scalar_value = 3
    elif shape.tensor:
        text += _field(8, b"\x08\x01\x12\x00\x2a\x04" + bytes(4))  # tensor = 8: DT_FLOAT, rank 0, float_val
    else:
        text += b"\x15" + bytes(4)  # simple_value = 2
    return _field(1, text + _after_value(shape))


def _after_value(shape: Shape) -> bytes:
    """Return what follows the float32 in a value: the metadata = 9 of tensor style (plugin scalars, class scalar)."""
    return _field(9, _field(1, _field(1, b"scalars")) + b"\x20\x01") if shape.tensor else b""


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return `number` ≥ 0 in base 128, low groups first."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _varints(numbers: npt.NDArray[np.int64], width: int) -> _Bytes:
    """Return varints that all take `width` bytes, shape (n, width)."""
    groups = numbers[:, None] >> (7 * np.arange(width)) & 0x7F
    groups[:, :-1] |= 0x80
    return groups.astype(np.uint8)


def _widths(points: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first, last, width): the steps of points[first:last], from 1 on, take `width` bytes."""
    first = 0
    width = 1
    while first < points:
        last = min(points, (1 << 7 * width) - 1)
        yield first, last, width
        first, width = last, width + 1


def _framed(payloads: _Bytes) -> _Bytes:
    """Return records around payloads, shape (k, size) → (k, size + 16). Source: TFRecord, docs/formats."""
    kinds, size = payloads.shape
    length = np.frombuffer(struct.pack("<Q", size), np.uint8)[None, :]
    header = np.concatenate([length, _masked(_crc(length))], axis=1)
    return np.concatenate([np.repeat(header, kinds, axis=0), payloads, _masked(_crc(payloads))], axis=1)


def _masked(crc: _Crc) -> _Bytes:
    """Return checksums as files hold them: rotated and shifted, little-endian, shape (n,) → (n, 4)."""
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return (rotated + np.uint32(0xA282EAD8)).astype("<u4")[:, None].view(np.uint8)  # unsigned arrays wrap


def _crc(rows: _Bytes) -> _Crc:
    """Return CRC-32C of each row. Source: RFC 3720, appendix B.4."""
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = _TABLE[(crc ^ column) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return ~crc


def _positions(holes: list[int], size: int) -> dict[int, _Crc]:
    """Return for each hole what a byte there adds, by XOR, to the checksum of `size` bytes, shape (256,)."""
    tables: dict[int, _Crc] = {}
    wanted = set(holes)
    table = _TABLE
    for position in range(size - 1, -1, -1):
        if position in wanted:
            tables[position] = table
        table = _TABLE[table & np.uint32(0xFF)] ^ (table >> np.uint32(8))  # one more zero byte behind it
    return tables


def _byte_table() -> _Crc:
    """Return the checksum's table for single bytes, shape (256,): polynomial 0x1EDC6F41, reflected."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & np.uint32(1), np.uint32(0x82F63B78), np.uint32(0))
    return table


_TABLE = _byte_table()
