"""The indexer's own connection: transactions are whole, losses are told or mended, and errors say what may be done."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from indexer.db import connection
from indexer.db.connection import Database, transaction
from indexer.db.dialect import parse_url, sqlite_file
from indexer.errors import Refuse, Retry, UsageError, Wait
from tests.conftest import Backend

INSERT = "INSERT INTO roots (name, path, named) VALUES (?, ?, ?)"


def _roots(database: Database) -> list[str]:
    with transaction(database) as conn:
        return [row[0] for row in conn.execute("SELECT name FROM roots ORDER BY name")]


def _fail(conn: connection.Connection) -> None:
    conn.execute(INSERT, ("c", "/c", False))
    raise ZeroDivisionError


def test_a_block_commits_whole_or_not_at_all(database: Database) -> None:
    """What a block wrote is there after it, and gone after an exception, which comes out as it was."""
    with transaction(database) as conn:
        assert conn.many(INSERT, [("a", "/a", False), ("b", "/b", True)]) == 2
    with pytest.raises(ZeroDivisionError), transaction(database) as conn:
        _fail(conn)
    assert ["a", "b"] == _roots(database)


def test_a_broken_rule_of_the_schema_is_refused(database: Database) -> None:
    """A duplicate is a bug of ours, not something to repeat."""
    with pytest.raises(Refuse, match=r"(?i)unique"), transaction(database) as conn:
        conn.many(INSERT, [("a", "/a", False), ("a", "/b", False)])
    assert [] == _roots(database)


def test_a_held_database_may_be_asked_again(database: Database, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who meets another writer gets Retry, and then goes through."""
    monkeypatch.setattr(connection, "BUSY_MS", 1)
    other = Database(url)
    other.connect()
    if database.dialect == "postgresql":
        with transaction(other) as conn:
            conn.execute("SET lock_timeout = '1ms'")
    held = "UPDATE index_state SET scanned_at = 1"
    with transaction(database) as conn:
        conn.execute(held)
        with pytest.raises(Retry, match="another writer"), transaction(other) as waiting:
            waiting.execute(held)
    with transaction(other) as conn:
        conn.execute(held)
    other.dispose()


def test_a_connection_lost_between_transactions_is_made_again(database: Database, backend: Backend, url: str) -> None:
    """A server that was restarted meanwhile need not be told of; one lost half-way is something to wait for."""
    if backend == "sqlite":
        database.connect()
        database.dispose()  # the nearest there is
        assert [] == _roots(database)
        return
    killer = Database(url)

    def lose(conn: connection.Connection) -> None:
        pid = conn.value("SELECT pg_backend_pid()")
        with transaction(killer) as other:
            assert other.value("SELECT pg_terminate_backend(?, 10000)", (pid,))

    def lose_half_way(conn: connection.Connection) -> None:
        conn.execute(INSERT, ("a", "/a", False))
        lose(conn)
        conn.execute(INSERT, ("b", "/b", False))

    lose(database.connect())
    assert [] == _roots(database)
    with pytest.raises(Wait, match="cannot be reached"), transaction(database) as conn:
        lose_half_way(conn)
    assert [] == _roots(database)
    killer.dispose()


@pytest.mark.parametrize("limit", ["_CHECKPOINT_COMMITS", "_CHECKPOINT_BYTES"])
def test_commits_reach_the_file_while_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """After some commits, or bytes of payloads, the file alone holds them; the writer has copied nothing."""
    monkeypatch.setattr(connection, limit, 2)
    path = tmp_path / "x.db"
    database = Database(f"sqlite:///{path}")
    with transaction(database) as conn:
        conn.execute("CREATE TABLE t (x)")
    with transaction(database) as conn:
        conn.execute("INSERT INTO t VALUES (1)")
        conn.bytes_written += 2

    def copied() -> bool:
        alone = shutil.copy(path, tmp_path / "alone.db")
        try:
            with sqlite3.connect(alone) as raw:
                return bool(raw.execute("SELECT count(*) FROM t").fetchone()[0])
        except sqlite3.Error:
            return False
        finally:
            raw.close()

    pause = threading.Event()
    assert any(copied() or pause.wait(0.02) for _ in range(500))
    database.dispose()
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoints"]


@pytest.mark.parametrize(
    "rest",
    ["x.db", "/abs/x.db", "./a b.db", "%41.db", "a+b.db", "C:\\runs\\x.db", "ünï.db", "x.db?timeout=3", "a@b:c/d.db"],
)
def test_a_sqlite_address_means_the_same_file_to_all(rest: str) -> None:
    """What the indexer opens is what SQLAlchemy opens."""
    for scheme in ("sqlite", "sqlite+pysqlite"):
        assert parse_url(f"{scheme}:///{rest}").database == sqlite_file(f"{scheme}:///{rest}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/x", "sqlite+aiosqlite:///x.db"])
def test_what_cannot_be_used_is_refused(url: str) -> None:
    """An address of no database that we write to is refused with what to write."""
    with pytest.raises(Refuse, match="write sqlite:///FILE"):
        sqlite_file(url)


def test_what_is_no_address_is_a_mistake_of_usage() -> None:
    """Text that is no URL at all."""
    with pytest.raises(UsageError, match="cannot be read"):
        sqlite_file("no address")


def test_postgresql_has_no_file() -> None:
    """Its address is not taken for one of SQLite."""
    assert sqlite_file("postgresql://user@host/name") is None
