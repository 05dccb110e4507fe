"""Points whose files are gone, while their job is read again: set aside, and put back where their file belongs.

A job is read again when one of its files is replaced. What came from files that are gone cannot be read again, so it
stays: its rows wait under minus their tag's id, where nobody looks, and `kept_segments` tells which file each stretch
is from. Its turn comes in load order, like that of a file that is read. Within a stretch the numbering is the file's
own, so all of it moves by the same number: points never leave the database.
Decision: docs/decisions/0019-points-outlive-their-files.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Any

from indexer.db import bulk, explain, facts, rollups, write
from indexer.db.connection import Connection, among
from indexer.plugins import TABLES
from indexer.types import DataClass, RestartCause

_ROWS = ("tensor_points", "blobs", *(table.name for table in TABLES))
_WITHIN = "(seq, step) >= (?, ?) AND (seq, step) <= (?, ?)"
_STATISTICS = (
    *("first_step", "last_step", "min_step", "max_step", "first_wall_time", "last_wall_time", "max_wall_time"),
    *("last_value", "min_value", "max_value", "rolled_step"),
)
_COUNTS = ("point_count", "nan_count", "pos_inf_count", "neg_inf_count", "seq", "segments", "rolled_count")
_KEPT_TAGS = "SELECT tag_id FROM kept_segments UNION SELECT tag_id FROM kept_starts"
_COUNT_BLOBS = f"""INSERT INTO blob_counts (tag_id, kind, count, errors, bytes)
SELECT ?, kind, count(*), count(error), sum(length) FROM blobs WHERE tag_id = ? AND {_WITHIN} GROUP BY kind
ON CONFLICT (tag_id, kind) DO UPDATE SET count = blob_counts.count + excluded.count,
    errors = blob_counts.errors + excluded.errors, bytes = blob_counts.bytes + excluded.bytes"""

_CURRENT = f"""SELECT 1 FROM tensor_points p WHERE p.tag_id = ? AND p.step >= ? AND NOT EXISTS (
    SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id AND r.seq > p.seq AND r.step <= p.step
    AND r.cause <> '{RestartCause.SAME_FILE}') LIMIT 1"""
_BACK = f"""SELECT seq, low FROM (
    SELECT seq, min(step) AS low, lag(max(step)) OVER (ORDER BY seq) AS before
    FROM tensor_points WHERE tag_id = ? AND {_WITHIN} GROUP BY seq) AS runs WHERE low < before"""
_SUMS = f"""SELECT min(step), max(step), max(wall_time),
    min(CASE WHEN value < ? AND value > ? THEN value END), max(CASE WHEN value < ? AND value > ? THEN value END),
    count(*) - count(value), count(CASE WHEN value = ? THEN 1 END), count(CASE WHEN value = ? THEN 1 END)
    FROM tensor_points WHERE tag_id = ? AND {_WITHIN}"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A row of `kept_segments`."""

    tag_id: int
    first_step: int
    last_step: int
    first_seq: int
    last_seq: int
    count: int  # of points

    @property
    def within(self) -> tuple[int, int, int, int]:
        """The values of _WITHIN."""
        return self.first_seq, self.first_step, self.last_seq, self.last_step


