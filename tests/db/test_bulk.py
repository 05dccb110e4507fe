"""Rows in: what is loaded is what is stored, with whatever else the transaction holds, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from indexer.db import bulk, image
from indexer.db.connection import Connection, Database, transaction
from indexer.errors import Refuse, Wait
from indexer.types import Rows
from tests.conftest import Backend
from tests.support import series

SIZES = (0, 1, 49, 50, 51, 999, 1_000, 70_000)


def _rows(count: int, *, odd: bool, tag_id: int = 1) -> Rows:
    random = np.random.default_rng(count)
    rows = Rows(
        np.full(count, tag_id, np.int32),
        np.arange(count, dtype=np.int64) * 3 - 2**40,
        np.zeros(count, np.int32),
        random.normal(size=count) * 1e9,
        random.normal(size=count),
    )
    if odd:
        rows.wall_time[::11] = np.nan
        rows.value[::7], rows.value[1::7], rows.value[2::7], rows.value[3::7] = np.nan, np.inf, -np.inf, 3.0
        rows.seq[:] = random.integers(0, 3, count)
    return rows


def _stored(database: Database) -> list[tuple[Any, ...]]:
    query = f"SELECT {', '.join(bulk.COLUMNS)} FROM tensor_points ORDER BY tag_id, step, seq"
    with transaction(database) as conn:
        return [tuple(row) for row in conn.execute(query)]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """The check of images runs once a process; here each test starts without its answer."""
    bulk.images_work.cache_clear()
    yield
    bulk.images_work.cache_clear()


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("count", SIZES)
def test_rows_are_stored_as_given(database: Database, count: int, odd: bool) -> None:
    """A batch of any size comes back as it was, NaN as NULL and infinities kept."""
    rows = _rows(count, odd=odd)
    with series.load(database, rows):
        pass
    assert series.as_stored(rows) == _stored(database)


def test_a_batch_commits_with_what_belongs_to_it(database: Database) -> None:
    """Rows are there when the block begins, and commit with what it adds."""
    with series.load(database, _rows(3, odd=False)) as conn:
        assert conn.value("SELECT count(*) FROM tensor_points") == 3
        series.add_tags(conn, [1])
    with transaction(database) as conn:
        assert conn.value("SELECT count(*) FROM tags") == 1


@pytest.mark.parametrize("count", [3, 5_000])
def test_a_failed_block_leaves_nothing(database: Database, count: int) -> None:
    """An exception in the block rolls rows back, and the next load goes through."""
    with pytest.raises(ZeroDivisionError), series.load(database, _rows(count, odd=False)) as conn:
        _fail(conn)
    assert _stored(database) == []
    with series.load(database, _rows(count, odd=False)):
        pass
    assert count == len(_stored(database))


def _fail(conn: Connection) -> None:
    series.add_tags(conn, [1])
    raise ZeroDivisionError


@pytest.mark.parametrize("count", [3, 5_000])
def test_a_duplicate_key_is_refused(database: Database, count: int) -> None:
    """Loading a point twice is a bug: it raises and changes nothing."""
    with series.load(database, _rows(count, odd=False)):
        pass
    with pytest.raises(Refuse, match=r"(?i)unique"), series.load(database, _rows(count, odd=False)):
        pass
    assert count == len(_stored(database))


@pytest.mark.parametrize("broken", ["no deserialize", "other rows"])
def test_without_images_the_plain_path_is_taken(
    database: Database, backend: Backend, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the check of an image fails, one line says so and loads are the same, slower."""
    if broken == "other rows":
        monkeypatch.setattr(image, "build", lambda columns: image._first_page(tuple(columns)))
    else:
        monkeypatch.setattr(bulk, "_read_back", _no_deserialize)
    rows = _rows(5_000, odd=True)
    with capture_logs() as lines:
        for part in (bulk.part(rows, 0, 2_500), bulk.part(rows, 2_500, 5_000)):
            with series.load(database, part):
                pass
    assert series.as_stored(rows) == _stored(database)
    assert (["slow_path_taken"] if backend == "sqlite" else []) == [line["event"] for line in lines]


def _no_deserialize(columns: object) -> None:
    raise AttributeError("'sqlite3.Connection' object has no attribute 'deserialize'")


def test_images_work_here() -> None:
    """On the platforms we test, the fast path is the one that runs."""
    with capture_logs() as lines:
        assert bulk.images_work()
    assert lines == []


def test_a_batch_leaves_no_image_attached(database: Database, backend: Backend) -> None:
    """After a load the pooled connection holds the database alone, so its memory is given back."""
    with series.load(database, _rows(5_000, odd=False)):
        pass
    if backend == "sqlite":
        with transaction(database) as conn:
            assert ["main"] == [row[1] for row in conn.execute("PRAGMA database_list")]
    else:
        assert bulk.suspend_index(database, 1) is False


