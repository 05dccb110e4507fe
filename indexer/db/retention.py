"""Statements of what leaves the database: jobs, tags, points; and how others write beside an indexer.

A point is seen through its tag only, so deleting the row of the tag makes all of it invisible at once; the id goes
into `loose_tags`, and its points are deleted by and by. Decision: docs/decisions/0023-loose-tags.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from indexer.config import Root
from indexer.db import bulk
from indexer.db.connection import Connection, Database, among, transaction
from indexer.db.dialect import POSTGRESQL
from indexer.errors import Retry
from indexer.text import key, show, store

GRACE_SECONDS = 60.0
"""Points that nobody can find any more stay for so long, for whoever is sending them just now."""

SWEEP_ROWS = 50_000
"""Deleted in one transaction."""

_SWEEP_TAGS = 1_000
_SWEEP_PAYLOADS = 500
_BYTES_A_ROW = 1_000  # of payloads: as long to delete as a point
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_SILENT_SECONDS = 30.0  # an indexer that said nothing for so long is gone

T = TypeVar("T")


class JobFound(NamedTuple):
    """A job as rules look at it; text as it is shown."""

    id: int
    root_id: int
    root: str
    train_id: str
    update_time: float | None
    missing_since: float | None
    point_count: int


class TagFound(NamedTuple):
    """A tag as rules look at it; text as it is shown."""

    id: int
    job_id: int
    plugin: str
    name: str
    data_class: str
    point_count: int
    blob_bytes: int  # decoded


# Writing beside an indexer ------------------------------------------------------------------------------------------
@contextmanager
def outside(database: Database) -> Iterator[tuple[Connection, int]]:
    """Open a transaction that may change what indexers remember; yield it, and the revision of what changes.

    Indexers meet the raised counter in their next transaction, drop what they were about to write, and read the tables
    again. It is raised first: on PostgreSQL that is a lock, so that no indexer commits in between.
    """
    with transaction(database) as conn:
        statement = (
            "UPDATE index_state SET outside_writes = outside_writes + 1, change_counter = change_counter + 1 "
            "RETURNING change_counter"
        )
        yield conn, int(conn.value(statement))


def patiently(step: Callable[[], T], *, sleep: Callable[[float], None] = time.sleep) -> T:
    """Do `step`; where the database is busy, do it again, for a minute at most."""
    waited, pause = 0.0, _PAUSE_SECONDS
    while True:
        try:
            return step()
        except Retry:
            if waited >= _PATIENCE_SECONDS:
                raise
        sleep(pause)
        waited, pause = waited + pause, min(2 * pause, 1.0)


# What there is ------------------------------------------------------------------------------------------------------
_JOBS = (
    "SELECT j.id, j.root_id, r.name, j.train_id, j.update_time, j.missing_since, j.point_count "
    "FROM jobs j JOIN roots r ON r.id = j.root_id"
)


def jobs(conn: Connection, ids: Iterable[int] | None = None) -> list[JobFound]:
    """Return all jobs, or those with these ids, by id."""
    some = "" if ids is None else f" WHERE j.id IN ({among(ids)})"
    return [_job(row) for row in conn.execute(f"{_JOBS}{some} ORDER BY j.id")]


def named(conn: Connection, reference: str) -> list[JobFound]:
    """Return the jobs that an id, a train_id, or `root:train_id` names."""
    if reference.isascii() and reference.isdigit():
        return jobs(conn, [int(reference)]) if len(reference) < 10 else []
    root, train_id = split(reference)
    rows = conn.execute(f"{_JOBS} WHERE j.train_key = ? ORDER BY j.id", (key(store(train_id)),))
    return [found for found in map(_job, rows) if root in {None, found.root}]


def split(reference: str) -> tuple[str | None, str]:
    """Return root (None: not said) and train_id of a reference."""
    root, found, rest = reference.partition(":./")
    return (root, f"./{rest}") if found and not reference.startswith("./") else (None, reference)


def tags(conn: Connection, job_ids: Iterable[int]) -> list[TagFound]:
    """Return the tags of jobs, by id."""
    query = (
        "SELECT t.id, t.job_id, t.plugin, t.name, t.data_class, t.point_count, "
        "(SELECT coalesce(sum(c.bytes), 0) FROM blob_counts c WHERE c.tag_id = t.id) "
        f"FROM tags t WHERE t.job_id IN ({among(job_ids)}) ORDER BY t.id"
    )
    return [
        TagFound(row[0], row[1], show(row[2]), show(row[3]), row[4], row[5], int(row[6])) for row in conn.execute(query)
    ]


def sums(conn: Connection, job_ids: Iterable[int]) -> tuple[int, int, int]:
    """Return how many tags, points and bytes of payloads (decoded) jobs have."""
    chosen = among(job_ids)
    ((count, points),) = conn.execute(
        f"SELECT count(*), coalesce(sum(point_count), 0) FROM tags WHERE job_id IN ({chosen})"
    ).fetchall()
    size = conn.value(
        "SELECT coalesce(sum(c.bytes), 0) FROM blob_counts c JOIN tags t ON t.id = c.tag_id "
        f"WHERE t.job_id IN ({chosen})"
    )
    return int(count), int(points), int(size)


def root(conn: Connection, root_id: int) -> Root:
    """Return a root as it was when it was last indexed."""
    ((name, path, named),) = conn.execute("SELECT name, path, named FROM roots WHERE id = ?", (root_id,)).fetchall()
    return Root(show(name), Path(show(path)), bool(named))


def status(conn: Connection, job_id: int) -> str | None:
    """Return the cache_status of a job, None where it is gone."""
    row = conn.execute("SELECT cache_status FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else str(row[0])


def indexer_lives(conn: Connection, now: float) -> bool:
    """Tell whether an indexer was heard of lately, and has not said that it ended."""
    query = "SELECT count(*) FROM indexers WHERE state <> 'stopped' AND heartbeat > ?"
    return bool(conn.value(query, (now - _SILENT_SECONDS,)))


def _job(row: Any) -> JobFound:
    return JobFound(row[0], row[1], show(row[2]), show(row[3]), *row[4:])


# Jobs and tags go ---------------------------------------------------------------------------------------------------
def loosen(conn: Connection, sweep_after: float, *, job_id: int | None = None, tag_ids: Iterable[int] = ()) -> None:
    """Delete the rows of tags: all of a job, or these. Their points wait for `sweep`, at `sweep_after` or later.

    So do those that are aside under minus its id (see indexer.db.kept): nobody will put them back.
    """
    which = f"id IN ({among(tag_ids)})" if job_id is None else f"job_id = {int(job_id)}"
    conn.execute(
        "INSERT INTO loose_tags (tag_id, row_count, sweep_after) SELECT id, point_count + "
        f"(SELECT coalesce(sum(c.bytes), 0) / {_BYTES_A_ROW} FROM blob_counts c WHERE c.tag_id = tags.id), "
        f"CAST(? AS DOUBLE PRECISION) FROM tags WHERE {which}",
        (sweep_after,),
    )
    conn.execute(
        "INSERT INTO loose_tags (tag_id, row_count, sweep_after) SELECT -k.tag_id, sum(k.count) + "
        f"(SELECT coalesce(sum(b.length), 0) / {_BYTES_A_ROW} FROM blobs b WHERE b.tag_id = -k.tag_id), "
        "CAST(? AS DOUBLE PRECISION) FROM kept_segments k "
        f"WHERE k.tag_id IN (SELECT id FROM tags WHERE {which}) GROUP BY k.tag_id",
        (sweep_after,),
    )
    conn.execute(f"DELETE FROM tags WHERE {which}")


def drop_job(conn: Connection, job_id: int, now: float) -> None:
    """Delete a job with all its rows; where its files are on disk, remember that scans are to pass over it."""
    loosen(conn, now, job_id=job_id)
    conn.execute(
        "INSERT INTO pruned_jobs (root_id, train_key, train_id, pruned_at) "
        "SELECT root_id, train_key, train_id, CAST(? AS DOUBLE PRECISION) FROM jobs "
        "WHERE id = ? AND missing_since IS NULL ON CONFLICT DO NOTHING",
        (now, job_id),
    )
    conn.execute("DELETE FROM jobs WHERE id = ?", (job_id,))


def drop_tags(conn: Connection, job_id: int, tag_ids: Iterable[int], now: float, revision: int) -> None:
    """Delete tags of a job with their points; what its files hold of them is not read again."""
    loosen(conn, now, tag_ids=tag_ids)
    note_pruned(conn, job_id, now, revision)


def note_pruned(conn: Connection, job_id: int, now: float, revision: int) -> None:
    """Say in a job's row that something of it was pruned, and how many points its tags have now."""
    points = "SELECT coalesce(sum(t.point_count), 0) FROM tags t WHERE t.job_id = jobs.id"
    statement = f"UPDATE jobs SET point_count = ({points}), pruned_at = ?, revision = ? WHERE id = ?"
    conn.execute(statement, (now, revision, job_id))


