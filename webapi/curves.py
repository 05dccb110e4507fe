"""A chart of a series: at most `max_points` of its stored points, at about the same cost whatever its length.

A long series is read from its rollups (docs/decisions/0004-rollups.md): buckets of 64 * 8**level current points, and
raw rows only where a range cuts a bucket and behind the last one. What was read goes into groups of about as many
points each; the smallest and the largest finite value of a group stay, and the first and last point of the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, TextClause, text

from indexer.types import RestartCause
from webapi.queries import tuples

BUCKET = 64  # points of a bucket of level 0, and
FAN = 8  # buckets in one of the next level: as indexer.db.rollups writes them
BUCKET_POINTS = 4  # asked for, for which there is one bucket at least (it gives two): a chart reads few rows more
RAW_FACTOR = 8  # a range of up to so many times `max_points` is thinned from rows; buckets would leave too few points
PAGE_POINTS = 20_000  # rows in memory at once

Point = tuple[int, int, float | None, float | None]
"""step, seq, wall_time, value: a row of the database."""
Place = tuple[int, int] | None
"""step, seq: a place in a series."""

_SUPERSEDES = f"cause IN ('{RestartCause.NEW_FILE}', '{RestartCause.SESSION_START}')"
_POINT = "p.step, p.seq, p.wall_time, p.value"
_ENDS = "first_step, first_seq, first_wall_time, first_value, last_step, last_seq, last_wall_time, last_value"
# A bucket as its lowest and highest point. Where no value is finite its first point stands for it, value at the end.
_BUCKET_COLUMNS = """
    coalesce(min_step, first_step), coalesce(min_seq, first_seq),
    CASE WHEN min_step IS NULL THEN first_wall_time ELSE min_wall_time END, min_value,
    max_step, max_seq, max_wall_time, max_value, CASE WHEN min_step IS NULL THEN first_value END"""
_LOW, _HIGH = slice(0, 4), slice(4, 8)
_value, _high_value = itemgetter(3), itemgetter(7)
_part, _place = itemgetter(9), itemgetter(9, 10)


class Series(Protocol):
    """A tag as far as its length goes; a row of `tags` will do."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def rolled_count(self) -> int: ...  # noqa: D102


class Curve(NamedTuple):
    """Columns of a series; `total` counts the points of the range before thinning."""

    step: Sequence[int]
    wall_time: Sequence[float | None]
    value: Sequence[float | None]
    total: int
    downsampled: bool


