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

from indexer.db import bulk, image, migrate
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
