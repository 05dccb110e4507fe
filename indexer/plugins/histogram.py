"""Histograms: k rows of (left, right, count) or (left, width, count) as 64-bit floats, and their statistics in SQL.

MindSpore writes widths, TensorBoard right edges; neither is turned into the other, for that would round. Counts are
whole numbers in both, and as floats exact up to 2^53.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from indexer.payload import Array, Buckets, Example, Kind, Option, Options, Stored, Table, shown
from indexer.types import Blob, Histograms

MAX_BINS = 1_000
_ROW = struct.Struct("<3d")
BUCKET_BYTES = _ROW.size
_EDGES, WIDTHS = "left,right,count", "left,width,count"
_COLUMNS = (
    "buckets",
    "count",
    "min",
    "max",
    "sum",
    "sum_squares",
    "mean",
    "stddev",
    "nan_count",
    "pos_inf_count",
    "neg_inf_count",
)
Bucket = tuple[float, float, float]
"""Left edge, right edge, count."""


def decode(value: Buckets | Array) -> list[Blob] | None:
    """Return the histogram. ValueError where the bytes of a tensor are not of its shape."""
    if isinstance(value, Array):
        if value.dtype != "float64" or len(value.shape) != 2 or value.shape[1] != 3:
            return None  # no histogram of TensorBoard's newer kind
        if len(value.data) != value.shape[0] * _ROW.size:
            raise ValueError(f"{len(value.data)} bytes for {value.shape[0]} buckets of {_ROW.size}")
        value = Buckets(value.data, widths=False)
    facts: dict[str, Any] = {"columns": WIDTHS if value.widths else _EDGES}
    k = len(value.rows) // _ROW.size
    if value.last_limit is not None and value.last_limit != value.max:
        facts["last_limit"] = _plain(value.last_limit)
    row = _statistics(value, k)
    if value.widths and value.count is not None and value.count != sum(x or 0 for x in (row[1], *row[-3:])):
        facts["recorded_count"] = value.count
    return [
        Blob(
            "histogram",
            value.rows,
            dtype="float64",
            shape=(k, 3),
            facts=facts,
            rows={"histogram_stats": [row]},
        )
    ]


def buckets(data: bytes, columns: str) -> list[Bucket]:
    """Return what a payload holds, right edges in place of widths."""
    rows = _ROW.iter_unpack(data)
    return [(a, a + b, n) for a, b, n in rows] if columns == WIDTHS else list(rows)


def _statistics(value: Buckets, k: int) -> tuple[Any, ...]:
    """Return the values of _COLUMNS: the writer's where it gives them, else from the buckets.

    MindSpore's count has the non-finite values in it, so there the buckets are counted.
    """
    given = None if value.widths else value.count
    count, total, squares = given, value.sum, value.sum_squares
    low, high, mean, stddev = value.min, value.max, None, None
    if given is None or squares is None or total is None:
        own = _sums(buckets(value.rows, WIDTHS if value.widths else _EDGES))
        count = own[0] if given is None else given
        low, high = (own[3] if low is None else low), (own[4] if high is None else high)
        total = own[1] if total is None else total
        if own[0] > 0:
            stddev = _spread(*own[:3])
    elif given > 0:
        stddev = _spread(given, total, squares)
    if count:
        mean = total / count
    else:
        low = high = None
    numbers = (count, low, high, value.sum, value.sum_squares, mean, stddev)
    return (k, *map(_known, numbers), value.nan_count, value.pos_inf_count, value.neg_inf_count)


def _sums(found: Sequence[Bucket]) -> tuple[float, float, float, float, float]:
    """Return count, sum and sum of squares, as if all values lay in the middle of their buckets, and the range."""
    count = total = squares = 0.0
    left, right = math.inf, -math.inf
    for a, b, n in found:
        if n > 0:
            middle = (a + b) / 2
            left, right = min(left, a), max(right, b)
            count, total, squares = count + n, total + n * middle, squares + n * middle * middle
    return count, total, squares, left, right


def _spread(count: float, total: float, squares: float) -> float:
    """Return the standard deviation; NaN where floats do not hold it."""
    variance = squares / count - (total / count) * (total / count)
    return variance if math.isnan(variance) else math.sqrt(max(variance, 0.0))  # rounding may make it negative


def _known(x: float | None) -> float | None:
    return None if x is None or math.isnan(x) else float(x)


def _plain(x: float) -> float | str:
    """Return a number as strict JSON holds it."""
    return x if math.isfinite(x) else str(x)


# Many at once: what the compiled path read ----------------------------------------------------------------------------
def data_of(found: Histograms) -> list[bytes]:
    """Return the payload of each."""
    starts = (found.first * 8).tolist()
    ends = (found.first * 8 + found.buckets * BUCKET_BYTES).tolist()
    if not starts:
        return []
    whole = found.numbers[starts[0] // 8 : ends[-1] // 8].tobytes()
    return [whole[start - starts[0] : end - starts[0]] for start, end in zip(starts, ends, strict=True)]


def facts_of(found: Histograms) -> list[str]:
    """Return what is stored as `facts` of each, as JSON."""
    plain = {True: json.dumps({"columns": WIDTHS}), False: json.dumps({"columns": _EDGES})}
    limits = dict[float, str]()  # writers use the same limits again and again
    facts = []
    for widths, limit in zip(found.widths.tolist(), found.last_limit.tolist(), strict=True):
        if limit != limit:  # it is the maximum
            facts.append(plain[widths])
        else:
            if limit not in limits:
                limits[limit] = json.dumps({"columns": _EDGES, "last_limit": limit})
            facts.append(limits[limit])
    return facts


def table_of(buckets: Any, statistics: Any, outside: Any, counted: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns of the table, and which of them are NULL where, as columns of `Histograms`; NaN is NULL too.

    A column that is NULL throughout is left out.
    """
    table = {"buckets": buckets.astype("i4")} | dict(zip(_COLUMNS[1:8], statistics.T, strict=True))
    nulls = {}
    for name, count, known in zip(_COLUMNS[8:], outside.T, counted.T, strict=True):
        if known.any():
            table[name] = count
            if not known.all():
                nulls[name] = ~known
    return table, nulls