def curve(
    conn: Connection,
    tag: Series,
    *,
    max_points: int,
    from_step: int | None = None,
    to_step: int | None = None,
    restarts: bool = False,
    only: str | None = None,
) -> Curve:
    """Return at most `max_points` stored points with from_step ≤ step ≤ to_step, by step, then seq.

    All of them where they fit. Else the first, the last, the smallest and the largest finite value are among them, and
    more extremes in between; where `max_points` is below 4, the last, then the first, then the largest. `restarts`:
    superseded points, too; `only`: SQL of another rule for which points `p` count. ValueError where max_points is
    below 1: a whole series is read with `points`.
    """
    if max_points < 1:
        raise ValueError(f"max_points is at least 1, not {max_points}")
    span = _Span(conn, tag.id, from_step, to_step, restarts, only)
    whole = span.whole_buckets(tag.rolled_count // BUCKET) if only is None else None
    if whole is not None:
        start, stop, first, last = whole
        before, left = span.raw(below=first[:2]) if from_step is not None else (0, iter(()))
        behind, right = span.raw(above=last[:2])
        total = before + (stop - start) * BUCKET + behind
        if total > max_points * RAW_FACTOR:
            parts = chain(left, span.buckets(start, stop, max(1, max_points // BUCKET_POINTS)), right)
            return _thinned(parts, total, max_points, first, last)
    total, pages = span.raw()
    if total <= max_points:
        return _columns([point for part in pages for point in part.rows], total)
    return _thinned(pages, total, max_points)


def points(
    conn: Connection,
    tag_id: int,
    *,
    after: Place = None,
    limit: int,
    from_step: int | None = None,
    to_step: int | None = None,
    restarts: bool = False,
) -> list[Point]:
    """Return at most `limit` points behind the (step, seq) `after`, by step, then seq."""
    return _Span(conn, tag_id, from_step, to_step, restarts).page(limit, above=after)


@lru_cache(maxsize=256)  # there are a few forms of each; to make one anew takes as long as to execute it
def _statement(query: str) -> TextClause:
    return text(query)


class _Part(NamedTuple):
    """Consecutive elements of a series: points (weight 1), or buckets of `weight` points each."""

    weight: int
    rows: Sequence[Any]


class _Span:
    """Points of a tag in a range of steps, current ones or all of them."""

    def __init__(
        self,
        conn: Connection,
        tag_id: int,
        low: int | None,
        high: int | None,
        everything: bool,
        only: str | None = None,
    ) -> None:
        self.conn = conn
        self.tag_id = tag_id
        self.low, self.high = low, high
        self.condition = ""
        self.mixed_from: int | None = None
        if only is not None:
            self.condition = f" AND {only}"
            return
        back = self._rows(f"SELECT min(step) FROM restarts WHERE tag_id = :tag AND {_SUPERSEDES}")[0][0]  # noqa: S608
        # Below the lowest restart all points are current, and what the buckets say holds for all of them.
        self.mixed_from = back if everything else None
        if back is not None and not everything:
            self.condition = (
                " AND NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id AND r.seq > p.seq"  # noqa: S608
                f" AND r.step <= p.step AND r.{_SUPERSEDES})"
            )

    def page(self, limit: int, *, above: Place = None, below: Place = None) -> list[Point]:
        """Return the first `limit` points between two places, both excluded."""
        where, values = self._where(above, below)
        query = f"SELECT {_POINT} FROM tensor_points p WHERE {where} ORDER BY p.step, p.seq LIMIT :limit"  # noqa: S608
        return self._rows(query, **values, limit=limit)

    def raw(self, *, above: Place = None, below: Place = None) -> tuple[int, Iterator[_Part]]:
        """Return how many points lie between two places, and the points."""
        page = self.page(PAGE_POINTS, above=above, below=below)
        if len(page) < PAGE_POINTS:
            return len(page), iter([_Part(1, page)])
        where, values = self._where(above, below)
        count = self._rows(f"SELECT count(*) FROM tensor_points p WHERE {where}", **values)[0][0]  # noqa: S608
        return count, self._pages(page, below)

    def _pages(self, page: list[Point], below: Place) -> Iterator[_Part]:
        while page:
            yield _Part(1, page)
            page = self.page(PAGE_POINTS, above=page[-1][:2], below=below) if len(page) == PAGE_POINTS else []

    def whole_buckets(self, count: int) -> tuple[int, int, Point, Point] | None:
        """Return ordinals [start, stop) of the buckets of level 0 that lie in the range, their first and last point.

        count: how many buckets there are. None where none lies in the range.
        """
        high = self.high
        if self.mixed_from is not None:
            high = self.mixed_from - 1 if high is None else min(high, self.mixed_from - 1)
        start = 0 if self.low is None else self._ordinal("last_step <", "first_step <", self.low, count)
        stop = count if high is None else self._ordinal("last_step <=", "last_step <=", high, count)
        if start >= stop:
            return None
        query = (
            f"SELECT {_ENDS} FROM point_rollups WHERE tag_id = :tag AND level = 0 AND ordinal IN (:first, :last) "  # noqa: S608
            "ORDER BY ordinal"
        )
        ends = self._rows(query, first=start, last=stop - 1)
        return start, stop, ends[0][_LOW], ends[-1][_HIGH]

    def _ordinal(self, above: str, condition: str, step: int, count: int) -> int:
        """Return how many of `count` buckets of level 0 meet a condition that holds for the first ones.

        Goes down from the highest level, in one statement: what a bucket meets `above` level 0, all below it meet.
        """
        top = 0
        while count // FAN ** (top + 1):
            top += 1
        query = (
            "WITH RECURSIVE w(level, at) AS (SELECT CAST(:above AS INTEGER), CAST(0 AS BIGINT) UNION ALL "  # noqa: S608
            f"SELECT w.level - 1, w.at * {FAN} + (SELECT count(*) FROM point_rollups b WHERE b.tag_id = :tag "
            f"AND b.level = w.level - 1 AND b.ordinal >= w.at * {FAN} AND b.ordinal < (w.at + 1) * {FAN} "
            f"AND CASE WHEN w.level > 1 THEN b.{above} :step ELSE b.{condition} :step END) "
            "FROM w WHERE w.level > 0) SELECT at FROM w WHERE level = 0"
        )
        at: int = self._rows(query, above=top + 1, step=step)[0][0]
        return at

    def buckets(self, start: int, stop: int, wanted: int) -> Iterator[_Part]:
        """Yield buckets that make up [start, stop) of level 0, the largest of which at least `wanted` fit in between.

        Where not even level 0 has as many, its buckets.
        """
        level = 0
        while stop // FAN ** (level + 1) + -start // FAN ** (level + 1) >= wanted:
            level += 1
        left: list[tuple[int, int, int]] = []  # level, and the ordinals from, to
        right: list[tuple[int, int, int]] = []
        for depth in range(level):
            left.append((depth, start, start + -start % FAN))
            right.append((depth, stop - stop % FAN, stop))
            start, stop = -(-start // FAN), stop // FAN
        parts = [part for part in [*left, (level, start, stop), *reversed(right)] if part[1] < part[2]]
        values: dict[str, int] = {}
        selects: list[str] = []
        for at, (depth, first, end) in enumerate(parts):
            values |= {f"level{at}": depth, f"first{at}": first, f"stop{at}": end}
            selects.append(
                f"SELECT {_BUCKET_COLUMNS}, {at} AS part, ordinal FROM point_rollups WHERE tag_id = :tag "  # noqa: S608
                f"AND level = :level{at} AND ordinal >= :first{at} AND ordinal < :stop{at}"
            )
        rows = sorted(self._rows(" UNION ALL ".join(selects), **values), key=_place)
        for at, of_part in groupby(rows, _part):
            yield _Part(BUCKET * FAN ** parts[at][0], list(of_part))

    def _where(self, above: Place, below: Place) -> tuple[str, dict[str, int]]:
        where = f"p.tag_id = :tag{self.condition}"
        values: dict[str, int] = {}
        if above is not None:
            where += " AND (p.step, p.seq) > (:step, :seq)"
            values |= {"step": above[0], "seq": above[1]}
        if self.low is not None:
            where += " AND p.step >= :low"
            values["low"] = self.low
        if below is not None:
            where += " AND (p.step, p.seq) < (:end_step, :end_seq)"
            values |= {"end_step": below[0], "end_seq": below[1]}
        if self.high is not None:
            where += " AND p.step <= :high"
            values["high"] = self.high
        return where, values

    def _rows(self, query: str, **values: int) -> list[Any]:
        return tuples(self.conn, _statement(query), {"tag": self.tag_id, **values})


def _thinned(
    parts: Iterable[_Part], total: int, max_points: int, first: Point | None = None, last: Point | None = None
) -> Curve:
    """Thin `total` points, given in parts that follow each other. `first` and `last` are those of all buckets."""
    groups = max(1, (max_points - 2) // 2)
    lows: dict[int, Point] = {}
    highs: dict[int, Point] = {}
    others: dict[int, Point] = {}  # stand for groups without a finite value
    begin: Point | None = None
    end: Point | None = None
    passed = 0
    for weight, rows in parts:
        if not rows:
            continue
        begin = begin or (rows[0] if weight == 1 else first)
        end = rows[-1] if weight == 1 else last
        at = 0
        while at < len(rows):
            group = (passed + at * weight) * groups // total
            stop = _ceil(_ceil((group + 1) * total, groups) - passed, weight)  # here the next group begins
            _narrow(rows[at:stop], weight, group, lows, highs, others)
            at = stop
        passed += len(rows) * weight
    chosen = {end, begin} if max_points > 1 else {end}
    if max_points == 3:
        chosen.update(highs.values())
    elif max_points > 3:
        chosen.update(lows.values(), highs.values(), (p for group, p in others.items() if group not in lows))
    return _columns(sorted((p for p in chosen if p is not None), key=itemgetter(0, 1)), total)


def _narrow(
    rows: Sequence[Any],
    weight: int,
    group: int,
    lows: dict[int, Point],
    highs: dict[int, Point],
    others: dict[int, Point],
) -> None:
    """Let points or buckets of a group compete for its lowest and highest finite point; of equal ones, first wins."""
    finite = [row for row in rows if row[3] is not None and (weight > 1 or math.isfinite(row[3]))]
    if not finite:
        others.setdefault(group, rows[0] if weight == 1 else (*rows[0][:3], rows[0][8]))
        return
    low, high = min(finite, key=_value), max(finite, key=_value if weight == 1 else _high_value)
    low, high = (low, high) if weight == 1 else (low[_LOW], high[_HIGH])
    if group not in lows or low[3] < lows[group][3]:
        lows[group] = low
    if group not in highs or high[3] > highs[group][3]:
        highs[group] = high


def _columns(found: Sequence[Point], total: int) -> Curve:
    return Curve([p[0] for p in found], [p[2] for p in found], [p[3] for p in found], total, len(found) < total)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