def pruned(conn: Connection, root_id: int) -> set[str]:
    """Return the train_ids of a root that scans pass over."""
    return {show(row[0]) for row in conn.execute("SELECT train_id FROM pruned_jobs WHERE root_id = ?", (root_id,))}


def restore(conn: Connection, root: str | None, train_id: str) -> list[int]:
    """Forget that a job was pruned; return the ids of the roots where it was."""
    query = "SELECT p.root_id, r.name FROM pruned_jobs p JOIN roots r ON r.id = p.root_id WHERE p.train_key = ?"
    train_key = key(store(train_id))
    found = [int(row[0]) for row in conn.execute(query, (train_key,)) if root in {None, show(row[1])}]
    conn.execute(f"DELETE FROM pruned_jobs WHERE train_key = ? AND root_id IN ({among(found)})", (train_key,))
    return found


# Points go ----------------------------------------------------------------------------------------------------------
def loose(conn: Connection) -> bool:
    """Tell whether there are points to sweep, now or later."""
    return conn.execute("SELECT 1 FROM loose_tags LIMIT 1").fetchone() is not None


def sweep(database: Database, now: float) -> bool:
    """Delete some points of tags that are gone, in one transaction; tell whether it found any.

    Those of a job that is being read again stay until that ended.
    """
    query = (
        "SELECT tag_id, row_count FROM loose_tags WHERE sweep_after <= ? AND (reindex_id IS NULL OR reindex_id NOT IN "
        f"(SELECT id FROM reindexes WHERE finished_at IS NULL)) ORDER BY tag_id LIMIT {_SWEEP_TAGS}"
    )
    with transaction(database) as conn:
        if bulk.index_missing(conn):
            return False  # every look-up would read the whole table; whoever loads builds the index soon
        waiting = conn.execute(query, (now,)).fetchall()
        chosen: list[int] = []
        room = SWEEP_ROWS
        for tag_id, rows in waiting:
            room -= rows
            if room < 0:
                break
            chosen.append(tag_id)
        if chosen:
            for table in _point_tables():
                conn.execute(f"DELETE FROM {table} WHERE tag_id IN ({among(chosen)})")
        elif waiting:
            large = int(waiting[0][0])
            left = [table for table in _point_tables() if not _delete_some(conn, table, large)]
            chosen = [] if left else [large]
        if chosen:
            conn.execute(f"DELETE FROM loose_tags WHERE tag_id IN ({among(chosen)})")
    return bool(waiting)


