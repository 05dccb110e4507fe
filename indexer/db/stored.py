"""What tables hold of a job, as rows to compare with its files. Everything is read in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from indexer.db import blobs
from indexer.db.connection import Connection, Row

_STEPS = 500  # looked up in one statement


class RootRow(NamedTuple):
    """A base directory."""

    id: int
    name: str
    path: str
    named: bool


class JobRow(NamedTuple):
    """A job as far as files decide it."""

    id: int
    root_id: int
    train_id: str
    cache_status: str
    point_count: int
    start_time: float | None
    evicted_at: float | None
    pruned_at: float | None


class ShardRow(NamedTuple):
    """A file as far as its bytes decide it."""

    id: int
    name: str
    kind: str
    cursor: int
    size: int
    mtime_ns: int
    fingerprint: bytes | None
    tail: bytes | None
    state: str
    record_count: int
    bad_records: int
    bad_bytes: int
    lost_since: int | None


class TagRow(NamedTuple):
    """A series as its values describe it."""

    id: int
    plugin: str
    name: str
    data_class: str
    metadata: bytes | None
    content: bytes | None
    display_name: str | None
    description: str | None
    max_length: int


class SegmentRow(NamedTuple):
    """A stretch of a tag from one file."""

    tag_id: int
    ordinal: int
    shard_id: int
    first_step: int
    first_seq: int
    last_step: int
    last_seq: int
    points: int


Point = tuple[int, int, float | None, float | None]
"""step, seq, wall_time, value."""


def roots(conn: Connection) -> list[RootRow]:
    """Return all roots."""
    query = f"SELECT {', '.join(RootRow._fields)} FROM roots ORDER BY id"
    return [RootRow(row[0], row[1], row[2], bool(row[3])) for row in conn.execute(query)]


def jobs(conn: Connection, root_id: int) -> list[JobRow]:
    """Return the jobs of a root."""
    query = f"SELECT {', '.join(JobRow._fields)} FROM jobs WHERE root_id = ? ORDER BY id"
    return [JobRow(*row) for row in conn.execute(query, (root_id,))]


def job(conn: Connection, job_id: int) -> JobRow | None:
    """Return a job, None where it is gone."""
    row = conn.execute(f"SELECT {', '.join(JobRow._fields)} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else JobRow(*row)


def pruned_jobs(conn: Connection, root_id: int) -> set[str]:
    """Return the train_ids, as stored, of a root's jobs that are not to be loaded."""
    return {row[0] for row in conn.execute("SELECT train_id FROM pruned_jobs WHERE root_id = ?", (root_id,))}


def shards(conn: Connection, job_id: int) -> list[ShardRow]:
    """Return the files of a job, without those that others took the place of."""
    names = ", ".join(f'"{name}"' for name in ShardRow._fields)
    query = f"SELECT {names} FROM shards WHERE job_id = ? AND state <> 'replaced' ORDER BY id"
    return [ShardRow(*row) for row in conn.execute(query, (job_id,))]


def errors(conn: Connection, shard_id: int) -> list[tuple[int, int]]:
    """Return offset and length of the damages of a file that are kept, in order."""
    query = 'SELECT "offset", length FROM shard_errors WHERE shard_id = ? ORDER BY 1'
    return [(row[0], row[1]) for row in conn.execute(query, (shard_id,))]


def tags(conn: Connection, job_id: int) -> list[TagRow]:
    """Return the series of a job, in the order in which they were first seen."""
    query = f"SELECT {', '.join(TagRow._fields)} FROM tags WHERE job_id = ? ORDER BY id"
    return [TagRow(*row) for row in conn.execute(query, (job_id,))]


def segments(conn: Connection, job_id: int) -> list[SegmentRow]:
    """Return the stretches of a job's series, each series' in load order."""
    columns = ", ".join(f"g.{name}" for name in (*SegmentRow._fields[:-1], "count"))
    query = f"SELECT {columns} FROM tag_segments g JOIN tags t ON t.id = g.tag_id WHERE t.job_id = ? ORDER BY 1, 2"
    return [SegmentRow(*row) for row in conn.execute(query, (job_id,))]


def points_of_run(conn: Connection, tag_id: int, first: int, last: int, seq: int) -> list[Point]:
    """Return the points of a tag with this seq and a step from first to last, in order."""
    query = (
        "SELECT step, seq, wall_time, value FROM tensor_points "
        "WHERE tag_id = ? AND step BETWEEN ? AND ? AND seq = ? ORDER BY step"
    )
    return [tuple(row) for row in conn.execute(query, (tag_id, first, last, seq))]


def points_at(conn: Connection, tag_id: int, steps: Sequence[int], seqs: tuple[int, int]) -> list[Point]:
    """Return the points of a tag at these distinct steps with a seq in this range, by step, then seq."""
    rows: list[Point] = []
    for values in _values(steps):
        query = (
            f"SELECT p.step, p.seq, p.wall_time, p.value FROM (VALUES {values}) AS v "
            "CROSS JOIN tensor_points p WHERE p.tag_id = ? AND p.step = v.column1 AND p.seq BETWEEN ? AND ?"
        )
        rows += [tuple(row) for row in conn.execute(query, (tag_id, *seqs))]
    rows.sort(key=lambda row: row[:2])
    return rows


def points_outside(conn: Connection, tag_id: int, limit: int) -> list[Point]:
    """Return points of a tag that lie in no stretch of it."""
    query = (
        "SELECT p.step, p.seq, p.wall_time, p.value FROM tensor_points p WHERE p.tag_id = ? AND NOT EXISTS ("
        "SELECT 1 FROM tag_segments g WHERE g.tag_id = p.tag_id AND (p.seq, p.step) >= (g.first_seq, g.first_step) "
        "AND (p.seq, p.step) <= (g.last_seq, g.last_step)) LIMIT ?"
    )
    return [tuple(row) for row in conn.execute(query, (tag_id, limit))]


def payloads_at(conn: Connection, tag_id: int, keys: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Yield the rows of blobs.COLUMNS of points, given by step and seq."""
    columns = ", ".join(f'p."{name}"' for name in blobs.COLUMNS)
    yield from _at(conn, "blobs", columns, tag_id, keys)


def rows_at(
    conn: Connection, table: str, columns: Sequence[str], tag_id: int, keys: Sequence[tuple[int, int]]
) -> Iterator[Row]:
    """Yield step, seq and `columns` of the rows that a table of a kind's own has of points."""
    yield from _at(conn, table, ", ".join(f'p."{name}"' for name in ("step", "seq", *columns)), tag_id, keys)


def _at(conn: Connection, table: str, columns: str, tag_id: int, keys: Sequence[tuple[int, int]]) -> Iterator[Row]:
    for start in range(0, len(keys), _STEPS):
        values = ", ".join(f"({_big(step)}, {int(seq)})" for step, seq in keys[start : start + _STEPS])
        yield from conn.execute(
            f"SELECT {columns} FROM (VALUES {values}) AS v CROSS JOIN {table} p "
            "WHERE p.tag_id = ? AND p.step = v.column1 AND p.seq = v.column2",
            (tag_id,),
        )


def _values(steps: Sequence[int]) -> Iterator[str]:
    for start in range(0, len(steps), _STEPS):
        yield ", ".join(f"({_big(step)})" for step in steps[start : start + _STEPS])


def _big(step: int) -> str:
    """Return a step as both databases read it: the smallest has no literal of its own, small ones are 32 bits wide."""
    number = int(step)
    literal = f"({number + 1} - 1)" if number == -(2**63) else str(number)
    return f"CAST({literal} AS bigint)"