def rows_of(found: Histograms) -> list[tuple[Any, ...]]:
    """Return the values of _COLUMNS of each."""
    outside = [
        [count if known else None for count, known in zip(*row, strict=True)]
        for row in zip(found.outside.tolist(), found.counted.tolist(), strict=True)
    ]
    statistics = found.statistics.tolist()
    return [
        (k, *map(_known, numbers), *counts)
        for k, numbers, counts in zip(found.buckets.tolist(), statistics, outside, strict=True)
    ]


def blobs_of(found: Histograms) -> list[Blob]:
    """Return the blobs that `decode` makes of the same values, with the numbers of their points."""
    return [
        Blob(
            "histogram",
            data,
            dtype="float64",
            shape=(row[0], 3),
            facts=json.loads(facts),
            rows={"histogram_stats": [row]},
            point=point,
            length=len(data),
            digest=hashlib.sha256(data).digest(),
        )
        for data, facts, row, point in zip(
            data_of(found), facts_of(found), rows_of(found), found.point.tolist(), strict=True
        )
    ]


# Showing --------------------------------------------------------------------------------------------------------------
def rebin(found: Sequence[Bucket], bins: int) -> list[Bucket]:
    """Return `found` in `bins` equal bins from the lowest edge to the highest; a bucket spreads evenly over its width.

    The sum of the counts stays. A bucket without width, or with an edge that is not finite, counts where its finite
    edge is. Empty ones do not widen the range.
    """
    full = [bucket for bucket in map(_finite, found) if bucket is not None]
    if not full:
        return []
    low, high = min(a for a, _, _ in full), max(b for _, b, _ in full)
    if low == high:
        low, high = low - 0.5, high + 0.5
    if high - low == math.inf or low == high:  # floats have no room for bins
        return [(low, high, math.fsum(n for _, _, n in full))]
    edges = [low + (high - low) * (i / bins) for i in range(bins)] + [high]
    counts = [0.0] * bins
    for a, b, n in full:
        for i, share in _shares(a, b, edges, bins):
            counts[i] += n * share
    return list(zip(edges[:-1], edges[1:], counts, strict=True))


