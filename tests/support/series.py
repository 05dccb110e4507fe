"""Series for tests of points, rollups and curves: rows as an indexer would number them, and plain references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.db import bulk
from indexer.db.connection import Connection, Database
from indexer.types import Rows

FIELDS = ("step", "seq", "wall_time", "value")
Point = tuple[int, int, float | None, float | None]
"""step, seq, wall_time, value, as stored."""


def add_tags(conn: Connection, tag_ids: Iterable[int]) -> None:
    """Insert tags with these ids, in a job with one shard of id 1."""
    conn.execute("INSERT INTO roots (id, name, path, named) VALUES (1, 'r', '/r', ?)", (True,))
    conn.execute("INSERT INTO jobs (id, root_id, train_id, train_key) VALUES (1, 1, './', ?)", (b"k",))
    conn.execute("INSERT INTO shards (id, job_id, name, kind, format) VALUES (1, 1, 'f', 'summary', 'tensorboard')")
    insert = "INSERT INTO tags (id, job_id, plugin, name, series_key, name_key) VALUES (?, 1, 'scalars', ?, ?, ?)"
    conn.many(insert, [(i, f"t{i}", b"%d" % i, i) for i in tag_ids])


def rows_of(points: Sequence[tuple[int, int, int, float, float]]) -> Rows:
    """Return Rows of (tag_id, step, seq, wall_time, value), sorted; NaN stays NaN."""
    found = sorted(points, key=lambda p: p[:3])
    kinds = (np.int32, np.int64, np.int32, np.float64, np.float64)
    return Rows(*(np.array([p[i] for p in found], kind) for i, kind in enumerate(kinds)))


def stored(conn: Connection, tag_id: int) -> list[Point]:
    """Return all points of a tag, by step, then seq."""
    query = "SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = ? ORDER BY step, seq"
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(query, (tag_id,))]


def current(conn: Connection, tag_id: int) -> list[Point]:
    """Return the points of a tag that no new file and no session start superseded, by step, then seq."""
    query = "SELECT seq, step FROM restarts WHERE tag_id = ? AND cause <> 'same_file'"
    restarts = conn.execute(query, (tag_id,)).fetchall()
    return [p for p in stored(conn, tag_id) if not any(seq > p[1] and step <= p[0] for seq, step in restarts)]


def as_stored(rows: Rows) -> list[tuple[Any, ...]]:
    """Return rows as the database gives them back."""
    columns = [getattr(rows, name).tolist() for name in bulk.COLUMNS]
    return [tuple(None if x != x else x for x in row) for row in zip(*columns, strict=True)]


def rolled_up(points: Sequence[Point], bucket: int, fan: int) -> list[tuple[Any, ...]]:
    """Return the buckets of current points: level, ordinal, count, then first, last, min, max as points."""
    out: list[tuple[Any, ...]] = []
    level, width = 0, bucket
    while width <= len(points):
        for ordinal in range(len(points) // width):
            part = points[ordinal * width : (ordinal + 1) * width]
            finite = [p for p in part if p[3] is not None and math.isfinite(p[3])]
            none = (None, None, None, None)
            low = min(finite, key=lambda p: p[3] or 0.0, default=none)
            high = max(finite, key=lambda p: p[3] or 0.0, default=none)
            out.append((level, ordinal, width, *part[0], *part[-1], *low, *high))
        level, width = level + 1, width * fan
    return out


@dataclass
class Writer:
    """A series as it is loaded: numbers its points, and remembers what a batch must tell."""

    tag_id: int
    seq: int = 0
    last: int | None = None
    count: int = 0
    rows: list[tuple[int, int, int, float, float]] = field(default_factory=list)
    restarts: list[tuple[int, int, str]] = field(default_factory=list)  # seq, step, cause
    reset: int | None = None

    def add(self, step: int, wall_time: float, value: float, cause: str) -> None:
        """Load a point; `cause` counts where the step goes back."""
        if self.last is not None and step <= self.last:
            self.seq += 1
            if step < self.last:
                self.restarts.append((self.seq, step, cause))
            self._disturb(step)
        self.rows.append((self.tag_id, step, self.seq, wall_time, value))
        self.last = step
        self.count += 1

    def start(self, step: int) -> None:
        """Load a session start; what comes next is compared with nothing."""
        self.seq += 1
        self.restarts.append((self.seq, step, "session_start"))
        self._disturb(step)
        self.last = None

    def _disturb(self, step: int) -> None:
        self.reset = step if self.reset is None else min(self.reset, step)

    def take(self) -> tuple[list[tuple[int, int, int, float, float]], list[tuple[int, int, int, int, str]], int | None]:
        """Return rows, restarts and the lowest disturbed step since the last call."""
        rows, reset = self.rows, self.reset
        restarts = [(self.tag_id, seq, step, 1, cause) for seq, step, cause in self.restarts]
        self.rows, self.restarts, self.reset = [], [], None
        return rows, restarts, reset


def add_restarts(conn: Connection, rows: Sequence[tuple[int, int, int, int, str]]) -> None:
    """Insert restarts, given as tag_id, seq, step, shard_id and cause."""
    conn.many("INSERT INTO restarts (tag_id, seq, step, shard_id, cause) VALUES (?, ?, ?, ?, ?)", rows)


@contextmanager
def load(database: Database, rows: Rows) -> Iterator[Connection]:
    """Insert points and yield the open transaction, as the indexer does."""
    packed = bulk.pack_points(database.dialect, rows)
    with bulk.load(database, packed) as conn:
        bulk.insert(conn, packed)
        yield conn
