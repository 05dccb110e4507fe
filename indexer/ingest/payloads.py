"""Payloads of a batch → rows: each gets the number its point got, and goes into the points' transaction."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from indexer.db import bulk
from indexer.db.connection import Connection
from indexer.ingest.logdir import load_order
from indexer.ingest.sequence import TagState
from indexer.types import Blob, Decoded, Histograms, Rows

if TYPE_CHECKING:  # the kinds cost every start 50 ms: they are imported when there is a payload
    from indexer.db import facts

BATCH_BYTES = 16 * 2**20
"""Payloads of this size end a batch, so that memory is bounded whatever they are."""
_OVERHEAD_BYTES = 500  # of a payload in memory, beside its data

FIRST_BYTES = 4 * 2**20
"""Read of files before it is known how much payloads take in memory."""
_LEAST_BYTES = 2**16

_point = attrgetter("point")
Piece = tuple[Decoded, int, int]


def size(decoded: Decoded, first: int, last: int) -> int:
    """Return the bytes in memory that the payloads of points first to last take."""
    taken = sum(_taken(blob) for blob in _between(decoded, first, last))
    if decoded.histograms is not None:
        from indexer.plugins import histogram

        found = decoded.histograms.between(first, last)
        taken += int(found.buckets.sum()) * histogram.BUCKET_BYTES + len(found) * _OVERHEAD_BYTES
    return taken


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
    histograms: Sequence[list[Any]] = ()  # columns for blobs.add_histograms
    more: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)  # of kinds' own tables
    tables: list[bulk.Packed] = field(default_factory=list)  # likewise, many rows
    counts: list[tuple[Any, ...]] = field(default_factory=list)
    said: list[facts.Said] = field(default_factory=list)  # of their jobs, in load order


def pack(
    dialect: str, pieces: Sequence[Piece], rows: Rows, tags: Sequence[TagState], shards: Sequence[tuple[int, int]]
) -> Packed | None:
    """Return the payloads of a batch for `store`, None where it has none.

    rows: its points, numbered and sorted.  tags: those of its points.  shards: id and number of points, in load order.
    """
    found, many = list(_of(pieces)), _histograms(pieces)
    index = np.concatenate([np.array([at for at, _ in found], np.int64), *(points for points, _ in many)])
    if not len(index):
        return None
    series = np.concatenate([decoded.series[first:last] for decoded, first, last in pieces])
    steps = np.concatenate([decoded.step[first:last] for decoded, first, last in pieces])
    tag_ids = {tag.number: tag.id for tag in tags}
    own = np.unique(series[index])
    at = np.flatnonzero(np.isin(series, own))
    ids = np.zeros(int(own[-1]) + 1, np.int64)
    ids[own] = [tag_ids[number] for number in own.tolist()]
    numbers = sequence(ids[series[at]], steps[at], rows, ids[own])
    keys = _Keys(ids[series[index]], steps[index], numbers[np.searchsorted(at, index)])
    packed = Packed()
    counts = _pack_blobs(packed, keys.part(0, len(found)), found, shards, pieces)
    if many:
        _pack_histograms(packed, dialect, keys.part(len(found), len(index)), [columns for _, columns in many], counts)
    packed.counts = [(*key, *count) for key, count in sorted(counts.items())]
    return packed


@dataclass(slots=True)
class _Keys:
    """Keys of points, shape (n,)."""

    tag_id: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int32]

    def part(self, start: int, stop: int) -> _Keys:
        return _Keys(self.tag_id[start:stop], self.step[start:stop], self.seq[start:stop])

    def lists(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.tag_id.tolist(), self.step.tolist(), self.seq.tolist(), strict=True)


_Counts = dict[tuple[int, str], list[int]]
"""By tag and kind: payloads, errors, bytes."""


def _pack_blobs(
    packed: Packed,
    keys: _Keys,
    found: Sequence[tuple[int, Blob]],
    shards: Sequence[tuple[int, int]],
    pieces: Sequence[Piece],
) -> _Counts:
    from indexer.db import facts

    ends = np.cumsum([points for _, points in shards])
    shard_of = np.searchsorted(ends, [index for index, _ in found], side="right").tolist()
    counts: _Counts = {}
    for (index, blob), key, shard in zip(found, keys.lists(), shard_of, strict=True):
        packed.blobs.append(_row(key, blob, shards[shard][0]))
        if blob.says and isinstance(blob.facts, str):
            packed.said.append(facts.Said(blob.kind, shards[shard][0], blob.at, _clock(pieces, index), blob.facts))
        for table, table_rows in (blob.rows or {}).items():
            packed.more.setdefault(table, []).extend((*key, *row) for row in table_rows)
        count = counts.setdefault((key[0], blob.kind), [0, 0, 0])
        count[0] += 1
        count[1] += blob.error is not None
        count[2] += blob.length
    return counts


def _histograms(pieces: Sequence[Piece]) -> list[tuple[npt.NDArray[np.int64], Histograms]]:
    """Return the histograms of each piece that has any, with the indices of their points in the batch."""
    start, many = 0, []
    for decoded, first, last in pieces:
        found = None if decoded.histograms is None else decoded.histograms.between(first, last)
        if found is not None and len(found):
            many.append((found.point + (start - first), found))
        start += last - first
    return many


def _pack_histograms(packed: Packed, dialect: str, keys: _Keys, many: Sequence[Histograms], counts: _Counts) -> None:
    """Pack histograms that came as columns, sorted by their keys: the tables' indexes grow at their ends."""
    from indexer.plugins import histogram

    order = np.lexsort((keys.seq, keys.step, keys.tag_id))
    keys = _Keys(keys.tag_id[order], keys.step[order], keys.seq[order])
    unordered = [payload for found in many for payload in histogram.data_of(found)]
    said = [text for found in many for text in histogram.facts_of(found)]
    at = order.tolist()
    data = [unordered[i] for i in at]  # no view: the garbage collector need not look at bytes
    packed.histograms = (
        keys.tag_id.tolist(),
        keys.step.tolist(),
        keys.seq.tolist(),
        [_json((len(payload) // histogram.BUCKET_BYTES, 3)) for payload in data],
        [len(payload) for payload in data],
        [sha256(payload).digest() for payload in data],
        [said[i] for i in at],
        data,
    )
    columns = {name: np.concatenate([getattr(found, name) for found in many])[order] for name in _OF_TABLE}
    buckets = columns["buckets"]
    for widths in (False, True):  # each format counts other things
        chosen = columns["widths"] == widths
        if chosen.any():
            table, nulls = histogram.table_of(*(columns[name][chosen] for name in _OF_TABLE[1:]))
            key_columns = {
                "tag_id": keys.tag_id[chosen].astype(np.int32),
                "step": keys.step[chosen],
                "seq": keys.seq[chosen],
            }
            packed.tables.append(bulk.pack(dialect, "histogram_stats", key_columns | table, nulls))
    tag_ids, of, number = np.unique(keys.tag_id, return_inverse=True, return_counts=True)
    for tag, count, total in zip(tag_ids.tolist(), number.tolist(), np.bincount(of, buckets).tolist(), strict=True):
        sums = counts.setdefault((tag, "histogram"), [0, 0, 0])
        sums[0] += count
        sums[2] += int(total) * histogram.BUCKET_BYTES


_OF_TABLE = ("widths", "buckets", "statistics", "outside", "counted")


def _clock(pieces: Sequence[Piece], index: int) -> float | None:
    """Return the wall_time of a point of a batch; None for NaN."""
    for decoded, first, last in pieces:
        if index < last - first:
            found = float(decoded.wall_time[first + index])
            return None if np.isnan(found) else found
        index -= last - first
    raise IndexError(index)


def store(conn: Connection, packed: Packed) -> None:
    """Write payloads, in the transaction of their points; `tables` are inserted as these are."""
    from indexer.db import blobs, facts

    blobs.add(conn, packed.blobs)
    blobs.add_histograms(conn, packed.histograms)
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
