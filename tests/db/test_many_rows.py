"""Many rows at once are the rows that would be sent one by one, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.db import bulk, postgresql, write
from indexer.db.connection import Connection, Database, transaction
from indexer.db.schema import METADATA
from indexer.errors import Refuse, Retry, Unreachable
from indexer.text import key
from tests.conftest import Backend
from tests.support.engines import sent_by_the_indexer

COUNTS = (1, postgresql.FEW - 1, postgresql.FEW, 300)
ODD = 'a "quoted" \\ name, \u00e9\U0001f600 \x01 %s'
STATISTICS = ("id", "point_count", "first_step", "last_wall_time", "last_value", "max_length")
IDENTITY = (*write.TAG_IDENTITY, "data_class", "metadata", "content", "display_name", "description")


def _fill(database: Database, count: int, *, size: int = 0) -> None:
    with transaction(database) as conn:
        conn.execute(
            "INSERT INTO roots (id, name, path, named) VALUES (1, 'r', '/r', ?) ON CONFLICT DO NOTHING", (True,)
        )
        numbers = range(1, count + 1)
        columns = [{"create_time": i / 7, "update_time": None, "bytes_on_disk": 2**62 + size} for i in numbers]
        write.add_jobs(conn, ((1, f"./{i}/{ODD}", row) for i, row in zip(numbers, columns, strict=True)))
        names = {"name": ODD, "kind": "summary", "format": "tensorboard"}
        write.add_shards(conn, [{"job_id": i, **names, "size": size} for i in numbers])


def _read(database: Database, query: str) -> list[tuple[Any, ...]]:
    with transaction(database) as conn:
        return [tuple(row) for row in conn.execute(query)]


@pytest.mark.parametrize("count", COUNTS)
def test_jobs_and_shards_are_stored_as_given(database: Database, count: int) -> None:
    """Whatever their number, names and NULLs come back, and a row that exists stays as it is."""
    _fill(database, count, size=1)
    _fill(database, count, size=2)
    jobs = "SELECT train_id, train_key, create_time, update_time, bytes_on_disk FROM jobs ORDER BY id"
    expected = [(name := f"./{i}/{ODD}", key(name), i / 7, None, 2**62 + 1) for i in range(1, count + 1)]
    assert expected == _read(database, jobs)
    shards = "SELECT job_id, name, kind, format, size, fingerprint FROM shards ORDER BY id"
    assert [(i, ODD, "summary", "tensorboard", 1, None) for i in range(1, count + 1)] == _read(database, shards)


@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_updated_by_id(database: Database, count: int) -> None:
    """Each gets its own values, and none else is touched."""
    _fill(database, count + 1)
    ids = range(1, count + 1)
    with transaction(database) as conn:
        write.update_jobs(conn, [{"start_time": i / 3, "id": i, "last_error": ODD if i % 2 else None} for i in ids])
        write.update_shards(conn, [{"id": i, "fingerprint": bytes([i % 256, 0]), "state": "torn"} for i in ids])
    expected = [(i / 3, ODD if i % 2 else None) for i in ids]
    assert [*expected, (None, None)] == _read(database, "SELECT start_time, last_error FROM jobs ORDER BY id")
    shards = _read(database, "SELECT fingerprint, state FROM shards ORDER BY id")
    assert [*((bytes([i % 256, 0]), "torn") for i in ids), (None, "growing")] == shards


def test_of_two_changes_of_a_row_the_last_counts(database: Database) -> None:
    """As where they are sent one after the other."""
    _fill(database, 50)
    with transaction(database) as conn:
        write.update_jobs(conn, [{"id": 1 + i % 30, "point_count": i} for i in range(60)])
    assert [(30 + i,) for i in range(30)] == _read(database, "SELECT point_count FROM jobs WHERE id <= 30 ORDER BY id")


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_stored(database: Database, value: float) -> None:
    """An infinity goes in as it is."""
    _fill(database, 50)
    with transaction(database) as conn:
        write.update_jobs(conn, [{"id": i, "start_time": value} for i in range(1, 51)])
    assert [(value,)] * 50 == _read(database, "SELECT start_time FROM jobs")


@pytest.mark.parametrize("count", COUNTS)
def test_a_cursor_that_somebody_moved_stops_the_batch(database: Database, count: int) -> None:
    """All cursors move, or none does."""
    _fill(database, count)
    moves = [{"id": i, "was": 0, "cursor": i, "tail": b"t"} for i in range(1, count + 1)]
    with transaction(database) as conn:
        write.move_cursors(conn, moves)
    with pytest.raises(Retry), transaction(database) as conn:
        write.move_cursors(conn, [{**move, "was": move["cursor"], "cursor": 2**40} for move in moves[1:]] + moves[:1])
    moved = _read(database, "SELECT cursor, tail FROM shards ORDER BY id")
    assert [(i, b"t") for i in range(1, count + 1)] == moved


def test_a_thousand_jobs_are_a_few_statements(database: Database, backend: Backend) -> None:
    """On PostgreSQL the server is not asked once a row."""
    if backend == "postgresql":
        with sent_by_the_indexer() as sent:
            _fill(database, 1_000)
        assert 3 == len(sent)
        assert not any("VALUES (%s" in statement for statement in sent)


def _tag(i: int) -> tuple[Any, ...]:
    odd = i % 3 == 0
    texts = (b"\x00\xff" * i, b"", None, ODD) if odd else (None, None, "shown", "")
    name = f"{ODD}/{i}"
    identity = (1, "scalars", name, key("scalars", name), -i, "scalar", *texts)
    return (i, i, None if odd else 2**62, None if odd else i / 3, float("inf") if odd else -0.0, 2**31 - 1, *identity)


@pytest.mark.parametrize("count", COUNTS)
def test_tags_are_stored_as_given(database: Database, backend: Backend, count: int) -> None:
    """However they go in: plain statements, or packed as PostgreSQL takes them best."""
    columns, rows = STATISTICS + IDENTITY, [_tag(i) for i in range(1, count + 1)]
    ways = ["plain", "packed"] if backend == "postgresql" else ["plain"]
    for way in ways:
        with transaction(database) as conn:
            conn.execute("DELETE FROM roots")
            _job(conn)
            if way == "plain":
                write.add_tags(conn, columns, rows)
            else:
                bulk.insert(conn, postgresql.pack("tags", columns, rows))
        assert rows == _read(database, f"SELECT {', '.join(columns)} FROM tags ORDER BY id")


def _job(conn: Connection) -> None:
    conn.execute("INSERT INTO roots (id, name, path, named) VALUES (1, 'r', '/r', ?)", (True,))
    conn.execute("INSERT INTO jobs (id, root_id, train_id, train_key) VALUES (1, 1, './', ?)", (b"k",))


def test_a_tag_stored_twice_is_refused(database: Database, backend: Backend) -> None:
    """Packed ones too."""
    with transaction(database) as conn:
        _job(conn)
    with pytest.raises(Refuse, match=r"(?i)unique"), transaction(database) as conn:
        _insert(conn, backend, [_tag(1), (2, *_tag(1)[1:])])


def _insert(conn: Connection, backend: Backend, rows: list[tuple[Any, ...]]) -> None:
    if backend == "postgresql":
        bulk.insert(conn, postgresql.pack("tags", STATISTICS + IDENTITY, rows))
    else:
        write.add_tags(conn, STATISTICS + IDENTITY, rows)


def test_the_types_of_columns_are_those_of_the_schema() -> None:
    """A column that changes its type, or that the list lacks, shows here and not in a load."""
    names = {"INTEGER": "integer", "BIGINT": "bigint", "TEXT": "text", "DOUBLE": "double precision", "BLOB": "bytea"}
    names |= {"DOUBLE_PRECISION": "double precision"}
    ours = {"lease_owner", "lease_generation", "lease_expires"}  # set by statements of their own
    found = {
        (column.name, names[str(column.type)])
        for table in ("jobs", "shards", "tags")
        for column in METADATA.tables[table].columns
        if column.name not in ours
    }
    assert set(postgresql.TYPES.items()) == found


def test_commits_of_a_load_need_not_wait_for_the_disk(database: Database, backend: Backend) -> None:
    """While a backlog is loaded, and not a moment longer."""
    seen: list[str] = []
    with postgresql.unhurried(database):
        if backend == "postgresql":
            seen.append(_read(database, "SHOW synchronous_commit")[0][0])
    if backend == "postgresql":
        seen.append(_read(database, "SHOW synchronous_commit")[0][0])
        assert ["off", "on"] == seen
    else:
        assert [(1,)] == _read(database, "PRAGMA synchronous")


def test_a_connection_lost_on_the_way_is_told_by_who_uses_it(database: Database, backend: Backend, url: str) -> None:
    """The end of the block adds no error; the next use says that commits may be lost, once."""
    if backend == "sqlite":
        return
    other = Database(url)
    with postgresql.unhurried(database):
        pid = _read(database, "SELECT pg_backend_pid()")[0][0]
        assert [(True,)] == _read(other, f"SELECT pg_terminate_backend({pid})")
    other.dispose()
    with pytest.raises(Unreachable, match="cannot be reached"):
        _read(database, "SELECT 1")
    assert [("on",)] == _read(database, "SHOW synchronous_commit")
