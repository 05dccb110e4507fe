"""Rollups are a function of points and restarts: any history in any batches gives the buckets of a plain reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert

from indexer.db import bulk, migrate, rollups
from indexer.db.engine import open_engine
from indexer.db.rollups import Rolled, Tails
from indexer.db.schema import METADATA
from tests.support import series
from tests.support.series import Writer

RESTARTS = METADATA.tables["restarts"]
TAGS = (3, 5, 8)
BUCKET, FAN, LONG = 4, 2, 9  # small, so that short series have many levels

values = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(width=32))
tag_ids = st.sampled_from((*TAGS, *TAGS[:1] * 4))  # one is longer
advance = st.lists(st.tuples(st.just("add"), tag_ids, st.integers(1, 2), values, st.just("same_file")), min_size=3)
back = st.tuples(
    st.just("add"), tag_ids, st.integers(-6, 0), values, st.sampled_from(["same_file", "same_file", "new_file"])
)
far_back = st.tuples(st.just("add"), tag_ids, st.integers(-40, 0), values, st.just("same_file"))
start = st.tuples(st.just("start"), tag_ids, st.integers(-8, 2), st.just(0.0), st.just(""))
commit = st.just(("commit", 0, 0, 0.0, ""))
single = st.one_of(back, far_back, start, commit, commit, commit).map(lambda action: [action])
history = st.lists(st.one_of(advance, single), min_size=12, max_size=60)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all examples; each empties it."""
    path: Path = tmp_path_factory.mktemp("rollups") / "points.db"
    made = open_engine(f"sqlite:///{path}")
    migrate.upgrade(made)
    with made.begin() as conn:
        series.add_tags(conn, TAGS)
    yield made
    made.dispose()


def _commit(engine: Engine, writers: dict[int, Writer], states: dict[int, Rolled], tails: Tails | None) -> None:
    batch = {tag_id: writer.take() for tag_id, writer in writers.items()}
    for tag_id, (_, _, reset) in batch.items():
        states[tag_id] = replace(states[tag_id], point_count=writers[tag_id].count, reset_step=reset)
    rows = series.rows_of([row for rows, _, _ in batch.values() for row in rows])
    with bulk.load(engine, rows) as conn:
        restarts = [row for _, found, _ in batch.values() for row in found]
        if restarts:
            conn.execute(insert(RESTARTS), restarts)
        touched = [states[tag_id] for tag_id, (added, _, reset) in batch.items() if added or reset is not None]
        for tag in rollups.fold(conn, touched, rows, tails):
            states[tag.tag_id] = tag


def _buckets(conn: Connection, tag_id: int) -> list[tuple[object, ...]]:
    columns = ", ".join(f"{end}_{name}" for end in ("first", "last", "min", "max") for name in series.FIELDS)
    query = (
        f"SELECT level, ordinal, count, {columns} FROM point_rollups WHERE tag_id = {tag_id} ORDER BY level, ordinal"
    )
    return [tuple(row) for row in conn.exec_driver_sql(query)]


def _expected(conn: Connection, tag_id: int, count: int) -> tuple[int, int | None, list[tuple[object, ...]]]:
    points = series.current(conn, tag_id) if count >= LONG else []
    whole = len(points) - len(points) % BUCKET
    return whole, points[whole - 1][0] if whole else None, series.rolled_up(points, BUCKET, FAN)


@pytest.mark.parametrize("with_tails", [False, True])
@settings(deadline=None, max_examples=100)
@given(steps=history)
def test_any_history_in_any_batches_gives_the_buckets_of_the_reference(
    engine: Engine, with_tails: bool, steps: list[list[tuple[str, int, int, float, str]]]
) -> None:
    """However points, repeats, restarts and session starts are cut into batches, the buckets are the reference's."""
    with engine.begin() as conn:
        for table in ("tensor_points", "restarts", "point_rollups"):
            conn.exec_driver_sql(f"DELETE FROM {table}")
    writers = {tag_id: Writer(tag_id) for tag_id in TAGS}
    states = {tag_id: Rolled(tag_id, 0) for tag_id in TAGS}
    at = dict.fromkeys(TAGS, 0)
    tails = Tails() if with_tails else None
    with mock.patch.multiple(rollups, BUCKET=BUCKET, FAN=FAN, LONG=LONG, _CHUNK=16, _TAGS=2, _STEPS=1):
        for what, tag_id, by, value, cause in [action for part in steps for action in part]:
            if what == "add":
                at[tag_id] += by
                writers[tag_id].add(at[tag_id], float(at[tag_id]), value, cause)
            elif what == "start":
                at[tag_id] += by
                writers[tag_id].start(at[tag_id])
            else:
                _commit(engine, writers, states, tails)
        _commit(engine, writers, states, tails)
        with engine.connect() as conn:
            for tag_id in TAGS:
                whole, last, buckets = _expected(conn, tag_id, writers[tag_id].count)
                assert buckets == _buckets(conn, tag_id)
                assert (whole, last) == (states[tag_id].rolled_count, states[tag_id].rolled_step)
        with engine.begin() as conn:
            for tag_id in TAGS:
                before = _buckets(conn, tag_id)
                assert states[tag_id].rolled_count == rollups.rebuild(conn, tag_id).rolled_count
                assert before == _buckets(conn, tag_id)
