"""What tables say of one another: statistics, counts and rollups must be those of the points that are stored.

Nothing of what the indexer uses to make them is used here: sums by SQL, buckets by plain numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.db.connection import Connection, Row
from indexer.db.rollups import BUCKET, FAN, LONG
from indexer.findings import Findings, Place

_PAGE = BUCKET * 1024  # points read at once
_LARGEST = sys.float_info.max
_POINTS = "the points"
_COLUMNS = (
    "id, plugin, name, data_class, point_count, first_step, last_step, min_step, max_step, first_wall_time, "
    "last_wall_time, max_wall_time, last_value, min_value, max_value, nan_count, pos_inf_count, neg_inf_count, seq, "
    "segments, rolled_count, rolled_step"
)
_ENDS = ("first", "last", "min", "max")
_WHATS = ("step", "seq", "wall_time", "value")
_BUCKET_COLUMNS = ", ".join(["count", *(f"{end}_{what}" for end in _ENDS for what in _WHATS)])
_OF_TAG = ("tensor_points", "point_rollups", "blobs", "histogram_stats", "tensor_stats", "graph_stats", "graph_chunks")

_Values = dict[str, Any]


@dataclass(slots=True)
class Totals:
    """What a job has, by tag."""

    points: dict[int, tuple[int, int]] = field(default_factory=dict)  # rows, and points in its stretches
    payloads: dict[int, dict[str, int]] = field(default_factory=dict)  # by kind


def check(conn: Connection, job_id: int, job: str, findings: Findings) -> Totals:
    """Compare all that is reckoned of a job's points with them; `job` is what it is called in findings."""
    totals = Totals()
    names = _COLUMNS.split(", ")
    tags = {row[0]: dict(zip(names, row, strict=True)) for row in _rows(conn, f"SELECT {_COLUMNS} FROM tags", job_id)}
    expected = _statistics(conn, job_id)
    stretches = {row[0]: row[1:] for row in _rows(conn, _STRETCHES, job_id)}
    _payloads(conn, job_id, job, tags, totals, findings)
    for tag_id, tag in tags.items():
        place = Place(job, None, tag["plugin"], tag["name"])
        wanted = expected.get(tag_id, {"point_count": 0})
        count, points = stretches.get(tag_id, (0, 0))
        totals.points[tag_id] = (wanted["point_count"], int(points))
        if tag["data_class"] != "scalar":
            wanted |= {"nan_count": 0}
        elif totals.payloads.get(tag_id):
            del wanted["nan_count"]  # some of its points are no numbers
        if "seq" in wanted and tag["seq"] >= wanted["seq"]:
            wanted["seq"] = tag["seq"]  # a session start behind the last point counts
        for column, value in wanted.items():
            if value != tag[column]:
                findings.add(place, f"tags.{column}", value, tag[column], by=_POINTS)
        if count != tag["segments"]:
            findings.add(place, "tags.segments", count, tag["segments"], by="tag_segments")
        if int(points) != wanted["point_count"]:
            findings.add(place, "points in its stretches", wanted["point_count"], int(points), by=_POINTS)
        if tag["rolled_count"] or wanted["point_count"] >= LONG:
            _rollups(conn, tag, wanted["point_count"], place, findings)
    _restarts(conn, job_id, job, tags, findings)
    counted = sum(tag["point_count"] for tag in tags.values())
    stored = conn.value("SELECT point_count FROM jobs WHERE id = ?", (job_id,))
    if counted != stored:
        findings.add(Place(job), "jobs.point_count", counted, stored, by="tags")
    return totals


_KNOWN = (  # of the rows `p` of a tag
    "SELECT 1 FROM tags t WHERE t.id = p.tag_id",
    "SELECT 1 FROM loose_tags l WHERE l.tag_id = p.tag_id",  # on their way out, or in
    "SELECT 1 FROM kept_segments k WHERE k.tag_id = -p.tag_id",  # aside while their job is read again
)


