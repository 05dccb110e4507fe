"""Statements of a job that is read again: wishes, rows on their way out of its shadow, and the exchange.

The shadow is a database of its own with that job alone (see indexer.ingest.reload). Its points go into the tables
under ids that no row of `tags` has, so that nobody sees them before the exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from indexer.db import bulk, explain, facts, retention, write
from indexer.db.connection import Connection, among
from indexer.db.dialect import POSTGRESQL
from indexer.errors import Report, Retry
from indexer.types import Rows, ShardState

EXPLAIN_TABLES = (
    "explain_files",  # first: the others refer to it
    "explain_records",
    "explain_labels",
    "explain_methods",
    "explain_samples",
    "explain_inferences",
    "explain_saliency",
    "explain_hoc",
    "explain_benchmarks",
)
ROWS_AT_ONCE = 50_000
"""Of points, copied in one transaction."""

_PAYLOADS_AT_ONCE = 500
_KEPT_SECONDS = 86_400.0  # what became of a wish is told for so long


# Wishes -------------------------------------------------------------------------------------------------------------
class Wish(NamedTuple):
    """A job is to be read again; with `file`, as stored, only that one of its files."""

    id: int
    job_id: int
    file: str | None


def ask(conn: Connection, job_id: int, file: str | None, now: float) -> int:
    """Note a wish; return its number."""
    conn.execute("DELETE FROM reindexes WHERE finished_at < ?", (now - _KEPT_SECONDS,))
    insert = "INSERT INTO reindexes (job_id, file, requested_at) VALUES (?, ?, ?) RETURNING id"
    return int(conn.value(insert, (job_id, file, now)))


def wishes(conn: Connection) -> list[Wish]:
    """Return the wishes that nobody fulfilled yet, oldest first."""
    query = "SELECT id, job_id, file FROM reindexes WHERE finished_at IS NULL ORDER BY id"
    return [Wish._make(row) for row in conn.execute(query)]


def outcome(conn: Connection, wish: int) -> tuple[bool, str | None]:
    """Return whether a wish has come to its end, and what was wrong, if anything."""
    row = conn.execute("SELECT finished_at, error FROM reindexes WHERE id = ?", (wish,)).fetchone()
    if row is None:
        return True, "the job was pruned meanwhile"
    return row[0] is not None, row[1]


def finish(conn: Connection, wish: int, now: float, error: str | None = None) -> None:
    """Say that a wish came to its end."""
    statement = "UPDATE reindexes SET finished_at = ?, error = ? WHERE id = ? AND finished_at IS NULL"
    conn.execute(statement, (now, error, wish))


def hold(conn: Connection, wish: int, tag_id: int | None = None) -> None:
    """See that a wish stays open until the transaction ends, and `tag_id` reserved for it.

    What is written under an id that is not reserved any more nobody would ever sweep. Report where the wish came to its
    end, Retry where somebody else has taken it up.
    """
    share = " FOR SHARE" if conn.dialect == POSTGRESQL else ""  # SQLite has one writer at a time
    row = conn.execute(f"SELECT finished_at, error FROM reindexes WHERE id = ?{share}", (wish,)).fetchone()
    if row is None:
        raise Report("the job was pruned meanwhile")
    if row[0] is not None:
        raise Report(row[1] or "another indexer read the job again")
    reserved = f"SELECT 1 FROM loose_tags WHERE tag_id = ? AND reindex_id = ?{share}"
    if tag_id is not None and conn.execute(reserved, (tag_id, wish)).fetchone() is None:
        raise Retry("another indexer began to read the job again; it goes on there")


def give_up(conn: Connection, wish: int, now: float) -> None:
    """Have the points swept that an earlier attempt at a wish has left."""
    conn.execute("UPDATE loose_tags SET reindex_id = NULL, sweep_after = ? WHERE reindex_id = ?", (now, wish))


# Rows on their way --------------------------------------------------------------------------------------------------
Names = Mapping[str, Mapping[int, int]]
"""By column: ids in the shadow → ids in the tables."""


def columns(conn: Connection, table: str) -> tuple[str, ...]:
    """Return the columns of a table."""
    found: Any = conn.execute(f"SELECT * FROM {table} LIMIT 0")
    return tuple(column[0] for column in found.description)


def read(
    conn: Connection, table: str, where: str, names: Names, *, at_once: int = _PAYLOADS_AT_ONCE
) -> Iterator[tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Yield columns and rows of a shadow's table as the real one takes them, so many rows at once."""
    listed = columns(conn, table)
    key = f" ORDER BY {', '.join(listed[:3])}" if listed[0] == "tag_id" else ""
    rows = iter(conn.execute(f"SELECT * FROM {table} WHERE {where}{key}"))
    renamed = [(place, names[name]) for place, name in enumerate(listed) if name in names]
    while part := list(islice(rows, at_once)):
        yield listed, [_renamed(row, renamed) for row in part]


