"""An image of rows is a database that SQLite reads as we wrote it, and a load through it equals the plain path."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.db import bulk, image, migrate, rollups
from indexer.db.connection import Database, transaction
from indexer.types import Rows
from tests.support import series

LEAF_ROWS = (1597, 1598, 1599)  # around a full page without seq; with it a page holds 1456
ROOT_ROWS = 6552 * 1456

floats = st.one_of(
    st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e300, 3.0, 2.0**53, -(2.0**63)])
)
points = st.tuples(
    st.sampled_from([1, 2, 127, 128, 32768, 2**31 - 1]),
    st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1, 2**47]), st.integers(-999, 2**40)),
    st.one_of(st.just(0), st.integers(0, 3), st.sampled_from([2**31 - 1])),
    floats,
    floats,
)
some = st.lists(points, min_size=1, max_size=60, unique_by=lambda p: p[:3])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all examples; each empties it."""
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('image') / 'points.db'}")
    migrate.upgrade(made)
    yield made
    made.dispose()


def _many(count: int, *, with_seq: bool) -> Rows:
    random = np.random.default_rng(count)
    return Rows(
        np.sort(random.integers(1, 2**31 - 1, count)).astype(np.int32),
        random.integers(-(2**63), 2**63 - 1, count),
        np.arange(count, dtype=np.int32) * with_seq,
        random.normal(size=count),
        random.normal(size=count),
    )


def _read(rows: Rows) -> tuple[list[tuple[float | None, ...]], str]:
    conn = sqlite3.connect(":memory:")
    conn.deserialize(image.build(bulk.columns_of(rows)).tobytes())
    found = conn.execute("SELECT tag_id, step, seq, wall_time, value FROM p ORDER BY rowid").fetchall()
    check = conn.execute("PRAGMA integrity_check").fetchone()[0]
    conn.close()
    return found, check


@settings(deadline=None)
@given(chosen=some)
def test_sqlite_reads_an_image_as_it_was_written(chosen: list[tuple[int, int, int, float, float]]) -> None:
    """Whatever the numbers, the image is a sound database with these rows; NaN is NULL."""
    rows = series.rows_of(chosen)
    assert (series.as_stored(rows), "ok") == _read(rows)


@pytest.mark.parametrize("with_seq", [False, True])
@pytest.mark.parametrize("count", [*LEAF_ROWS, 1455, 1456, 1457, 3196, 3197, 50_000])
def test_an_image_of_any_number_of_pages_is_sound(count: int, with_seq: bool) -> None:
    """One leaf, a full one, one row more, and many: rows and structure are right."""
    rows = _many(count, with_seq=with_seq)
    assert (series.as_stored(rows), "ok") == _read(rows)


@pytest.mark.parametrize("count", [0, ROOT_ROWS + 1])
def test_an_image_refuses_what_it_cannot_hold(count: int) -> None:
    """No rows, or more than one root page reaches, is a mistake of the caller."""
    ints = np.broadcast_to(np.int32(1), count)
    floats = np.broadcast_to(np.float64(1), count)
    with pytest.raises(ValueError, match="an image holds 1 to"):
        image.build(bulk.columns_of(Rows(ints, ints.astype(np.int64), ints, floats, floats)))


@settings(deadline=None)
@given(chosen=some, size=st.integers(1, 20))
def test_an_image_load_equals_the_plain_path(
    database: Database, chosen: list[tuple[int, int, int, float, float]], size: int
) -> None:
    """Both ways of inserting give the same table, also with repeated and descending steps, byte for byte of a value."""
    rows = series.rows_of(chosen)
    query = "SELECT tag_id, step, seq, wall_time, typeof(wall_time), value, typeof(value) FROM tensor_points"
    found = []
    for small in (len(rows) + 1, 0):
        with transaction(database) as conn:
            conn.execute("DELETE FROM tensor_points")
        with mock.patch.multiple(bulk, _SMALL_ROWS=small, _IMAGE_ROWS=size), series.load(database, rows) as conn:
            pass
        with transaction(database) as conn:
            found.append(conn.execute(query + " ORDER BY 1, 2, 3").fetchall())
    assert found[0] == found[1]
    assert [tuple(row) for row in series.as_stored(rows)] == [(*r[:4], r[5]) for r in found[1]]


buckets = st.lists(
    st.tuples(
        st.integers(1, 3), st.integers(0, 2), st.integers(0, 5), st.integers(-(2**63), 2**63 - 1), floats, floats
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda b: b[:3],
)


@settings(deadline=None)
@given(chosen=buckets)
def test_rollups_through_images_equal_plain_ones(
    database: Database, chosen: list[tuple[int, int, int, int, float, float]]
) -> None:
    """A table of twenty columns, whose cells are longer, comes out alike on both paths; columns of zeros too."""
    made = np.zeros(len(chosen), rollups._BUCKET)
    for row, (tag_id, level, ordinal, step, wall_time, value) in zip(made, sorted(chosen), strict=True):
        row["tag_id"], row["level"], row["ordinal"], row["count"] = tag_id, level, ordinal, 64 * 8**level
        row["first_step"] = row["last_step"] = row["min_step"] = row["max_step"] = step
        row["first_wall_time"] = row["max_wall_time"] = wall_time
        row["last_value"], row["min_value"], row["max_value"] = value, 1.5, -0.5
    columns, nulls = rollups.columns_of(made)
    found = []
    for small in (len(made) + 1, 0):
        with mock.patch.object(bulk, "_SMALL_ROWS", small):
            packed = bulk.pack("sqlite", "point_rollups", columns, nulls)
        assert bool(packed.images) == (small == 0)
        with bulk.load(database, packed) as conn:
            conn.execute("DELETE FROM point_rollups")
            bulk.insert(conn, packed)
            found.append(conn.execute("SELECT * FROM point_rollups ORDER BY 1, 2, 3").fetchall())
    assert found[0] == found[1]
    assert len(chosen) == len(found[0])