def orphans(conn: Connection, findings: Findings) -> None:
    """Note rows of tags that there are not, in all of the database, and tags whose rows are about to be deleted."""
    unknown = " AND ".join(f"NOT EXISTS ({known})" for known in _KNOWN)
    for table in _OF_TAG:
        query = f"SELECT p.tag_id, count(*) FROM {table} p WHERE {unknown} GROUP BY p.tag_id ORDER BY p.tag_id"
        for tag_id, count in conn.execute(query):
            findings.add(Place(), f"{table} of tag {tag_id}, which is none", None, f"{count} rows", by="tags")
    for (tag_id,) in conn.execute("SELECT l.tag_id FROM loose_tags l JOIN tags t ON t.id = l.tag_id ORDER BY 1"):
        findings.add(Place(), f"loose_tags of tag {tag_id}, which is in use", None, "a row", by="tags")
    waiting = conn.value("SELECT count(*) FROM loose_tags")
    if waiting:
        findings.note(f"points of {waiting} tags belong to no job: an indexer that runs deletes, or uses, them")


# Statistics -----------------------------------------------------------------------------------------------------------
_SUMS = """SELECT p.tag_id, count(*), min(p.step), max(p.step), max(p.wall_time),
    min(CASE WHEN p.value BETWEEN ? AND ? THEN p.value END), max(CASE WHEN p.value BETWEEN ? AND ? THEN p.value END),
    sum(CASE WHEN p.value IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN p.value > ? THEN 1 ELSE 0 END),
    sum(CASE WHEN p.value < ? THEN 1 ELSE 0 END), max(p.seq)
    FROM tags t JOIN tensor_points p ON p.tag_id = t.id WHERE t.job_id = ? GROUP BY p.tag_id"""
_SUM_COLUMNS = (
    "point_count",
    "min_step",
    "max_step",
    "max_wall_time",
    "min_value",
    "max_value",
    "nan_count",
    "pos_inf_count",
    "neg_inf_count",
    "seq",
)
_STRETCHES = "SELECT g.tag_id, count(*), sum(g.count) FROM tags t JOIN tag_segments g ON g.tag_id = t.id"
_EDGE = """SELECT t.id, p.step, p.wall_time, p.value FROM tags t
    JOIN tag_segments g ON g.tag_id = t.id AND g.ordinal = {ordinal}
    JOIN tensor_points p ON p.tag_id = t.id AND p.step = g.{end}_step AND p.seq = g.{end}_seq WHERE t.job_id = ?"""


def _rows(conn: Connection, query: str, job_id: int) -> Iterator[Row]:
    """Yield the rows of a query that has the table of tags and, where it counts, groups by the first column."""
    if "JOIN" in query:
        yield from conn.execute(f"{query} WHERE t.job_id = ? GROUP BY 1", (job_id,))
    else:
        yield from conn.execute(f"{query} WHERE job_id = ?", (job_id,))


def _statistics(conn: Connection, job_id: int) -> dict[int, _Values]:
    """Return what `tags` should say of each tag that has points."""
    limits = (-_LARGEST, _LARGEST)
    rows = conn.execute(_SUMS, (*limits, *limits, _LARGEST, -_LARGEST, job_id))
    found: dict[int, _Values] = {
        row[0]: {
            name: int(value) if name.endswith("_count") else value
            for name, value in zip(_SUM_COLUMNS, row[1:], strict=True)
        }
        for row in rows
    }
    for end, ordinal in (("first", "0"), ("last", "t.segments - 1")):
        for tag_id, step, wall_time, value in conn.execute(_EDGE.format(ordinal=ordinal, end=end), (job_id,)):
            found[tag_id] |= {f"{end}_step": step, f"{end}_wall_time": wall_time}
            if end == "last":
                found[tag_id]["last_value"] = value
    return found


def _payloads(
    conn: Connection, job_id: int, job: str, tags: dict[int, _Values], totals: Totals, findings: Findings
) -> None:
    """Count payloads, and compare with what is counted of them."""
    columns = "count(*), sum(CASE WHEN b.error IS NULL THEN 0 ELSE 1 END), sum(b.length)"
    query = f"SELECT b.tag_id, b.kind, {columns} FROM tags t JOIN blobs b ON b.tag_id = t.id"
    expected = {
        (row[0], row[1]): tuple(map(int, row[2:]))
        for row in conn.execute(f"{query} WHERE t.job_id = ? GROUP BY b.tag_id, b.kind", (job_id,))
    }
    query = "SELECT c.tag_id, c.kind, c.count, c.errors, c.bytes FROM tags t JOIN blob_counts c ON c.tag_id = t.id"
    found = {(row[0], row[1]): tuple(row[2:]) for row in conn.execute(f"{query} WHERE t.job_id = ?", (job_id,))}
    for (tag_id, kind), counts in expected.items():
        totals.payloads.setdefault(tag_id, {})[kind] = counts[0]
    none = (0, 0, 0)
    for key in sorted(expected.keys() | found.keys()):
        for name, wanted, said in zip(
            ("count", "errors", "bytes"), expected.get(key, none), found.get(key, none), strict=True
        ):
            if wanted != said:
                place = Place(job, None, tags[key[0]]["plugin"], tags[key[0]]["name"])
                findings.add(place, f"blob_counts.{name} of {key[1]}", wanted, said, by="blobs")