def _renamed(row: Sequence[Any], renamed: Sequence[tuple[int, Mapping[int, int]]]) -> tuple[Any, ...]:
    values = list(row)
    for place, ids in renamed:
        if values[place] is not None:
            values[place] = ids[values[place]]
    return tuple(values)


def insert(conn: Connection, table: str, listed: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows; a duplicate key is a bug and raises."""
    if not rows:
        return
    quoted = ", ".join(f'"{name}"' for name in listed)
    if conn.dialect == POSTGRESQL:  # as text: what is 0 or 1 in the shadow may be a boolean here
        with conn.raw.cursor() as cursor, cursor.copy(f"COPY {table} ({quoted}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    conn.many(f"INSERT INTO {table} ({quoted}) VALUES ({', '.join('?' * len(listed))})", rows)


def reserve(conn: Connection, wish: int, tags: Iterable[tuple[int, int]], now: float) -> None:
    """Note ids, with their numbers of points, under which those of a shadow come into the tables."""
    statement = "INSERT INTO loose_tags (tag_id, row_count, sweep_after, reindex_id) VALUES (?, ?, ?, ?)"
    conn.many(statement, [(tag_id, count, now, wish) for tag_id, count in tags])


def forget_rollups(conn: Connection, tag_ids: Iterable[int]) -> None:
    """Delete buckets of tags."""
    conn.execute(f"DELETE FROM point_rollups WHERE tag_id IN ({among(tag_ids)})")


class Mirror(NamedTuple):
    """The job of a shadow: what reading its files decides."""

    id: int
    point_count: int
    start_time: float | None
    update_time: float | None
    create_time: float | None
    bytes_on_disk: int
    bytes_indexed: int
    last_error: str | None


def mirror(conn: Connection) -> Mirror:
    """Return the only job of a shadow."""
    return Mirror._make(conn.execute(f"SELECT {', '.join(Mirror._fields)} FROM jobs").fetchone())


class TagState(NamedTuple):
    """How far a tag of a shadow has come."""

    points: int
    seq: int  # of the last point
    step: int | None


def tag_states(conn: Connection) -> dict[int, TagState]:
    """Return the tags of a shadow, by id."""
    query = "SELECT id, point_count, seq, last_step FROM tags ORDER BY id"
    return {row[0]: TagState._make(row[1:]) for row in conn.execute(query).fetchall()}


def points(conn: Connection, where: str) -> Iterator[Rows]:
    """Yield points of a shadow, so many at once."""
    query = f"SELECT tag_id, step, seq, wall_time, value FROM tensor_points WHERE {where} ORDER BY tag_id, step, seq"
    rows = iter(conn.execute(query))
    while len(part := np.fromiter(islice(rows, ROWS_AT_ONCE), _POINT)):
        yield Rows(**{name: np.ascontiguousarray(part[name]) for name in bulk.COLUMNS})


_POINT = np.dtype([("tag_id", "i4"), ("step", "i8"), ("seq", "i4"), ("wall_time", "f8"), ("value", "f8")])


# Files that are not read again --------------------------------------------------------------------------------------
def stretches(conn: Connection, shard: write.ShardRow) -> dict[int, list[tuple[int, int, int, int]]]:
    """Return what each tag has from a file: first_seq, first_step, last_seq, last_step of each segment, in order."""
    found: dict[int, list[tuple[int, int, int, int]]] = {}
    table = "kept_segments" if shard.kept else "tag_segments"
    query = (
        f"SELECT tag_id, first_seq, first_step, last_seq, last_step FROM {table} WHERE shard_id = ? "
        "ORDER BY tag_id, ordinal"
    )
    for tag_id, *segment in conn.execute(query, (shard.id,)).fetchall():
        found.setdefault(tag_id, []).append(tuple(segment))
    return found


def starts(conn: Connection, shard: write.ShardRow) -> dict[int, list[tuple[int, int]]]:
    """Return the session starts in a file that superseded points, by tag: seq and step, in order."""
    found: dict[int, list[tuple[int, int]]] = {}
    table = "kept_starts WHERE" if shard.kept else "restarts WHERE cause = 'session_start' AND"
    query = f"SELECT tag_id, seq, step FROM {table} shard_id = ? ORDER BY tag_id, seq"
    for tag_id, seq, step in conn.execute(query, (shard.id,)).fetchall():
        found.setdefault(tag_id, []).append((seq, step))
    return found


def extent(conn: Connection, tag_id: int) -> tuple[int, int]:
    """Return how many points there are under an id, also where they are aside, and the bytes of their payloads.

    At least one byte for each kind of payload there is.
    """
    if tag_id > 0:
        points = conn.value("SELECT point_count FROM tags WHERE id = ?", (tag_id,))
        sizes = conn.execute("SELECT bytes FROM blob_counts WHERE tag_id = ?", (tag_id,)).fetchall()
    else:  # nothing is counted of them
        points = conn.value("SELECT count(*) FROM tensor_points WHERE tag_id = ?", (tag_id,))
        sizes = conn.execute("SELECT sum(length) FROM blobs WHERE tag_id = ? GROUP BY kind", (tag_id,)).fetchall()
    return int(points), sum(max(1, int(row[0])) for row in sizes)


def in_load_order(
    conn: Connection, tag_id: int, segment: tuple[int, int, int, int], limit: int
) -> Iterator[retention.Rows]:
    """Yield the points of a segment in load order, at most `limit` at once."""
    seq, step, last_seq, last_step = segment
    step -= step > -(2**63)  # those behind it
    query = (
        "SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = ? "
        "AND (seq > ? OR (seq = ? AND step > ?)) AND (seq < ? OR (seq = ? AND step <= ?)) "
        f"ORDER BY seq, step LIMIT {int(limit)}"
    )
    while True:
        bounds = (tag_id, seq, seq, step, last_seq, last_seq, last_step)
        found = np.fromiter(conn.execute(query, bounds), retention.POINT)
        if len(found):
            yield found
            step, seq = int(found["step"][-1]), int(found["seq"][-1])
        if len(found) < limit:
            return


def payload_rows(
    conn: Connection, table: str, listed: Sequence[str], tag_id: int, first_step: int, last_step: int
) -> list[tuple[Any, ...]]:
    """Return rows of a table of payloads, of the points of a tag between two steps, both included."""
    quoted = ", ".join(f'"{name}"' for name in listed)
    query = f"SELECT {quoted} FROM {table} WHERE tag_id = ? AND step >= ? AND step <= ? ORDER BY step, seq"
    return [tuple(row) for row in conn.execute(query, (tag_id, first_step, last_step))]


def lineage_states(conn: Connection, shard_ids: Iterable[int]) -> list[tuple[int, str]]:
    """Return what lineage files come to, by file."""
    query = f"SELECT shard_id, state FROM lineage_files WHERE shard_id IN ({among(shard_ids)})"
    return [(row[0], row[1]) for row in conn.execute(query).fetchall()]


# The exchange -------------------------------------------------------------------------------------------------------
class Exchange(NamedTuple):
    """What takes the place of what."""

    wish: int
    job_id: int
    shadow_job_id: int
    tags: Mapping[int, int]  # ids in the shadow → ids in the tables
    shards: Mapping[int, int]
    same: frozenset[int]  # files, by their ids in the shadow, that were not read again
    gone: frozenset[int]  # of them those that are not on disk


def exchange(
    conn: Connection, shadow: Connection, what: Exchange, now: float, latest: Callable[[list[tuple[int, str]]], int]
) -> int:
    """Put what a shadow holds in place of what the tables hold of a job; return the revision.

    All points are in the tables already; what was there before becomes loose.  latest: chooses of the explain files of
    a job, given as (shard_id, name).
    """
    job_id = what.job_id
    names: Names = {
        "tag_id": what.tags,
        "shard_id": what.shards,
        "job_id": {what.shadow_job_id: job_id},
    }
    retention.loosen(conn, now + retention.GRACE_SECONDS, job_id=job_id)
    facts.forget(conn, job_id)
    others = [row for row in write.shards_of(conn, [job_id]) if row.id not in set(what.shards.values())]
    # A file that came, or got another name, when the shadow was looked at last: its points are loose with the others.
    unknown = [row.id for row in others if row.cursor]
    nothing = [row.id for row in others if not row.cursor and row.state == ShardState.MISSING]
    conn.execute(f"DELETE FROM shards WHERE id IN ({among(nothing)})")
    write.update_shards(conn, [{"id": shard_id, **write.UNREAD, "state": "growing"} for shard_id in unknown])
    write.forget_errors(conn, unknown)
    conn.execute(f"DELETE FROM explain_files WHERE shard_id IN ({among(unknown)})")
    read_again = {shadow_id: real for shadow_id, real in what.shards.items() if shadow_id not in what.same}
    real_ids = among(read_again.values())
    conn.execute(f"DELETE FROM explain_files WHERE shard_id IN ({real_ids})")
    write.forget_errors(conn, list(read_again.values()))
    for listed, rows in read(shadow, "tags", f"job_id = {what.shadow_job_id}", {**names, "id": what.tags}):
        insert(conn, "tags", listed, rows)
    conn.execute(
        f"DELETE FROM loose_tags WHERE reindex_id = ? AND tag_id IN ({among(what.tags.values())})", (what.wish,)
    )
    for table in ("restarts", "tag_segments", "blob_counts"):
        _move(conn, shadow, table, f"tag_id IN ({among(what.tags)})", names)
    on_disk = among(what.shards.keys() - what.gone)
    for listed, rows in read(shadow, "shards", f"id IN ({on_disk})", {"id": what.shards}):
        write.update_shards(conn, [_without(dict(zip(listed, row, strict=True))) for row in rows])
    _move(conn, shadow, "shard_errors", f"shard_id IN ({among(read_again)})", names)
    for table in facts.TABLES:
        _move(conn, shadow, table, f"job_id = {what.shadow_job_id}", names)
    for table in EXPLAIN_TABLES:
        _move(conn, shadow, table, f"shard_id IN ({among(read_again)})", names)
    if files := explain.files_of(conn, job_id):
        explain.set_latest(conn, job_id, latest(files))
    finish(conn, what.wish, now)
    return write.bump(conn)


def _move(conn: Connection, shadow: Connection, table: str, where: str, names: Names) -> None:
    for listed, rows in read(shadow, table, where, names):
        insert(conn, table, listed, rows)


def _without(shard: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a shard that reading it decides."""
    return {name: value for name, value in shard.items() if name not in {"job_id", "name", "generation"}}