def test_more_rows_than_eight_images_make_larger_images(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is never cut into more images than SQLite attaches."""
    monkeypatch.setattr(bulk, "_IMAGE_ROWS", 100)
    rows = _rows(10_001, odd=False)
    with series.load(database, rows):
        pass
    assert series.as_stored(rows) == _stored(database)


class TestIndex:
    """The key of tensor_points goes before a large load into PostgreSQL and comes back behind it."""

    def test_a_large_load_suspends_the_key(self, database: Database, backend: Backend) -> None:
        """It goes where the load outweighs what is stored, comes back, and SQLite has none of this."""
        gone = bulk.suspend_index(database, 1_000_000)
        assert (backend == "postgresql") is gone
        with series.load(database, _rows(5_000, odd=True)) as conn:
            assert gone is bulk.index_missing(conn)
        bulk.ensure_index(database)
        with transaction(database) as conn:
            assert not bulk.index_missing(conn)
        with pytest.raises(Refuse, match=r"(?i)unique"), series.load(database, _rows(5_000, odd=True)):
            pass

    def test_a_small_load_keeps_the_key(self, database: Database) -> None:
        """Neither a short load nor one that is small beside what is stored touches the key."""
        assert bulk.suspend_index(database, 1_000) is False
        with transaction(database) as conn:
            series.add_tags(conn, [1])
            conn.execute("UPDATE tags SET point_count = 2000000")
        assert bulk.suspend_index(database, 1_000_000) is False
        with transaction(database) as conn:
            assert not bulk.index_missing(conn)

    def test_the_key_comes_back_after_a_kill(self, url: str, database: Database) -> None:
        """Whoever starts next builds the key; twice changes nothing."""
        bulk.suspend_index(database, 1_000_000)
        with series.load(database, _rows(100, odd=False)):
            pass
        other = Database(url)
        for _ in range(2):
            bulk.ensure_index(other)
            with transaction(other) as conn:
                assert not bulk.index_missing(conn)
        other.dispose()

    def test_a_point_stored_twice_is_loud(self, database: Database, backend: Backend) -> None:
        """A duplicate that came in while the key was gone refuses the key."""
        if backend == "sqlite":
            assert bulk.suspend_index(database, 1_000_000) is False
            return
        bulk.suspend_index(database, 1_000_000)
        for _ in range(2):
            with series.load(database, _rows(100, odd=False)):
                pass
        with pytest.raises(Refuse, match="unique"):
            bulk.ensure_index(database)

    def test_another_load_may_suspend_the_key_at_once(
        self, database: Database, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the index and the key of one indexer another begins to load: it is that one's turn to build."""
        other, begun = Database(url), list[bool]()

        def interrupted(conn: Database) -> Any:
            begun.append(conn is database)
            if begun == [True, True]:
                bulk.suspend_index(other, 1_000_000)
            return transaction(conn)

        bulk.suspend_index(database, 1_000_000)
        monkeypatch.setattr(bulk, "transaction", interrupted)
        bulk.ensure_index(database)
        monkeypatch.undo()
        bulk.ensure_index(other)
        with transaction(other) as conn:
            assert not bulk.index_missing(conn)
        other.dispose()

    def test_a_reader_does_not_stop_the_load(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """While somebody reads, the key stays or its making is put off; then the next call finishes it."""
        monkeypatch.setattr(bulk, "_LOCK_SECONDS", 0.1)
        other = Database(database.url)
        with transaction(other) as reader:
            reader.value("SELECT count(*) FROM tensor_points")
            assert bulk.suspend_index(database, 1_000_000) is False
        gone = bulk.suspend_index(database, 1_000_000)
        with transaction(other) as reader, capture_logs() as lines:
            reader.value("SELECT count(*) FROM tensor_points")
            bulk.ensure_index(database)
        other.dispose()
        assert (["key_postponed"] if gone else []) == [line["event"] for line in lines]
        bulk.ensure_index(database)
        with pytest.raises(Refuse), series.load(database, _rows(1, odd=False)) as conn:
            bulk.append(conn, "tensor_points", bulk.columns_of(_rows(1, odd=False)))


def _lose(conn: Connection, other: Database) -> None:
    pid = conn.value("SELECT pg_backend_pid()")
    with transaction(other) as killer:
        assert killer.value("SELECT pg_terminate_backend(?)", (pid,))
    bulk.append(conn, "tensor_points", bulk.columns_of(_rows(1, odd=False, tag_id=2)))


def test_a_lost_connection_waits(database: Database, url: str, backend: Backend, tmp_path: Path) -> None:
    """A server that goes away during a load is something to wait for; afterwards loads go through."""
    if backend == "postgresql":
        other = Database(url)
        with pytest.raises(Wait), series.load(database, _rows(1, odd=False)) as conn:
            _lose(conn, other)
        other.dispose()
    else:
        assert make_url(url).database == str(tmp_path / "summary.db")
    with series.load(database, _rows(1, odd=False)):
        pass
    assert len(_stored(database)) == 1
