"""Points of many series at once: which of them TensorBoard may see, and which of these a page gets.

Superseded are points that a later one of the same or a smaller step follows: TensorBoard's data server drops them, and
the earlier of equal steps. In order of (step, seq) these are the ones behind a larger seq, and those before an equal
step. Of the rest a page gets evenly spaced ones and always the last (docs/decisions/0036-points-for-tensorboard.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.db.connection import Connection, among
from indexer.db.dialect import POSTGRESQL
from indexer.types import RestartCause
from webapi.dataprovider.answers import Floats, Ints
from webapi.dataprovider.series import DataClass, Series

BUCKET, FAN = 64, 8  # points of a bucket of level 0, and buckets in one of the next: as indexer.db.rollups writes them
ROWS_AT_ONCE = 500_000
"""Rows that one statement returns, about: what is in memory beside the answer."""
TAGS_AT_ONCE = 2_000
TUPLES_AT_ONCE = 5_000

_COPY_HEADER = 19  # bytes: signature, flags, length of the header's extension
_COPY_TRAILER = 2
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one series, in order of their steps; shape (n,) each."""

    step: Ints
    seq: Ints
    wall_time: Floats  # NaN where it is not known
    value: Floats  # NaN where it is no number

    def __len__(self) -> int:
        return len(self.step)

    def at(self, places: npt.NDArray[Any]) -> Points:
        """Return those at `places`, indices or booleans."""
        return Points(self.step[places], self.seq[places], self.wall_time[places], self.value[places])


def _no_points() -> Points:
    return Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))


NO_POINTS = _no_points()


def evenly(n: int, k: int) -> Ints:
    """Return k of n places in order, the last among them; all where there are no more."""
    return np.arange(n) if n <= k else np.arange(1, k + 1, dtype=np.int64) * n // k - 1


def valid(step: Ints, seq: Ints) -> npt.NDArray[np.bool_]:
    """Tell which points nothing supersedes. The columns are all points of a series, by (step, seq)."""
    if not len(step):
        return np.empty(0, np.bool_)
    newest: npt.NDArray[np.bool_] = np.maximum.accumulate(seq) == seq
    newest[:-1] &= step[1:] != step[:-1]
    return newest


def read(conn: Connection, wanted: Sequence[Series], k: int) -> dict[int, Points]:
    """Return k points of each series, all where it has no more, by its id. Not for `mixed` series.

    The same k, the same state: the same points. A number of statements for all short series, and one or a few for each
    that is longer than 64 k points, or of which some points are superseded and that is as long.
    """
    found: dict[int, Points] = {}
    short, thinned, looked_at = [], [], []
    for one in wanted:
        if k == 0 or not one.point_count:
            found[one.id] = NO_POINTS
        elif k == 1 and one.data_class is DataClass.SCALAR:
            found[one.id] = _last(one)
        elif one.data_class is DataClass.SCALAR and one.rolled_count // BUCKET > k:
            points = _of_buckets(conn, one, k)
            if points is None:
                looked_at.append(one)
            else:
                found[one.id] = points
        elif one.disturbed:
            looked_at.append(one)
        elif one.point_count <= k:
            short.append(one)
        else:
            thinned.append(one)
    for part in _parts(short, lambda one: one.point_count):
        found |= _whole(conn, part)
    for part in _parts(thinned, lambda _: k):
        found |= _thinned(conn, part, k)
    for part in _parts(looked_at, lambda one: one.point_count):
        for tag, points in every(conn, [one.id for one in part]).items():
            rest = points.at(valid(points.step, points.seq))
            found[tag] = rest.at(evenly(len(rest), k))
    return {one.id: found.get(one.id, NO_POINTS) for one in wanted}


def every(conn: Connection, tags: Sequence[int]) -> dict[int, Points]:
    """Return all points of series, superseded ones too. One statement."""
    query = "SELECT tag_id, step, seq, {wall_time}, {value} FROM tensor_points WHERE tag_id IN ({tags})"
    return dict(_split(_columns(conn, f"{query} ORDER BY tag_id, step, seq", tags, seq=True)))


