"""Rollups at their real size, on both databases: crossing the threshold, appends, restarts, a suspended index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, Engine, event, insert, update

from indexer.db import bulk, rollups
from indexer.db.rollups import BUCKET, FAN, LONG, Rolled, Tails
from indexer.db.schema import METADATA
from indexer.types import Rows
from tests.conftest import Backend
from tests.support import series

TAGS = (1, 2, 9)
_TABLES = METADATA.tables


def _rows(start: int, stop: int, *, seq: int = 0, tags: Sequence[int] = TAGS) -> Rows:
    """Return the points [start, stop) of each tag; one value in nine is none."""
    step = np.tile(np.arange(start, stop, dtype=np.int64), len(tags))
    tag = np.repeat(np.array(tags, np.int32), stop - start)
    value = np.sin(step / 50 + tag).astype(np.float64)
    value[::9] = np.nan
    return Rows(tag, step, np.full(len(step), seq, np.int32), np.multiply(step, 0.5), value)


class Loader:
    """What an indexer does around `fold`."""

    def __init__(self, engine: Engine, *, tails: Tails | None = None, tags: Sequence[int] = TAGS) -> None:
        self.engine = engine
        self.tails = tails
        self.tags = {tag_id: Rolled(tag_id, 0) for tag_id in tags}
        with engine.begin() as conn:
            series.add_tags(conn, tags)

    def load(self, rows: Rows, restarts: Sequence[dict[str, Any]] = (), reset: int | None = None) -> None:
        """Load a batch."""
        with bulk.load(self.engine, rows) as conn:
            if restarts:
                conn.execute(insert(_TABLES["restarts"]), list(restarts))
            before = [
                replace(tag, point_count=tag.point_count + int((rows.tag_id == tag_id).sum()), reset_step=reset)
                for tag_id, tag in self.tags.items()
            ]
            for tag in rollups.fold(conn, before, rows, self.tails):
                self.tags[tag.tag_id] = tag
            columns = ("point_count", "rolled_count", "rolled_step")
            for tag in self.tags.values():
                values = {name: getattr(tag, name) for name in columns}
                conn.execute(update(_TABLES["tags"]).where(_TABLES["tags"].c.id == tag.tag_id).values(values))


def _buckets(conn: Connection, tag_id: int) -> list[tuple[Any, ...]]:
    columns = ", ".join(f"{end}_{name}" for end in ("first", "last", "min", "max") for name in series.FIELDS)
    query = (
        f"SELECT level, ordinal, count, {columns} FROM point_rollups WHERE tag_id = {tag_id} ORDER BY level, ordinal"
    )
    return [tuple(row) for row in conn.exec_driver_sql(query)]


def _check(engine: Engine, tag_id: int) -> None:
    """Compare buckets and the tag's row with the points."""
    with engine.connect() as conn:
        points = series.current(conn, tag_id)
        whole = len(points) - len(points) % BUCKET
        assert series.rolled_up(points, BUCKET, FAN) == _buckets(conn, tag_id)
        row = conn.exec_driver_sql(f"SELECT rolled_count, rolled_step FROM tags WHERE id = {tag_id}").one()
        assert (whole, points[whole - 1][0]) == tuple(row)


def test_a_short_series_has_no_buckets(engine: Engine) -> None:
    """One point below the threshold: nothing; at the threshold: all of it."""
    loader = Loader(engine, tags=[1])
    loader.load(_rows(0, LONG - 1, tags=[1]))
    with engine.connect() as conn:
        assert _buckets(conn, 1) == []
    assert loader.tags[1].rolled_count == 0
    loader.load(_rows(LONG - 1, LONG, tags=[1]))
    assert loader.tags[1].rolled_count == LONG
    _check(engine, 1)


@pytest.mark.parametrize("with_tails", [False, True])
def test_batches_of_any_size_give_the_same_buckets(engine: Engine, with_tails: bool) -> None:
    """A load in one go, and small appends behind it, across several tags."""
    loader = Loader(engine, tails=Tails() if with_tails else None)
    at = 0
    for to in (LONG + 100, LONG + 101, LONG + 130, LONG + 140, LONG + 700, LONG + 700 + BUCKET):
        loader.load(_rows(at, to))
        at = to
    for tag_id in TAGS:
        _check(engine, tag_id)


def test_a_tail_counts_only_where_it_was_left(engine: Engine) -> None:
    """Points that another indexer loaded in between are not missed by a loader that keeps the open end."""
    loader = Loader(engine, tails=Tails(), tags=[1])
    loader.load(_rows(0, LONG + 10, tags=[1]))
    kept, loader.tails = loader.tails, None
    loader.load(_rows(LONG + 10, LONG + 20, tags=[1]))
    loader.tails = kept
    loader.load(_rows(LONG + 19, LONG + 200, seq=1, tags=[1]), reset=LONG + 19)  # its first point repeats a step
    _check(engine, 1)


