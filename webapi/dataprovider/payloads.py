"""Payloads of points as TensorBoard wants them: a TensorProto a point, or a sequence of blobs.

What the loader took apart is put together again: texts of a table, an image's size beside its bytes. A value that does
not fit the class of its series is none of the series' points, but it supersedes others as any point does.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indexer import text
from indexer.db.connection import Connection
from webapi.dataprovider import answers, mindspore, sampling
from webapi.dataprovider.answers import Ints
from webapi.dataprovider.errors import TooLarge
from webapi.dataprovider.sampling import Points
from webapi.dataprovider.series import LINEAGE, DataClass, Series

KEYS_AT_ONCE = 500
BYTES_AT_ONCE = 2**20
"""Read of one blob at once, where it lies in its file."""
MAX_ANSWER_BYTES = 256 * 2**20
"""TensorBoard's client takes no larger answer."""

_STRING = 7  # DataType
_DTYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": _STRING,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "qint8": 11,
    "quint8": 12,
    "qint32": 13,
    "bfloat16": 14,
    "qint16": 15,
    "quint16": 16,
    "uint16": 17,
    "complex128": 18,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
_TENSORS = frozenset({"histogram", "tensor", "pr_curve", "mesh", "layout", "text", "hparams", LINEAGE})
_BLOBS = frozenset({"image", "audio", "graph"})
_NOT_CONVERTED = "too long to be converted"  # begins the error of what is kept as the record that holds it
_MESSAGE = "message"  # metadata that differ from the series', or of a value without content
_HEADS = """b.tag_id, b.step, b.seq, b.ordinal, b.kind, b.encoding, b.width, b.height, b.dtype, b.shape, b.length,
    b.facts, b.error"""


class Head(NamedTuple):
    """A blob of the database without its bytes."""

    tag_id: int
    step: int
    seq: int
    ordinal: int
    kind: str
    encoding: str
    width: int | None
    height: int | None
    dtype: str | None
    shape: str | None
    length: int
    facts: str | None
    error: str | None

    @property
    def said(self) -> dict[str, Any]:
        """What is known of it beside the columns."""
        found: dict[str, Any] = json.loads(self.facts) if self.facts else {}
        return found

    @property
    def dims(self) -> list[int]:
        """The shape."""
        found: list[int] = json.loads(self.shape) if self.shape else []
        return found


PointKey = tuple[int, int, int]
"""tag_id, step, seq."""


@dataclass(frozen=True, slots=True)
class Valid:
    """The points of a series that TensorBoard sees, where all had to be looked at."""

    points: Points
    max_length: int  # of blob sequences

    def __len__(self) -> int:
        return len(self.points)

    @property
    def step(self) -> Ints:
        """Their steps."""
        return self.points.step

    @property
    def max_wall_time(self) -> float:
        """The latest clock that is known."""
        known = self.points.wall_time[~np.isnan(self.points.wall_time)]
        return float(known.max()) if len(known) else 0.0


def doubtful(series: Series, kinds: Mapping[str, tuple[int, int]]) -> bool:
    """Tell whether some points may be no values of the class of their series.

    kinds: of its payloads, how many of each and how many with an error.
    """
    if series.data_class is DataClass.SCALAR:
        return bool(kinds)
    own = {kind: errors for kind, (_, errors) in kinds.items() if kind != _MESSAGE}
    if series.numbers or len(own) > 1 or (_MESSAGE in kinds and series.data_class is not DataClass.TENSOR):
        return True
    if series.data_class is DataClass.TENSOR:
        return not own.keys() <= _TENSORS or any(own.values())
    if series.disturbed or not own.keys() <= _BLOBS:  # the longest of all points need not be one of those that count
        return True
    return mindspore.is_graph(series) and any(own.values())


def valid_points(conn: Connection, series: Series) -> Valid:
    """Return those points of a series that nothing supersedes and that are values of its class. Two statements."""
    points = sampling.every(conn, [series.id]).get(series.id, sampling.NO_POINTS)
    heads: dict[tuple[int, int], list[Head]] = {}
    for row in conn.execute(
        f"SELECT {_HEADS} FROM blobs b WHERE b.tag_id = ? ORDER BY b.step, b.seq, b.ordinal", (series.id,)
    ):
        head = Head(*row)
        heads.setdefault((head.step, head.seq), []).append(head)
    newest = sampling.valid(points.step, points.seq)
    longest = 0
    for i, key in enumerate(zip(points.step.tolist(), points.seq.tolist(), strict=True)):
        if not newest[i]:
            continue
        of_point = heads.get(key, [])
        newest[i] = _fits(series, of_point)
        if newest[i] and series.data_class is DataClass.BLOB_SEQUENCE:
            longest = max(longest, count(of_point))
    return Valid(points.at(newest), longest)