def _point_tables() -> list[str]:
    """Return all tables whose rows are a tag's and know no foreign key."""
    from indexer.plugins import TABLES  # the kinds are rarely needed, and cost every start 50 ms

    return ["tensor_points", "point_rollups", "blobs", *(table.name for table in TABLES)]


def _delete_some(conn: Connection, table: str, tag_id: int) -> bool:
    """Delete the first rows of a tag; tell whether those were all."""
    if table == "point_rollups":
        conn.execute(f"DELETE FROM {table} WHERE tag_id = ?", (tag_id,))
        return True
    most = SWEEP_ROWS if table in {"tensor_points", "histogram_stats", "tensor_stats"} else _SWEEP_PAYLOADS
    ends = f"SELECT step, seq FROM {table} WHERE tag_id = ? ORDER BY step, seq LIMIT 1 OFFSET {most}"
    end = conn.execute(ends, (tag_id,)).fetchone()
    if end is None:
        conn.execute(f"DELETE FROM {table} WHERE tag_id = ?", (tag_id,))
        return True
    conn.execute(
        f"DELETE FROM {table} WHERE tag_id = ? AND (step < ? OR (step = ? AND seq <= ?))",
        (tag_id, end[0], end[0], end[1]),
    )
    return False


# Some points of a series go -----------------------------------------------------------------------------------------
Rows = npt.NDArray[np.void]  # of POINT
POINT = np.dtype([("step", "i8"), ("seq", "i8"), ("wall_time", "f8"), ("value", "f8")])
Place = tuple[int, int]
"""step, seq."""
_FINITE = "value BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308"


def point_count(conn: Connection, tag_id: int) -> int | None:
    """Return how many points a tag has; None where it is gone."""
    row = conn.execute("SELECT point_count FROM tags WHERE id = ?", (tag_id,)).fetchone()
    return None if row is None else int(row[0])


def count_old(conn: Connection, tag_id: int, before: float) -> int:
    """Return how many finite points of a tag were written before a time."""
    query = f"SELECT count(*) FROM tensor_points WHERE tag_id = ? AND wall_time < ? AND {_FINITE}"
    return int(conn.value(query, (tag_id, before)))