def _restarts(conn: Connection, job_id: int, job: str, tags: dict[int, _Values], findings: Findings) -> None:
    """See that points that went back have a restart, and that restarts are of such points."""
    query = (
        "SELECT r.tag_id, r.step, r.seq, r.cause FROM tags t JOIN restarts r ON r.tag_id = t.id WHERE t.job_id = ? "
        "AND r.cause <> 'session_start' AND NOT EXISTS (SELECT 1 FROM tensor_points p "
        "WHERE p.tag_id = r.tag_id AND p.step = r.step AND p.seq = r.seq)"
    )
    for tag_id, step, seq, cause in conn.execute(query, (job_id,)):
        place = Place(job, None, tags[tag_id]["plugin"], tags[tag_id]["name"], step, seq)
        findings.add(place, "restart", None, cause, by=_POINTS)
    query = (
        "SELECT g.tag_id, g.first_step, g.first_seq FROM tags t JOIN tag_segments g ON g.tag_id = t.id "
        "JOIN tag_segments f ON f.tag_id = g.tag_id AND f.ordinal = g.ordinal - 1 "
        "WHERE t.job_id = ? AND g.first_step <= f.last_step AND NOT EXISTS (SELECT 1 FROM restarts r "
        "WHERE r.tag_id = g.tag_id AND r.seq >= g.first_seq AND r.step <= g.first_step AND r.cause <> 'same_file')"
    )
    for tag_id, step, seq in conn.execute(query, (job_id,)):
        place = Place(job, None, tags[tag_id]["plugin"], tags[tag_id]["name"], step, seq)
        findings.add(place, "restart", "one: a file went back", None, by="tag_segments")


# Rollups --------------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Points:
    """Points as columns, shape (n,) or, of the ends of buckets, (n,) each; NaN is NULL."""

    step: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]
    wall_time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    def take(self, index: npt.NDArray[Any]) -> _Points:
        return _Points(self.step[index], self.seq[index], self.wall_time[index], self.value[index])

    def behind(self, other: _Points) -> _Points:
        return _Points(*(np.concatenate([getattr(p, name) for p in (other, self)]) for name in _WHATS))


@dataclass(slots=True)
class _Level:
    """Buckets of a level that are not folded into the next one yet, and how many there were."""

    ends: dict[str, _Points] | None = None
    count: int = 0


def _rollups(conn: Connection, tag: _Values, point_count: int, place: Place, findings: Findings) -> None:
    levels: list[_Level] = []
    rest: _Points | None = None
    current = 0
    last_step: int | None = None
    for page in _current(conn, tag["id"]):
        points = page if rest is None else page.behind(rest)
        whole = len(points.step) - len(points.step) % BUCKET
        rest = points.take(np.arange(whole, len(points.step)))
        if not whole or point_count < LONG:
            continue
        current += whole
        last_step = int(points.step[whole - 1])
        index = np.arange(whole).reshape(-1, BUCKET)
        finite = np.isfinite(points.value[index])
        rows = np.arange(len(index))
        chosen = {
            "first": index[:, 0],
            "last": index[:, -1],
            "min": index[rows, np.argmin(np.where(finite, points.value[index], np.inf), axis=1)],
            "max": index[rows, np.argmax(np.where(finite, points.value[index], -np.inf), axis=1)],
        }
        some = finite.any(axis=1)
        # A bucket of values that are all infinite or none is told from one by `some`: its min and max are NULL.
        chosen["min"] = np.where(some, chosen["min"], -1)
        chosen["max"] = np.where(some, chosen["max"], -1)
        _close(conn, tag["id"], levels, 0, {end: _ends(points, at) for end, at in chosen.items()}, place, findings)
    for column, value in (("rolled_count", current), ("rolled_step", last_step)):
        if value != tag[column]:
            findings.add(place, f"tags.{column}", value, tag[column], by=_POINTS)
    query = "SELECT level, count(*) FROM point_rollups WHERE tag_id = ? GROUP BY level ORDER BY level"
    stored = {row[0]: row[1] for row in conn.execute(query, (tag["id"],))}
    expected = {number: level.count for number, level in enumerate(levels) if level.count}
    for number in sorted(stored.keys() | expected.keys()):
        if stored.get(number, 0) != expected.get(number, 0):
            what = f"point_rollups of level {number}"
            findings.add(place, what, expected.get(number, 0), stored.get(number, 0), by=_POINTS)