def _fits(series: Series, heads: Sequence[Head]) -> bool:
    """Tell whether a point is a value of the class of its series."""
    if series.data_class is DataClass.SCALAR:
        return not heads
    if not heads:  # a number, else a tensor of no strings
        return not series.numbers
    first = heads[0]
    if series.data_class is DataClass.TENSOR:
        if first.kind == _MESSAGE:  # metadata alone: the value is the null tensor
            return "metadata" in str(first.said.get("field"))
        wrong = first.error is not None and (first.kind == "histogram" or first.error.startswith(_NOT_CONVERTED))
        return first.kind in _TENSORS and not wrong
    if mindspore.is_graph(series):
        return first.error is None
    return first.kind in _BLOBS or (first.dtype == "string" and len(first.dims) == 1)


# Blob sequences -------------------------------------------------------------------------------------------------------
def count(heads: Sequence[Head]) -> int:
    """Return how many blobs a point is."""
    if heads and heads[0].kind == "image":
        return len(heads) + 2  # width and height come first
    if heads and heads[0].dtype == "string":
        return heads[0].dims[0]
    return len(heads)


def sizes(head: Head) -> tuple[bytes, bytes]:
    """Return the width and height that the writer of an image recorded, as TensorBoard has them: decimal text."""
    said = head.said
    width, height = said.get("recorded_width", head.width), said.get("recorded_height", head.height)
    return str(width or 0).encode(), str(height or 0).encode()


def heads(conn: Connection, keys: Sequence[PointKey]) -> dict[PointKey, list[Head]]:
    """Return the blobs of points, in order. A statement for KEYS_AT_ONCE points."""
    found: dict[PointKey, list[Head]] = {}
    for start in range(0, len(keys), KEYS_AT_ONCE):
        values = ", ".join(f"({tag}, {step}, {seq})" for tag, step, seq in keys[start : start + KEYS_AT_ONCE])
        query = (
            f"SELECT {_HEADS} FROM (VALUES {values}) v JOIN blobs b ON b.tag_id = v.column1 AND b.step = v.column2"
            " AND b.seq = v.column3 ORDER BY b.tag_id, b.step, b.seq, b.ordinal"
        )
        for row in conn.execute(query):
            head = Head(*row)
            found.setdefault(head[:3], []).append(head)
    return found


def keys_of(tag: int, points: Points) -> list[PointKey]:
    """Return the keys of points."""
    return [(tag, step, seq) for step, seq in zip(points.step.tolist(), points.seq.tolist(), strict=True)]


# Tensors --------------------------------------------------------------------------------------------------------------
def tensors(conn: Connection, wanted: Mapping[int, tuple[Series, Points]]) -> dict[int, list[bytes]]:
    """Return a TensorProto message a point, by series. TooLarge where nobody would take the answer."""
    keys = [key for tag, (_, points) in wanted.items() for key in keys_of(tag, points)]
    found = heads(conn, keys)
    size = sum(head.length for of_point in found.values() for head in of_point if head.kind != LINEAGE)
    if size > MAX_ANSWER_BYTES:
        raise TooLarge(f"the tensors asked for have {size:,} bytes, more than TensorBoard takes: ask for fewer points")
    data = _data(conn, [head for of_point in found.values() for head in of_point if head.kind != LINEAGE])
    return {
        tag: [_tensor(series, found.get(key, []), data) for key in keys_of(tag, points)]
        for tag, (series, points) in wanted.items()
    }


BlobKey = tuple[int, int, int, int]


def _data(conn: Connection, wanted: Sequence[Head]) -> dict[BlobKey, bytes]:
    """Return the bytes of blobs. A statement for KEYS_AT_ONCE of them, and one for each that lies in its file."""
    found: dict[BlobKey, bytes] = {}
    for start in range(0, len(wanted), KEYS_AT_ONCE):
        part = {head[:4]: head for head in wanted[start : start + KEYS_AT_ONCE]}
        values = ", ".join(f"({tag}, {step}, {seq}, {ordinal})" for tag, step, seq, ordinal in part)
        query = (
            f"SELECT b.tag_id, b.step, b.seq, b.ordinal, b.data FROM (VALUES {values}) v JOIN blobs b"
            " ON b.tag_id = v.column1 AND b.step = v.column2 AND b.seq = v.column3 AND b.ordinal = v.column4"
        )
        for *key, stored in conn.execute(query):
            head = part[tuple(key)]
            if stored is None:
                place = where(conn, head)
                found[head[:4]] = b"".join(place.read()) if place is not None and place.intact() else b""  # gone
            else:
                found[head[:4]] = unpacked(bytes(stored), head)
    return found


