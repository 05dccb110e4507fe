"""Payloads of a batch → rows: each gets the number its point got, and goes into the points' transaction."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.db import blobs, facts
from indexer.db.connection import Connection
from indexer.ingest.logdir import load_order
from indexer.ingest.sequence import TagState
from indexer.types import Blob, Decoded, Rows

BATCH_BYTES = 16 * 2**20
"""Payloads of this size end a batch, so that memory is bounded whatever they are."""
_OVERHEAD_BYTES = 500  # of a payload in memory, beside its data

FIRST_BYTES = 2**20
"""Read of files before it is known how much payloads take in memory."""
_LEAST_BYTES = 2**16

_point = attrgetter("point")
Piece = tuple[Decoded, int, int]


def size(decoded: Decoded, first: int, last: int) -> int:
    """Return the bytes in memory that the payloads of points first to last take."""
    return sum(_taken(blob) for blob in _between(decoded, first, last))


def _taken(blob: Blob) -> int:
    said = len(blob.facts) if isinstance(blob.facts, str) else 0
    return len(blob.data or b"") + blob.row_bytes + said + _OVERHEAD_BYTES


def reach(decoded: Decoded, read: int, most: int) -> int:
    """Return how many bytes to read at once after `read` bytes gave `decoded`: in memory small payloads are larger."""
    taken = size(decoded, 0, len(decoded.step))
    return most if taken <= read else max(_LEAST_BYTES, min(most, read * BATCH_BYTES // taken))


def _between(decoded: Decoded, first: int, last: int) -> Sequence[Blob]:
    found = decoded.payloads
    if not found:
        return found
    return found[bisect_left(found, first, key=_point) : bisect_left(found, last, key=_point)]


def _of(pieces: Sequence[Piece]) -> Iterator[tuple[int, Blob]]:
    """Yield the payloads of a batch, each with the index of its point in the batch."""
    start = 0
    for decoded, first, last in pieces:
        for blob in _between(decoded, first, last):
            yield start + blob.point - first, blob
        start += last - first


def sequence(
    tag: npt.NDArray[np.int64], step: npt.NDArray[np.int64], rows: Rows, ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int32]:
    """Return the seq of each point of the tags `ids`, in load order.

    tag, step: of these points, in load order.  rows: of the whole batch, numbered and sorted by (tag_id, step, seq).
    Points of one tag and step have ascending seq in load order, for an equal step is one that failed to increase. So
    sorting by (tag, step), equal ones as they are, gives the order of the rows.
    """
    out = np.empty(len(tag), np.int32)
    out[np.lexsort((step, tag))] = rows.seq[np.isin(rows.tag_id, ids)]
    return out


@dataclass(slots=True)
class Packed:
    """Payloads of a batch as rows."""

    blobs: list[tuple[Any, ...]] = field(default_factory=list)
    more: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)  # of kinds' own tables
    counts: list[tuple[Any, ...]] = field(default_factory=list)
    said: list[facts.Said] = field(default_factory=list)  # of their jobs, in load order


def pack(
    pieces: Sequence[Piece], rows: Rows, tags: Sequence[TagState], shards: Sequence[tuple[int, int]]
) -> Packed | None:
    """Return the payloads of a batch for `store`, None where it has none.

    rows: its points, numbered and sorted.  tags: those of its points.  shards: id and number of points, in load order.
    """
    found = list(_of(pieces))
    if not found:
        return None
    series = np.concatenate([decoded.series[first:last] for decoded, first, last in pieces])
    steps = np.concatenate([decoded.step[first:last] for decoded, first, last in pieces])
    tag_ids = {tag.number: tag.id for tag in tags}
    own = np.unique(series[[index for index, _ in found]])
    at = np.flatnonzero(np.isin(series, own))
    ids = np.zeros(int(own[-1]) + 1, np.int64)
    ids[own] = [tag_ids[number] for number in own.tolist()]
    numbers = sequence(ids[series[at]], steps[at], rows, ids[own])
    places = np.searchsorted(at, [index for index, _ in found])
    ends = np.cumsum([points for _, points in shards])
    shard_of = np.searchsorted(ends, [index for index, _ in found], side="right").tolist()
    packed = Packed()
    counts: dict[tuple[int, str], list[int]] = {}
    for (index, blob), place, shard in zip(found, places.tolist(), shard_of, strict=True):
        key = (int(ids[series[index]]), int(steps[index]), int(numbers[place]))
        packed.blobs.append(_row(key, blob, shards[shard][0]))
        if blob.says and isinstance(blob.facts, str):
            packed.said.append(facts.Said(blob.kind, shards[shard][0], blob.at, _clock(pieces, index), blob.facts))
        for table, table_rows in (blob.rows or {}).items():
            packed.more.setdefault(table, []).extend((*key, *row) for row in table_rows)
        count = counts.setdefault((key[0], blob.kind), [0, 0, 0])
        count[0] += 1
        count[1] += blob.error is not None
        count[2] += blob.length
    packed.counts = [(*key, *count) for key, count in sorted(counts.items())]
    return packed


def _clock(pieces: Sequence[Piece], index: int) -> float | None:
    """Return the wall_time of a point of a batch; None for NaN."""
    for decoded, first, last in pieces:
        if index < last - first:
            found = float(decoded.wall_time[first + index])
            return None if np.isnan(found) else found
        index -= last - first
    raise IndexError(index)


def store(conn: Connection, packed: Packed) -> None:
    """Write payloads, in the transaction of their points."""
    blobs.add(conn, packed.blobs)
    for table, rows in packed.more.items():
        blobs.add_rows(conn, table, rows)
    blobs.count(conn, packed.counts)
    if packed.said:
        facts.fold(conn, packed.said, load_order)


_json = lru_cache(maxsize=1_000)(json.dumps)  # of shapes: most are alike


def _row(key: tuple[int, int, int], blob: Blob, shard: int) -> tuple[Any, ...]:
    """Return the values of blobs.COLUMNS."""
    return (
        *key,
        blob.ordinal,
        blob.kind,
        blob.encoding,
        blob.content_type,
        blob.width,
        blob.height,
        blob.colorspace,
        blob.dtype,
        None if blob.shape is None else _json(blob.shape),
        blob.length,
        blob.digest,
        json.dumps(blob.facts) if isinstance(blob.facts, dict) else blob.facts,
        blob.error,
        None if blob.offset is None else shard,
        blob.offset,
        blob.data,
    )
