"""Histograms: all of a tag over the same buckets. The arithmetic is MindInsight's, to the last bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from indexer.plugins import histogram
from webapi import blobs
from webapi.mindinsight import catalogue, current, errors
from webapi.mindinsight.answers import number
from webapi.mindinsight.context import Context
from webapi.mindinsight.kept import content
from webapi.mindinsight.parameters import Query

MOST_HISTOGRAMS = 500
"""Of a tag: ten times what MindInsight keeps; of more there are some, evenly."""
MOST_BUCKETS = 90
"""MindInsight takes no histogram of MindSpore with more."""
_ROW = struct.Struct("<3d")

Bucket = tuple[float, float, float]
"""Left edge, width, count."""


class Histogram(NamedTuple):
    """A histogram as it was written."""

    buckets: Sequence[Bucket]  # by left edge
    low: float
    high: float
    total: float  # of all buckets


def histograms(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show the histograms of a tag."""
    train_id, tag = query.required("train_id"), query.required("tag")
    job = catalogue.loaded_job(conn, catalogue.root(conn), train_id)
    row = catalogue.named(conn, [job.id], [tag]).get((job.id, tag))
    if row is None or row.shown_by != "histogram":
        raise errors.no_histogram()
    where = "b.error IS NULL"
    if row.plugin == "histogram":
        where += f" AND coalesce(s.buckets, 0) <= {MOST_BUCKETS}"
    rows = current.payloads(conn, row, histogram.KIND, most=MOST_HISTOGRAMS, where=where)
    data = blobs.data(conn, [one for one in rows if one.encoding != "ref"])
    found = [_read(one, data.get(one.key) or content(conn, one)) for one in rows]
    shown = [
        {"wall_time": number(one.wall_time), "step": one.key[1], "buckets": buckets}
        for one, buckets in zip(rows, rebinned(found), strict=True)
    ]
    return {"train_id": train_id, "tag": tag, "histograms": shown}


def _read(row: blobs.BlobRow, data: bytes) -> Histogram:
    rows: list[Bucket] = list(_ROW.iter_unpack(data))
    if row.stored.facts.get("columns") != histogram.WIDTHS:
        rows = [(left, right - left, count) for left, right, count in rows]
    low, high = (_plain(row.stored.row.get(name)) for name in ("min", "max"))
    return Histogram(sorted(rows, key=lambda bucket: bucket[0]), low, high, sum(count for _, _, count in rows))


def _plain(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


# Arithmetic -----------------------------------------------------------------------------------------------------------
def bins(count: float) -> int:
    """Return into how many buckets so many values go."""
    if count == 0:
        return 1
    if count <= 5:
        return 2
    if count <= 10:
        return 3
    return math.ceil(count / 10) + 1 if count <= 280 else 30


def rebinned(found: Sequence[Histogram]) -> list[list[list[float]]]:
    """Return all histograms over the same buckets, [left, width, count] each."""
    full = [one for one in found if one.total != 0]
    high, low = max((one.high for one in full), default=0.0), min((one.low for one in full), default=0.0)
    parts = bins(max((one.total for one in full), default=0.0))
    if high == low:
        high += 0.5
        low -= 0.5
    width = (high - low) / parts
    lefts = [low + width * i for i in range(parts)]
    return [
        [[left, width, count] for left, count in zip(lefts, _counts(one, lefts, width), strict=True)] for one in found
    ]


def _counts(one: Histogram, lefts: Sequence[float], width: float) -> list[int]:
    """Return how many values are in each bucket: those of an old one spread evenly over it, rounded up."""
    if one.total == 0:
        return [0] * len(lefts)
    counts, place, old = [], 0, one.buckets[0]
    for left in lefts:
        right, estimate = left + width, 0.0
        if right <= old[0]:
            counts.append(0)
            continue
        while left >= old[0] + old[1]:
            place += 1
            if place >= len(one.buckets):
                break
            old = one.buckets[place]
        while place < len(one.buckets):
            old = one.buckets[place]
            end = old[0] + old[1]
            if old[1] == 0:
                estimate += old[2]
            else:
                estimate += _shared(left, right, old[0], end) / old[1] * old[2]
            if right <= end:
                break
            place += 1
        counts.append(math.ceil(estimate) if math.isfinite(estimate) else 0)
    return counts


def _shared(low: float, high: float, other_low: float, other_high: float) -> float:
    """Return the length that two ranges have in common."""
    if low <= other_low:
        if high <= other_low:
            return 0.0
        return high - other_low if high <= other_high else other_high - other_low
    if other_high <= low:
        return 0.0
    return other_high - low if other_high <= high else high - low