def set_aside(conn: Connection, job_id: int, shard_ids: Sequence[int], order: Callable[[str], Any]) -> set[int]:
    """Forget all that is known of a job but what came from `shard_ids`; return those of them that have anything aside.

    order: the key by which files of a job are read, of their names.
    """
    for shard_id in sorted(_aside(conn, job_id)):  # still there from the last time: one numbering for all of it
        put_back(conn, job_id, shard_id, order)
    own, keep = "SELECT id FROM tags WHERE job_id = ?", among(shard_ids)
    columns = ", ".join(write.SEGMENT_COLUMNS)
    conn.execute(
        f"INSERT INTO kept_segments ({columns}) SELECT {columns} FROM tag_segments "
        f"WHERE shard_id IN ({keep}) AND tag_id IN ({own})",
        (job_id,),
    )
    conn.execute(
        "INSERT INTO kept_starts (tag_id, seq, step, shard_id) SELECT tag_id, seq, step, shard_id FROM restarts "
        f"WHERE cause = '{RestartCause.SESSION_START}' AND shard_id IN ({keep}) AND tag_id IN ({own})",
        (job_id,),
    )
    found = _stretches(conn, f"shard_id IN ({keep}) AND tag_id IN ({own})", (job_id,))
    for table in _ROWS:
        hidden = f"UPDATE {table} SET tag_id = -tag_id WHERE tag_id = ? AND {_WITHIN}"
        conn.many(hidden, [(stretch.tag_id, *stretch.within) for stretch in found])
    explain.forget(conn, job_id, but=shard_ids)
    facts.forget(conn, job_id, but=shard_ids)
    for table in (*_ROWS, "point_rollups", "restarts", "tag_segments", "blob_counts"):
        conn.execute(f"DELETE FROM {table} WHERE tag_id IN ({own})", (job_id,))
    conn.execute(f"DELETE FROM tags WHERE job_id = ? AND id NOT IN ({_KEPT_TAGS})", (job_id,))
    nothing = ", ".join([f"{name} = NULL" for name in _STATISTICS] + [f"{name} = 0" for name in _COUNTS])
    conn.execute(f"UPDATE tags SET {nothing} WHERE job_id = ?", (job_id,))
    facts.put_back(conn, job_id, [], order)
    explain.choose_latest(conn, job_id, order)
    return _aside(conn, job_id)


def put_back(conn: Connection, job_id: int, shard_id: int, order: Callable[[str], Any]) -> int:
    """Number what is aside of a file behind what its job has now; return how many points came back."""
    of = f"shard_id = {int(shard_id)}"
    stretches = _stretches(conn, of)
    starts: dict[int, list[tuple[int, int]]] = {}
    for tag_id, seq, step in conn.execute(f"SELECT tag_id, seq, step FROM kept_starts WHERE {of} ORDER BY tag_id, seq"):
        starts.setdefault(tag_id, []).append((seq, step))
    by_tag = {tag: list(some) for tag, some in groupby(stretches, key=lambda s: s.tag_id)}
    said: list[facts.Said] = []
    concerned = by_tag.keys() | starts.keys()
    for row in write.tags_of(conn, [job_id]):
        if row.id in concerned:
            tag = _Tag(conn, row, shard_id)
            pending = starts.get(row.id, [])
            for stretch in by_tag.get(row.id, ()):
                inner = dict(start for start in pending if stretch.first_seq < start[0] <= stretch.last_seq)
                before = [step for seq, step in pending if seq <= stretch.first_seq]
                pending = [start for start in pending if start[0] > stretch.last_seq]
                tag.start(before)
                said += tag.add(stretch, inner)
            tag.start([step for _, step in pending])
            tag.write()
    conn.execute(f"DELETE FROM kept_segments WHERE {of}")
    conn.execute(f"DELETE FROM kept_starts WHERE {of}")
    none = f"point_count = 0 AND id IN ({among(concerned)}) AND id NOT IN ({_KEPT_TAGS})"
    conn.execute(f"DELETE FROM tags WHERE {none}")  # only a start had spoken of them
    if said:
        facts.put_back(conn, job_id, sorted(said, key=lambda one: one.wall_time or 0.0), order)
    return sum(stretch.count for stretch in stretches)


def _aside(conn: Connection, job_id: int) -> set[int]:
    """Return the files of a job that have points or session starts aside."""
    own = "WHERE tag_id IN (SELECT id FROM tags WHERE job_id = ?)"
    query = f"SELECT shard_id FROM kept_segments {own} UNION SELECT shard_id FROM kept_starts {own}"
    return {row[0] for row in conn.execute(query, (job_id, job_id))}