def _finite(bucket: Bucket) -> Bucket | None:
    a, b, n = bucket
    if not math.isfinite(a):
        a = b
    if not math.isfinite(b) or b < a:
        b = a
    return (a, b, n) if math.isfinite(a) and 0 < n < math.inf else None


def _shares(a: float, b: float, edges: Sequence[float], bins: int) -> Iterator[tuple[int, float]]:
    """Yield which bins a bucket covers, and how much of it lies in each; the shares add up to one."""
    first = _bin(a, edges, bins)
    last = _bin(b, edges, bins)
    if first == last or a == b:
        yield first, 1.0
        return
    left = 1.0
    for i in range(first, last):
        share = min(left, max(0.0, (min(b, edges[i + 1]) - max(a, edges[i])) / (b - a)))
        left -= share
        yield i, share
    yield last, left


def _bin(x: float, edges: Sequence[float], bins: int) -> int:
    place = int((x - edges[0]) / (edges[-1] - edges[0]) * bins)
    return min(max(place, 0), bins - 1)


def describe(stored: Stored) -> dict[str, object]:
    """Return the columns of the payload."""
    return shown(**stored.facts)


def render(stored: Stored, options: Options) -> dict[str, object]:
    """Return the buckets, or `bins` others, and the statistics."""
    found = None
    if stored.data is not None and stored.error is None:
        found = buckets(stored.data, stored.facts["columns"])
        bins = options.get("bins")
        if isinstance(bins, int):
            found = rebin(found, bins)
    return {"buckets": found, "statistics": dict(stored.row)}


def weigh(length: int, options: Options) -> int:
    """Return the bytes of an item."""
    bins = options.get("bins")
    return max(length, bins * _ROW.size if isinstance(bins, int) else 0, 1)


_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}, {"type": "null"}]}
_EXAMPLE = Buckets(
    struct.pack("<6d", 0.0, 1.0, 3.0, 1.0, 1.0, 1.0), widths=True, count=5, min=0.0, max=2.0, sum=3.0, nan_count=1
)
_STATISTICS = {
    "buckets": 2,
    "count": 4.0,
    "min": 0.0,
    "max": 2.0,
    "sum": 3.0,
    "sum_squares": None,
    "mean": 0.75,
    "stddev": math.sqrt(0.1875),
    "nan_count": 1,
    "pos_inf_count": None,
    "neg_inf_count": None,
}

KIND = Kind(
    name="histogram",
    path="/histograms",
    title="Histograms",
    about="Histograms as buckets of (left, right, count), or in `bins` equal bins, with their statistics. `url` gives"
    " 64-bit little-endian floats in rows of three, whose columns `metadata` names.",
    takes={Buckets: None, Array: frozenset({"histograms"})},
    decode=decode,
    metadata={
        "columns": {"type": "string", "description": "Of the payload: left,right,count or left,width,count."},
        "recorded_count": {"type": "number", "description": "What the record says, where the buckets say otherwise."},
        "last_limit": {"description": "Right edge of the last bucket as written; the payload has the maximum there."},
    },
    describe=describe,
    fields={
        "buckets": {
            "type": ["array", "null"],
            "items": {"type": "array", "items": _NUMBER},
            "description": "Left edge, right edge, count of each; null where the answer would be too large.",
        },
        "statistics": {
            "type": "object",
            "description": "Row of histogram_stats: the writer's numbers where it gives them, else from the buckets.",
        },
    },
    render=render,
    weigh=weigh,
    options=(Option("bins", "Into so many equal bins. Absent: as written.", 1, MAX_BINS),),
    tables=(Table("histogram_stats", _COLUMNS),),
    examples=(
        Example(
            _EXAMPLE,
            "histogram",
            {
                "metadata": {"columns": WIDTHS},
                "buckets": [(0.0, 1.0, 3.0), (1.0, 2.0, 1.0)],
                "statistics": _STATISTICS,
            },
        ),
        Example(
            _EXAMPLE,
            "histogram",
            {"metadata": {"columns": WIDTHS}, "buckets": [(0.0, 2.0, 4.0)], "statistics": _STATISTICS},
            {"bins": 1},
        ),
    ),
)