def latest(conn: Connection, tags: Sequence[int]) -> dict[int, float]:
    """Return the latest clock of each series among points that nothing supersedes. One statement, none for no tags."""
    if not tags:
        return {}
    query = f"""SELECT tag_id, max(wall_time) FROM (
        SELECT tag_id, step, seq, wall_time, max(seq) OVER ordered AS newest, lead(step) OVER ordered AS following
        FROM tensor_points WHERE tag_id IN ({among(tags)})
        WINDOW ordered AS (PARTITION BY tag_id ORDER BY step, seq)) numbered
        WHERE seq = newest AND (following IS NULL OR following <> step) GROUP BY tag_id"""
    return {tag: wall_time for tag, wall_time in conn.execute(query).fetchall() if wall_time is not None}


def at_step(conn: Connection, tag: int, step: int) -> tuple[int, int, int] | None:
    """Return the key of the point at a step; None where there is none, or a later one superseded it. One statement."""
    row = conn.execute(
        "SELECT p.tag_id, p.step, p.seq FROM tensor_points p WHERE p.tag_id = ? AND p.step = ? AND NOT EXISTS"
        " (SELECT 1 FROM tensor_points q WHERE q.tag_id = p.tag_id AND q.step <= p.step AND q.seq > p.seq)",
        (tag, step),
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def _last(one: Series) -> Points:
    """Return the newest point, which the tag's row has."""
    return Points(
        np.array([one.last_step]), np.zeros(1, np.int64), np.array([one.last_wall_time]), np.array([one.last_value])
    )


def _whole(conn: Connection, wanted: Sequence[Series]) -> dict[int, Points]:
    """Return all points of undisturbed series. One statement."""
    query = "SELECT tag_id, step, {wall_time}, {value} FROM tensor_points WHERE tag_id IN ({tags})"
    return dict(_split(_columns(conn, f"{query} ORDER BY tag_id, step, seq", [one.id for one in wanted], seq=False)))


def _thinned(conn: Connection, wanted: Sequence[Series], k: int) -> dict[int, Points]:
    """Return k points of undisturbed series that have more: those at `evenly`, by the database. One statement."""
    query = f"""SELECT tag_id, step, {{wall_time}}, {{value}} FROM (
        SELECT p.tag_id, p.step, p.seq, p.wall_time, p.value, t.point_count AS total,
            row_number() OVER (PARTITION BY p.tag_id ORDER BY p.step, p.seq) AS place
        FROM tensor_points p JOIN tags t ON t.id = p.tag_id WHERE p.tag_id IN ({{tags}})) numbered
        WHERE place * {k} / total > (place - 1) * {k} / total ORDER BY tag_id, step, seq"""
    return dict(_split(_columns(conn, query, [one.id for one in wanted], seq=False)))


def _of_buckets(conn: Connection, one: Series, k: int) -> Points | None:
    """Return k points of a long series of numbers from its rollups: where buckets begin, and the last point.

    None where too few of them are left. A statement where nothing was ever superseded, else three.
    """
    level, buckets = 0, one.rolled_count // BUCKET
    while buckets // FAN >= k:
        level, buckets = level + 1, buckets // FAN
    chosen = "" if one.disturbed else f" AND (ordinal + 1) * {k - 1} / {buckets} > ordinal * {k - 1} / {buckets}"
    rows = conn.execute(
        "SELECT first_step, first_seq, first_wall_time, first_value FROM point_rollups"
        f" WHERE tag_id = ? AND level = ? AND ordinal < ?{chosen} ORDER BY ordinal",
        (one.id, level, buckets),
    ).fetchall()
    if one.disturbed:
        rows = _current(conn, one, rows, k - 1)
    if len(rows) != k - 1:
        return None
    step, seq, wall_time, value = zip(*rows, strict=True)
    return Points(
        np.array([*step, one.last_step], np.int64),
        np.array([*seq, 0], np.int64),
        np.array([*wall_time, one.last_wall_time], np.float64),
        np.array([*value, one.last_value], np.float64),
    )


def _current(conn: Connection, one: Series, rows: Sequence[tuple[Any, ...]], k: int) -> list[tuple[Any, ...]]:
    """Return k of these points that nothing supersedes, evenly; fewer where there are not as many."""
    newest: list[tuple[int, int]] = []  # from a step on, the smallest seq that counts
    for step, seq in sorted(_went_back(conn, one.id)):
        if not newest or seq > newest[-1][1]:
            newest.append((step, seq))
    steps = np.array([step for step, _ in newest], np.int64)
    least = np.array([0, *(seq for _, seq in newest)], np.int64)
    of = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    counts = (of[:, 1] >= least[np.searchsorted(steps, of[:, 0], side="right")]) & (of[:, 0] < one.last_step)
    places = np.flatnonzero(counts)
    chosen = among(of[places[evenly(len(places), k)], 0].tolist())
    # Repeats of a step within a file are no restarts: of equal steps the last one counts.
    found = conn.execute(
        f"SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = ? AND step IN ({chosen})"
        " ORDER BY step, seq",
        (one.id,),
    )
    return list({row[0]: row for row in found}.values())


def _went_back(conn: Connection, tag: int) -> Iterator[tuple[int, int]]:
    """Yield step and seq of the points that went back. One statement, and one a session start."""
    query = "SELECT step, seq, cause FROM restarts WHERE tag_id = ?"
    for step, seq, cause in conn.execute(query, (tag,)).fetchall():
        if cause != RestartCause.SESSION_START:
            yield step, seq
            continue
        # TensorBoard's server looks at points alone: what counts is the first one behind the start, if there is any.
        first = conn.execute(
            "SELECT step FROM tensor_points WHERE tag_id = ? AND step >= ? AND seq = ? ORDER BY step LIMIT 1",
            (tag, step, seq),
        ).fetchone()
        if first is not None:
            yield first[0], seq


def _parts(wanted: Sequence[Series], rows: Any) -> Iterator[list[Series]]:
    """Yield the series in parts that one statement reads."""
    part: list[Series] = []
    weight = 0
    for one in wanted:
        if part and (weight + rows(one) > ROWS_AT_ONCE or len(part) >= TAGS_AT_ONCE):
            yield part
            part, weight = [], 0
        part.append(one)
        weight += rows(one)
    if part:
        yield part


Columns = tuple[Ints, Points]
"""tag_id of each row, and the points."""


def _columns(conn: Connection, query: str, tags: Iterable[int], *, seq: bool) -> Columns:
    """Return the rows of a query: tag_id, step, seq (where it is asked for), wall_time, value."""
    if conn.dialect == POSTGRESQL:
        return _copied(conn, query.format(tags=among(tags), wall_time=_known("wall_time"), value=_known("value")), seq)
    cursor = conn.execute(query.format(tags=among(tags), wall_time="wall_time", value="value"))
    parts = []
    while rows := cursor.fetchmany(TUPLES_AT_ONCE):  # few tuples at once stay in the processor's cache
        tag, step, *number, wall_time, value = zip(*rows, strict=True)
        integers = [np.array(column, np.int64) for column in (tag, step, *number)]
        parts.append((*integers, np.array(wall_time, np.float64), np.array(value, np.float64)))  # None becomes NaN
    if not parts:
        return np.empty(0, np.int64), NO_POINTS
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    numbers = columns[2] if seq else np.zeros(len(columns[0]), np.int64)
    return columns[0], Points(columns[1], numbers, columns[-2], columns[-1])


def _known(column: str) -> str:
    return f"coalesce({column}, 'NaN')"


def _copied(conn: Connection, query: str, seq: bool) -> Columns:
    """Return the rows of a query by binary COPY: without a NULL all rows are of one length, and numpy reads them."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, code in (
        ("tag", ">i4"),
        ("step", ">i8"),
        *((("seq", ">i4"),) if seq else ()),
        ("wall", ">f8"),
        ("value", ">f8"),
    ):
        fields += [(f"size of {name}", ">i4"), (name, code)]
    with conn.raw.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy:
        data = b"".join(bytes(block) for block in copy)
    if not data.startswith(_SIGNATURE):
        raise ValueError("PostgreSQL sent no binary COPY")
    rows = np.frombuffer(
        data,
        np.dtype(fields),
        offset=_COPY_HEADER,
        count=(len(data) - _COPY_HEADER - _COPY_TRAILER) // np.dtype(fields).itemsize,
    )
    numbers = rows["seq"].astype(np.int64) if seq else np.zeros(len(rows), np.int64)
    return rows["tag"].astype(np.int64), Points(
        rows["step"].astype(np.int64), numbers, rows["wall"].astype(np.float64), rows["value"].astype(np.float64)
    )


def _split(columns: Columns) -> Iterator[tuple[int, Points]]:
    """Yield the points of each tag; rows of one are consecutive."""
    tag, points = columns
    if not len(tag):
        return
    for start, stop in pairwise([0, *(np.flatnonzero(tag[1:] != tag[:-1]) + 1).tolist(), len(tag)]):
        part = slice(start, stop)
        yield int(tag[start]), Points(points.step[part], points.seq[part], points.wall_time[part], points.value[part])
