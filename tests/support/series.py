"""Series for tests of points, rollups and curves: rows as an indexer would number them, and plain references."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, text

from indexer.db import bulk
from indexer.db.schema import METADATA
from indexer.types import Rows

_TABLES = METADATA.tables
FIELDS = ("step", "seq", "wall_time", "value")
Point = tuple[int, int, float | None, float | None]
"""step, seq, wall_time, value, as stored."""


def add_tags(conn: Connection, tag_ids: Iterable[int]) -> None:
    """Insert tags with these ids, in a job with one shard of id 1."""
    conn.execute(insert(_TABLES["roots"]), {"id": 1, "name": "r", "path": "/r", "named": True})
    conn.execute(insert(_TABLES["jobs"]), {"id": 1, "root_id": 1, "train_id": "./", "train_key": b"k"})
    shard = {"id": 1, "job_id": 1, "name": "f", "kind": "summary", "format": "tensorboard"}
    conn.execute(insert(_TABLES["shards"]), shard)
    rows = [
        {"id": i, "job_id": 1, "plugin": "scalars", "name": f"t{i}", "series_key": b"%d" % i, "name_key": i}
        for i in tag_ids
    ]
    conn.execute(insert(_TABLES["tags"]), rows)


def rows_of(points: Sequence[tuple[int, int, int, float, float]]) -> Rows:
    """Return Rows of (tag_id, step, seq, wall_time, value), sorted; NaN stays NaN."""
    found = sorted(points, key=lambda p: p[:3])
    kinds = (np.int32, np.int64, np.int32, np.float64, np.float64)
    return Rows(*(np.array([p[i] for p in found], kind) for i, kind in enumerate(kinds)))


def stored(conn: Connection, tag_id: int) -> list[Point]:
    """Return all points of a tag, by step, then seq."""
    query = text("SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = :t ORDER BY step, seq")
    return [(row[0], row[1], row[2], row[3]) for row in conn.execute(query, {"t": tag_id})]


def current(conn: Connection, tag_id: int) -> list[Point]:
    """Return the points of a tag that no new file and no session start superseded, by step, then seq."""
    query = text("SELECT seq, step FROM restarts WHERE tag_id = :t AND cause <> 'same_file'")
    restarts = conn.execute(query, {"t": tag_id}).all()
    return [p for p in stored(conn, tag_id) if not any(r.seq > p[1] and r.step <= p[0] for r in restarts)]


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

    def take(self) -> tuple[list[tuple[int, int, int, float, float]], list[dict[str, Any]], int | None]:
        """Return rows, restarts and the lowest disturbed step since the last call."""
        rows, reset = self.rows, self.reset
        restarts = [
            {"tag_id": self.tag_id, "seq": seq, "step": step, "shard_id": 1, "cause": cause}
            for seq, step, cause in self.restarts
        ]
        self.rows, self.restarts, self.reset = [], [], None
        return rows, restarts, reset