def corners(conn: Connection, tag_id: int) -> set[Place]:
    """Return the points of a tag that its statistics, restarts and segments speak of.

    First and last of each stretch in which steps increase, ends of segments, the newest by the clock, and the last
    that a restart left current.
    """
    places: set[Place] = set()
    stretches = "SELECT seq, min(step), max(step) FROM tensor_points WHERE tag_id = ? GROUP BY seq"
    for seq, low, high in conn.execute(stretches, (tag_id,)).fetchall():
        places |= {(low, seq), (high, seq)}
    segments = "SELECT first_step, first_seq, last_step, last_seq FROM tag_segments WHERE tag_id = ?"
    for row in conn.execute(segments, (tag_id,)).fetchall():
        places |= {(row[0], row[1]), (row[2], row[3])}
    newest = (
        "SELECT step, seq FROM tensor_points WHERE tag_id = ? "
        "AND wall_time = (SELECT max_wall_time FROM tags WHERE id = ?) ORDER BY step, seq LIMIT 1"
    )
    places |= {(row[0], row[1]) for row in conn.execute(newest, (tag_id, tag_id))}
    before = (
        "SELECT step, seq FROM tensor_points WHERE tag_id = ? AND step < ? AND seq < ? "
        "ORDER BY step DESC, seq DESC LIMIT 1"
    )
    for step, seq in conn.execute("SELECT step, seq FROM restarts WHERE tag_id = ?", (tag_id,)).fetchall():
        places |= {(row[0], row[1]) for row in conn.execute(before, (tag_id, step, seq))}
    return places


def page(conn: Connection, tag_id: int, below: Place | None, limit: int) -> Rows:
    """Return the last points of a tag below a place, by (step, seq); NULL is NaN."""
    limits = "" if below is None else f" AND (step, seq) < (CAST({below[0]} AS BIGINT), {below[1]})"
    found = conn.execute(
        f"SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = ?{limits} "
        f"ORDER BY step DESC, seq DESC LIMIT {int(limit)}",
        (tag_id,),
    )
    return np.fromiter(found, POINT)[::-1]


def replace_points(conn: Connection, tag_id: int, rows: Rows, kept: npt.NDArray[np.bool_]) -> None:
    """Delete of consecutive points of a tag those that are not `kept`, shape (n,): in the table, and where counted."""
    first, last = rows[0], rows[-1]
    conn.execute(
        "DELETE FROM tensor_points WHERE tag_id = ? AND (step, seq) >= (?, ?) AND (step, seq) <= (?, ?)",
        (tag_id, int(first["step"]), int(first["seq"]), int(last["step"]), int(last["seq"])),
    )
    left = rows[kept]
    columns: dict[str, npt.NDArray[Any]] = {
        "tag_id": np.full(len(left), tag_id, np.int32),
        "step": np.ascontiguousarray(left["step"]),
        "seq": left["seq"].astype(np.int32),
        "wall_time": np.ascontiguousarray(left["wall_time"]),
        "value": np.ascontiguousarray(left["value"]),
    }
    bulk.append(conn, "tensor_points", columns)
    gone = rows[~kept]
    conn.execute("UPDATE tags SET point_count = point_count - ? WHERE id = ?", (len(gone), tag_id))
    segments = conn.execute(
        "SELECT ordinal, first_step, first_seq FROM tag_segments WHERE tag_id = ? ORDER BY ordinal", (tag_id,)
    ).fetchall()
    if segments:
        lost = np.bincount(_segments_of(segments, gone), minlength=len(segments)).tolist()
        fewer = "UPDATE tag_segments SET count = count - ? WHERE tag_id = ? AND ordinal = ?"
        conn.many(fewer, [(n, tag_id, row[0]) for n, row in zip(lost, segments, strict=True) if n])


def _segments_of(segments: Sequence[Any], points: Rows) -> npt.NDArray[np.int64]:
    """Return the index of each point's segment: in load order, that is by (seq, step), they follow each other."""
    starts = np.array([(row[1], row[2]) for row in segments], np.int64).reshape(-1, 2)
    step = np.concatenate([starts[:, 0], points["step"]])
    seq = np.concatenate([starts[:, 1], points["seq"]])
    is_point = np.repeat([0, 1], [len(starts), len(points)])
    order = np.lexsort((is_point, step, seq))
    index = np.empty(len(order), np.int64)
    index[order] = np.cumsum(is_point[order] == 0) - 1
    return index[len(starts) :]


# Space --------------------------------------------------------------------------------------------------------------
def vacuum(database: Database) -> None:
    """Give free pages back to the disk. SQLite writes the file anew: as much space again is needed meanwhile."""
    conn = database.connect()
    if database.dialect == POSTGRESQL:
        for table in (*_point_tables(), "tags", "jobs", "shards", "loose_tags"):
            conn.execute(f"VACUUM {table}")
        return
    conn.execute("VACUUM")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