def _ends(points: _Points, index: npt.NDArray[Any]) -> _Points:
    """Return points by index; -1 is none: NaN, and numbers that mean nothing."""
    found = points.take(np.maximum(index, 0))
    found.value[index < 0] = np.nan
    return found


def _close(
    conn: Connection,
    tag_id: int,
    levels: list[_Level],
    number: int,
    ends: dict[str, _Points],
    place: Place,
    findings: Findings,
) -> None:
    """Compare new buckets of a level with those stored, and fold them into the next one."""
    if number == len(levels):
        levels.append(_Level())
    level = levels[number]
    count = len(ends["first"].step)
    _compare(conn, tag_id, number, level.count, ends, place, findings)
    level.count += count
    if level.ends is not None:
        ends = {end: points.behind(level.ends[end]) for end, points in ends.items()}
        count = len(ends["first"].step)
    whole = count - count % FAN
    level.ends = {end: points.take(np.arange(whole, count)) for end, points in ends.items()}
    if not whole:
        return
    index = np.arange(whole).reshape(-1, FAN)
    rows = np.arange(len(index))
    low, high = ends["min"].value[index], ends["max"].value[index]
    folded = {
        "first": ends["first"].take(index[:, 0]),
        "last": ends["last"].take(index[:, -1]),
        "min": ends["min"].take(index[rows, np.argmin(np.where(np.isnan(low), np.inf, low), axis=1)]),
        "max": ends["max"].take(index[rows, np.argmax(np.where(np.isnan(high), -np.inf, high), axis=1)]),
    }
    _close(conn, tag_id, levels, number + 1, folded, place, findings)


def _compare(
    conn: Connection, tag_id: int, level: int, first: int, ends: dict[str, _Points], place: Place, findings: Findings
) -> None:
    columns: list[list[Any]] = []
    for end in _ENDS:
        points = ends[end]
        none = np.isnan(points.value) if end in ("min", "max") else np.zeros(len(points.step), np.bool_)
        for name in _WHATS:
            values = getattr(points, name).tolist()
            columns.append([None if n or v != v else v for v, n in zip(values, none.tolist(), strict=True)])
    expected = list(zip(*columns, strict=True))
    query = (
        f"SELECT ordinal, {_BUCKET_COLUMNS} FROM point_rollups "
        "WHERE tag_id = ? AND level = ? AND ordinal >= ? AND ordinal < ?"
    )
    rows = conn.execute(query, (tag_id, level, first, first + len(expected)))
    found = {row[0]: tuple(row[1:]) for row in rows}
    width = BUCKET * FAN**level
    for ordinal, wanted in enumerate(expected, first):
        said = found.get(ordinal)
        if said != (width, *wanted):
            findings.add(place, f"bucket {ordinal} of level {level}", (width, *wanted), said, by=_POINTS)


def _current(conn: Connection, tag_id: int) -> Iterator[_Points]:
    """Yield the points of a tag that no new file and no session start superseded, by step, then seq."""
    step, seq = -(2**63), -1
    while True:
        query = (
            "SELECT p.step, p.seq, p.wall_time, p.value FROM tensor_points p WHERE p.tag_id = ? "
            "AND (p.step, p.seq) > (?, ?) AND NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id "
            "AND r.seq > p.seq AND r.step <= p.step AND r.cause <> 'same_file') ORDER BY p.step, p.seq LIMIT ?"
        )
        rows = conn.execute(query, (tag_id, step, seq, _PAGE)).fetchall()
        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        yield _Points(
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int64),
            np.array(columns[2], np.float64),
            np.array(columns[3], np.float64),
        )
        step, seq = rows[-1][0], rows[-1][1]