def _stretches(conn: Connection, where: str, values: Sequence[Any] = ()) -> list[Stretch]:
    columns = "tag_id, first_step, last_step, first_seq, last_seq, count"
    query = f"SELECT {columns} FROM kept_segments WHERE {where} ORDER BY tag_id, ordinal"
    return [Stretch(*row) for row in conn.execute(query, values)]


class _Tag:
    """A tag while a file's stretches are put back behind its points; the rules are those of ingest/sequence.py."""

    def __init__(self, conn: Connection, row: write.TagRow, shard_id: int) -> None:
        self.conn = conn
        self.id = row.id
        self.shard = shard_id
        self.points = row.point_count
        self.scalar = row.data_class == DataClass.SCALAR
        self.seq = row.seq
        self.last_step = row.last_step
        self.last_shard = row.segment_shard_id
        self.segments = row.segments
        self.start_step = row.start_step
        self.restarted: list[tuple[int, int, int, int, str]] = []

    def start(self, steps: Sequence[int]) -> None:
        """Have session starts at `steps` supersede what there is at or above them."""
        for step in steps:
            self._note()
            if self.points and self.conn.execute(_CURRENT, (self.id, step)).fetchone():
                self.seq += self.start_step is None  # two starts with no point between count as one
                self.start_step = step
                self.restarted.append((self.id, self.seq, step, self.shard, RestartCause.SESSION_START))

    def add(self, stretch: Stretch, starts: dict[int, int]) -> list[facts.Said]:
        """Put a stretch back; return what its payloads say of the job. `starts`: old seq → step, within it."""
        first, last = self.seq, self.last_step
        if last is not None:
            back = stretch.first_step < last or (stretch.first_step == last and self.last_shard != self.shard)
            if self.start_step is not None:
                if back and stretch.first_step < self.start_step:
                    row = (self.id, first, stretch.first_step, self.shard, RestartCause.SESSION_START)
                    self.restarted.append(row)
            elif stretch.first_step <= last:
                first += 1
                if back:
                    cause = RestartCause.SAME_FILE if self.last_shard == self.shard else RestartCause.NEW_FILE
                    self.restarted.append((self.id, first, stretch.first_step, self.shard, cause))
        by = first - stretch.first_seq
        self._inner(stretch, starts, by)
        said = self._said(stretch)
        self.conn.execute(_COUNT_BLOBS, (self.id, -self.id, *stretch.within))
        self._statistics(stretch)
        for table in _ROWS:
            moved = f"UPDATE {table} SET tag_id = ?, seq = seq + ? WHERE tag_id = ? AND {_WITHIN}"
            self.conn.execute(moved, (self.id, by, -self.id, *stretch.within))
        end = stretch.last_step, stretch.last_seq + by
        if self.last_shard == self.shard:
            longer = "last_step = ?, last_seq = ?, count = count + ? WHERE tag_id = ? AND ordinal = ?"
            values = (*end, stretch.count, self.id, self.segments - 1)
            self.conn.execute(f"UPDATE tag_segments SET {longer}", values)
        else:
            new = (self.id, self.segments, self.shard, stretch.first_step, end[0], first, end[1], stretch.count)
            columns, marks = ", ".join(write.SEGMENT_COLUMNS), ", ".join("?" * len(new))
            self.conn.execute(f"INSERT INTO tag_segments ({columns}) VALUES ({marks})", new)
            self.segments += 1
        self.seq, self.last_step, self.last_shard, self.start_step = end[1], end[0], self.shard, None
        self.points += stretch.count
        return said

    def write(self) -> None:
        """Write what is left to write, and the rollups anew."""
        self._note()
        self.conn.execute("UPDATE tags SET seq = ?, segments = ? WHERE id = ?", (self.seq, self.segments, self.id))
        if bulk.index_missing(self.conn):  # they come with the index
            self.conn.execute("DELETE FROM point_rollups WHERE tag_id = ?", (self.id,))
            self.conn.execute("UPDATE tags SET rolled_count = 0, rolled_step = NULL WHERE id = ?", (self.id,))
        else:
            rollups.rebuild(self.conn, self.id)

    def _note(self) -> None:
        write.add_restarts(self.conn, self.restarted)
        self.restarted = []

    def _inner(self, stretch: Stretch, starts: dict[int, int], by: int) -> None:
        """Note the restarts within a stretch: each seq of it begins with one, unless it only repeats a step."""
        if stretch.first_seq == stretch.last_seq:
            return
        self._note()  # they come after those
        found = {seq: (step, RestartCause.SAME_FILE) for seq, step in self._within(_BACK, stretch)}
        found |= {seq: (step, RestartCause.SESSION_START) for seq, step in starts.items()}
        lowest: int | None = None  # what a later one at the same or a smaller step follows says nothing
        for seq in sorted(found, reverse=True):
            step, cause = found[seq]
            if cause is RestartCause.SESSION_START or lowest is None or step < lowest:
                self.restarted.append((self.id, seq + by, step, self.shard, cause))
            lowest = step if lowest is None else min(lowest, step)
        self.restarted.reverse()

    def _within(self, query: str, stretch: Stretch) -> list[Any]:
        return self.conn.execute(query, (-self.id, *stretch.within)).fetchall()

    def _said(self, stretch: Stretch) -> list[facts.Said]:
        """Return what sessions say in the payloads of a stretch; lineage is kept by file."""
        query = (
            "SELECT b.kind, p.wall_time, b.facts FROM blobs b JOIN tensor_points p "
            "ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq "
            "WHERE b.tag_id = ? AND (b.seq, b.step) >= (?, ?) AND (b.seq, b.step) <= (?, ?) AND b.kind = ? "
            "ORDER BY b.seq, b.step, b.ordinal"
        )
        rows = self.conn.execute(query, (-self.id, *stretch.within, facts.SESSION_KIND))
        return [facts.Said(kind, self.shard, 0, wall_time, said) for kind, wall_time, said in rows if said]

    def _statistics(self, stretch: Stretch) -> None:
        """Add a stretch to the statistics of its tag; it is still aside."""
        one = f"SELECT wall_time, value FROM tensor_points WHERE tag_id = {-self.id} AND seq = ? AND step = ?"
        (first,) = self.conn.execute(one, (stretch.first_seq, stretch.first_step)).fetchall()
        (last,) = self.conn.execute(one, (stretch.last_seq, stretch.last_step)).fetchall()
        bounds = (inf, -inf)
        ((low, high, wall, least, most, none, plus, minus),) = self.conn.execute(
            _SUMS, (*bounds * 3, -self.id, *stretch.within)
        ).fetchall()
        columns = ("min_step", "max_step", "max_wall_time", "min_value", "max_value")
        ((*known,),) = self.conn.execute(f"SELECT {', '.join(columns)} FROM tags WHERE id = ?", (self.id,)).fetchall()
        folds = (min, max, max, min, max)
        merged = [
            fold(one for one in (old, new) if one is not None) if old is not None or new is not None else None
            for fold, old, new in zip(folds, known, (low, high, wall, least, most), strict=True)
        ]
        if not self.points:
            row = (stretch.first_step, first[0], self.id)
            self.conn.execute("UPDATE tags SET first_step = ?, first_wall_time = ? WHERE id = ?", row)
        self.conn.execute(
            f"UPDATE tags SET {', '.join(f'{name} = ?' for name in columns)}, last_step = ?, last_wall_time = ?, "
            "last_value = ?, point_count = point_count + ?, nan_count = nan_count + ?, "
            "pos_inf_count = pos_inf_count + ?, neg_inf_count = neg_inf_count + ? WHERE id = ?",
            (*merged, stretch.last_step, *last, stretch.count, none if self.scalar else 0, plus, minus, self.id),
        )