def unpacked(stored: bytes, head: Head) -> bytes:
    """Return the bytes of a blob as they were before they were packed."""
    return zlib.decompressobj().decompress(stored, max(head.length, 1)) if head.encoding == "zlib" else stored


def _tensor(series: Series, of_point: Sequence[Head], data: Mapping[BlobKey, bytes]) -> bytes:
    """Return a point as a TensorProto message."""
    of_point = [head for head in of_point if head.kind != _MESSAGE] or of_point
    if not of_point:  # a tensor of no strings has no payload
        return answers.tensor(_STRING, [0])
    first = of_point[0]
    match first.kind:
        case "text" | "layout":
            shape = first.dims if first.shape or len(of_point) == 1 else [len(of_point)]
            return answers.tensor(_STRING, shape, strings=[data[head[:4]] for head in of_point])
        case "hparams" | "message":  # all is said in the metadata; but some writers put a value beside them
            return _tensor(series, of_point[1:], data) if len(of_point) > 1 else answers.tensor(1, [0])
        case "lineage":
            rows = mindspore.table(first.said)
            return answers.tensor(_STRING, [len(rows), 2], strings=[cell for row in rows for cell in row])
        case "histogram" if first.said.get("columns") == "left,width,count" and data[first[:4]]:
            return answers.tensor(_DTYPES["float64"], first.dims, content=mindspore.edges(data[first[:4]]))
    content = data[first[:4]]
    if first.length and not content:  # its file is gone
        return answers.tensor(_DTYPES[first.dtype or "float32"], [0, *first.dims[1:]])
    if first.dtype is None:  # what could not be taken apart is stored as it was written
        return content
    if first.dtype == "string":
        from indexer.plugins import tensor  # the kinds cost every start 50 ms

        return answers.tensor(_STRING, first.dims, strings=tensor.strings(content))
    return _numbers(series, first, content)


def _numbers(series: Series, head: Head, content: bytes) -> bytes:
    from indexer.plugins import tensor

    said, dtype = head.said, head.dtype or ""
    declared = said.get("declared", "") if series.source == series.plugin else ""  # MindSpore stores another type
    given = said.get("elements")
    if given is not None:  # as TensorFlow abbreviates: the last element stands for the rest
        size, total = tensor.SIZES[dtype], math.prod(head.dims)
        if total * size > MAX_ANSWER_BYTES:
            raise TooLarge(f"a tensor of shape {head.dims} is larger than TensorBoard takes")
        content += (content[-size:] if given else bytes(size)) * (total - given)
    return answers.tensor(_DTYPES.get(declared, _DTYPES[dtype]), head.dims, content=content)


# Bytes ----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes lie that are too many for the database."""

    path: Path
    offset: int
    length: int
    digest: bytes  # SHA-256

    def intact(self) -> bool:
        """Tell whether the file still has them."""
        found = sha256()
        try:
            for block in self.read():
                found.update(block)
        except OSError:
            return False
        return found.digest() == self.digest

    def read(self) -> Iterator[bytes]:
        """Yield the bytes; fewer where the file ends before them."""
        left = self.length
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while left and (block := file.read(min(left, BYTES_AT_ONCE))):
                left -= len(block)
                yield block


def where(conn: Connection, head: Head) -> Place | None:
    """Return where the bytes of a blob lie that is only referred to. One statement."""
    row = conn.execute(
        'SELECT r.path, j.train_id, s.name, b."offset", b.length, b.digest FROM blobs b'
        " JOIN shards s ON s.id = b.shard_id JOIN jobs j ON j.id = s.job_id JOIN roots r ON r.id = j.root_id"
        " WHERE b.tag_id = ? AND b.step = ? AND b.seq = ? AND b.ordinal = ?",
        head[:4],
    ).fetchone()
    if row is None:
        return None
    root, train_id, name = (text.show(part) for part in row[:3])
    return Place(Path(root, train_id, name), row[3], row[4], bytes(row[5]))


def stored(conn: Connection, head: Head) -> bytes | Place | None:
    """Return the bytes of a blob, or where they lie; None where there is no such blob any more."""
    row = conn.execute(
        "SELECT data FROM blobs WHERE tag_id = ? AND step = ? AND seq = ? AND ordinal = ?", head[:4]
    ).fetchone()
    if row is None:
        return None
    return where(conn, head) if row[0] is None else unpacked(bytes(row[0]), head)


def string(conn: Connection, head: Head, index: int) -> bytes | None:
    """Return one string of a stored tensor of strings; None where it is not there any more."""
    from indexer.plugins import tensor

    whole = stored(conn, head)
    if isinstance(whole, Place):
        whole = b"".join(whole.read()) if whole.intact() else None
    return None if whole is None else tensor.strings(whole)[index]