def test_a_long_batch_is_folded_in_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch longer than what is worked on at once gives the same buckets."""
    monkeypatch.setattr(rollups, "_CHUNK", 5_000)
    loader = Loader(engine, tags=[1, 2])
    loader.load(_rows(0, 100, tags=[2]))
    loader.load(_rows(100, LONG + 133, tags=[1, 2]))
    for tag_id in (1, 2):
        _check(engine, tag_id)


@pytest.mark.parametrize("cause", ["new_file", "same_file", "session_start"])
def test_a_restart_drops_the_buckets_it_reaches(engine: Engine, cause: str) -> None:
    """What a restart supersedes leaves the buckets, and what follows joins them."""
    loader = Loader(engine, tags=[1])
    loader.load(_rows(0, LONG + 1_000, tags=[1]))
    restart = {"tag_id": 1, "seq": 1, "step": LONG - 3_000, "shard_id": 1, "cause": cause}
    loader.load(_rows(LONG - 3_000, LONG - 2_000, seq=1, tags=[1]), [{**restart}], LONG - 3_000)
    _check(engine, 1)
    loader.load(_rows(LONG - 2_000, LONG + 2_000, seq=1, tags=[1]))
    _check(engine, 1)


def test_a_session_start_alone_drops_buckets(engine: Engine) -> None:
    """A session start before any point of it: the superseded end goes at once."""
    loader = Loader(engine, tags=[1])
    loader.load(_rows(0, LONG + 640, tags=[1]))
    start = {"tag_id": 1, "seq": 1, "step": LONG, "shard_id": 1, "cause": "session_start"}
    loader.load(_rows(0, 0), [start], LONG)
    assert loader.tags[1].rolled_count == LONG
    _check(engine, 1)


def test_rebuild_makes_the_same_buckets(engine: Engine) -> None:
    """Buckets that were lost come back, and the tag's row tells how far they reach."""
    loader = Loader(engine, tags=[1])
    loader.load(_rows(0, LONG + 77, tags=[1]))
    with engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM point_rollups WHERE level = 0")
        conn.exec_driver_sql("UPDATE tags SET rolled_count = 0, rolled_step = NULL")
        rolled = rollups.rebuild(conn, 1)
    assert (loader.tags[1].rolled_count, loader.tags[1].rolled_step) == (rolled.rolled_count, rolled.rolled_step)
    _check(engine, 1)


@pytest.mark.parametrize("with_tails", [False, True])
def test_a_suspended_index_is_never_read_through(engine: Engine, backend: Backend, with_tails: bool) -> None:
    """While the key of PostgreSQL is gone nothing is read back point by point; afterwards the tags catch up."""
    bulk.suspend_index(engine, 1_000_000)
    loader = Loader(engine, tails=Tails() if with_tails else None)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    loader.load(_rows(0, LONG + 100))
    loader.load(_rows(LONG + 100, LONG + 500))
    restart = {"seq": 1, "step": LONG - 500, "shard_id": 1, "cause": "new_file"}
    loader.load(_rows(LONG - 500, LONG + 200, seq=1), [{"tag_id": tag_id, **restart} for tag_id in TAGS], LONG - 500)
    if backend == "postgresql":
        assert [] == [query for query in sent if "FROM tensor_points" in query]
        assert {tag.rolled_count for tag in loader.tags.values()} == {(LONG - 500) // BUCKET * BUCKET}
    bulk.ensure_index(engine)
    moved = rollups.catch_up(engine)
    assert (set(TAGS) if backend == "postgresql" else set()) == moved.keys()
    for tag_id in TAGS:
        _check(engine, tag_id)


def test_an_append_to_many_tags_takes_few_statements(engine: Engine) -> None:
    """Open ends of many tags are read together."""
    tags = range(1, 41)
    loader = Loader(engine, tags=tags)
    for tag_id in tags:  # rolled up once, as if long ago
        loader.tags[tag_id] = Rolled(tag_id, LONG, LONG, -1)
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    loader.load(_rows(0, 30, tags=tags))
    with bulk.load(engine, _rows(30, 90, tags=tags)) as conn:
        sent.clear()
        before = [replace(tag, point_count=tag.point_count + 60) for tag in loader.tags.values()]
        folded = rollups.fold(conn, before, _rows(30, 90, tags=tags))
    assert {LONG + BUCKET} == {tag.rolled_count for tag in folded}
    assert len(sent) <= 5
