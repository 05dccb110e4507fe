"""What a database does to an indexer that loads into it: full, failing, gone, dead-locked. It waits, and goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from indexer.db import write
from indexer.db.connection import Connection, Database, transaction
from indexer.db.engine import open_engine, open_reader
from indexer.errors import Refuse, Retry, Unreachable, Wait
from indexer.ingest import watch
from tests.conftest import migrate_empty
from tests.support.faults import Patience, When, commits
from tests.support.following import SMALL, Follower
from tests.support.loads import CONFIG, FILE, calm, runs
from tests.support.postgres import PostgresServer
from tests.support.program import eventually
from tests.support.tables import differences, dump


def states(engine: Engine) -> list[tuple[str, str | None]]:
    """Return what the indexers say of themselves."""
    with engine.connect() as conn:
        return [(row.state, row.message) for row in conn.execute(text("SELECT state, message FROM indexers"))]


# Full -----------------------------------------------------------------------------------------------------------------
def test_a_full_disk_is_waited_for_and_nothing_is_lost(sqlite_template: Path, tmp_path: Path) -> None:
    """The state says what is amiss, the database stays whole and readable, and the load goes on when there is room."""
    root = runs(tmp_path / "runs")
    path = tmp_path / "full.db"
    path.write_bytes(sqlite_template.read_bytes())
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    engine = open_engine(f"sqlite:///{path}")
    told: list[str | None] = []
    follower = Follower(engine, root, config=CONFIG)
    raw = follower.indexer.database.connect().raw
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    seen: list[list[tuple[str, str | None]]] = []

    def waited(count: int) -> None:
        seen.append(states(engine))
        with engine.connect() as conn:
            assert "ok" == conn.execute(text("PRAGMA integrity_check")).scalar_one()
        if count == 4:
            raw.execute("PRAGMA max_page_count = 1000000")

    follower.indexer.told_waiting = told.append
    follower.stop = Patience(waited)
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    follower.scan()
    assert 4 == follower.stop.count
    words = "the disk of the database is full (database or disk is full); free some space and it goes on"
    assert [words, None] == told
    assert [[("waiting", words)]] * 4 == seen
    assert [("watching", None)] == states(engine)
    assert [] == differences(expected, dump(engine))
    engine.dispose()


# Gone -----------------------------------------------------------------------------------------------------------------
@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off without its pauses."""
    monkeypatch.setattr(watch, "_BACK_OFF_SECONDS", (0.0, 0.0))


@pytest.fixture
def postgres_engine(postgres: PostgresServer, postgres_template: str) -> Iterator[Engine]:
    """An engine on a migrated, empty PostgreSQL database."""
    url = postgres.create(template=postgres_template)
    engine = open_engine(url)
    yield engine
    engine.dispose()
    postgres.drop(url)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_cut_at_a_commit_loses_and_doubles_nothing(
    postgres: PostgresServer, postgres_engine: Engine, tmp_path: Path, when: When
) -> None:
    """Whether the commit came through or not, the indexer looks, and the tables are those of an undisturbed run."""
    root = runs(tmp_path / "runs", 600)
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    cuts: list[int] = []
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:

        def cut(number: int, now: When, raw: Any) -> None:
            if now == when and number % 4 == 3 and len(cuts) < 20:
                admin.execute("SELECT pg_terminate_backend(%s, 10000)", [raw.info.backend_pid])
                cuts.append(number)
                if when == "after":
                    raw.execute("SELECT 1")  # the answer to the commit is what got lost

        with commits(cut):
            follower = Follower(postgres_engine, root, config=CONFIG)
            follower.scan()
    assert len(cuts) > 3
    assert [] == differences(expected, dump(postgres_engine))


@pytest.mark.usefixtures("fast")
def test_a_connection_cut_at_any_statement_is_made_again(
    postgres: PostgresServer, postgres_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two transactions, and while settings of the connection are made."""
    root = runs(tmp_path / "runs", 600)
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    sent, cuts = 0, 0
    execute = Connection.execute
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:

        def cut(self: Connection, statement: str, values: Any = ()) -> Any:
            nonlocal sent, cuts
            sent += 1
            if sent % 13 == 0 and cuts < 30:
                cuts += 1
                admin.execute("SELECT pg_terminate_backend(%s, 10000)", [self.raw.info.backend_pid])
            return execute(self, statement, values)

        monkeypatch.setattr(Connection, "execute", cut)
        follower = Follower(postgres_engine, root, config=CONFIG)
        follower.scan()
    assert cuts > 3
    assert [] == differences(expected, dump(postgres_engine))


@pytest.mark.usefixtures("fast")
def test_a_deadlock_is_rolled_back_and_tried_again(
    postgres: PostgresServer, postgres_engine: Engine, tmp_path: Path
) -> None:
    """PostgreSQL chooses the indexer as the one to give way to somebody's hand-written transaction."""
    root = runs(tmp_path / "runs", 600)
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    told: list[str | None] = []
    address = postgres_engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as rude:
        rude.execute("SET deadlock_timeout = '1min'")  # the indexer's own is shorter: it notices first
        waiting = threading.Thread(target=lambda: rude.execute("UPDATE index_state SET scanned_at = 1"))

        def cross(number: int, now: When, raw: Any) -> None:
            if (number, now) != (8, "before"):
                return
            rude.execute("UPDATE roots SET path = path")
            raw.execute("SET LOCAL deadlock_timeout = '10ms'")
            raw.execute("UPDATE index_state SET scanned_at = scanned_at")
            waiting.start()
            blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = %s"
            eventually(lambda: raw.execute(blocked, [rude.info.backend_pid]).fetchone()[0])
            raw.execute("UPDATE roots SET path = path")

        with commits(cross):
            follower = Follower(postgres_engine, root, config=CONFIG)
            follower.indexer.told_waiting = told.append

            def give_way(_count: int) -> None:
                waiting.join()
                rude.rollback()

            follower.stop = Patience(give_way)
            follower.scan()
    assert 2 == len(told)
    assert "deadlock detected" in str(told[0])
    assert [] == differences(expected, dump(postgres_engine))


@pytest.mark.usefixtures("fast")
def test_a_serialization_failure_is_tried_again(
    postgres_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server's default isolation is strict, somebody else's commit in between makes ours fail."""
    root = runs(tmp_path / "runs", 600)
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    with postgres_engine.connect() as conn:
        conn.execution_options(isolation_level="AUTOCOMMIT").execute(
            text(f"ALTER DATABASE {postgres_engine.url.database} SET default_transaction_isolation = 'serializable'")
        )
    told: list[str | None] = []
    bump, calls = write.bump, 0

    def late(conn: Connection) -> int:
        nonlocal calls
        calls += 1
        if calls % 3 == 0 and calls < 20:
            with postgres_engine.begin() as other:
                other.execute(text("UPDATE index_state SET change_counter = change_counter + 1"))
        return bump(conn)

    monkeypatch.setattr(write, "bump", late)
    follower = Follower(postgres_engine, root, config=CONFIG)
    follower.indexer.told_waiting = told.append
    follower.scan()
    assert "could not serialize access" in str(told[0])
    assert [] == differences(expected, dump(postgres_engine))


@pytest.mark.parametrize(("query", "idle"), [("", "30"), ("keepalives_idle=7", "7")])
def test_a_server_that_vanished_is_missed_within_a_minute(postgres_engine: Engine, query: str, idle: str) -> None:
    """Without an answer, and without an end of the connection; who knows better says so in the URL."""
    url = postgres_engine.url.render_as_string(hide_password=False) + (f"&{query}" if query else "")
    database, reader = Database(url), open_reader(url)
    raw = database.connect().raw
    with reader.connect() as conn:
        for info in (raw.info, conn.connection.dbapi_connection.info):  # type: ignore[union-attr]
            found = info.get_parameters()
            assert (idle, "3", "60000") == tuple(
                found[name] for name in ("keepalives_idle", "keepalives_count", "tcp_user_timeout")
            )
    database.dispose()
    reader.dispose()


@pytest.mark.usefixtures("fast")
@pytest.mark.skipif(sys.platform == "win32", reason="SIGQUIT")
def test_a_server_that_breaks_down_in_a_load_takes_no_point_with_it(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    """Commits it had not written are gone; what the indexer remembers of them is looked at again, and loaded again."""
    own_postgres.configure(wal_writer_delay="10s")
    root = runs(tmp_path / "runs", 100, "abcdefghijkl")
    size = (root / "a" / FILE).stat().st_size
    config = replace(SMALL, batch_points=1, slice_bytes=4 * size)  # whole runs: no cursor of the next batch moves
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    url = own_postgres.create()
    migrate_empty(url)
    engine = open_engine(url)
    lost: list[int] = []

    def stored() -> int:
        with psycopg.connect(url) as conn:
            return len(conn.execute("SELECT 1 FROM tensor_points").fetchall())

    def break_down(number: int, when: When, _raw: Any) -> None:
        if when == "after" and not lost and (before := stored()):
            own_postgres.crash()
            own_postgres.resume()
            lost.append(before - stored())

    with commits(break_down):
        follower = Follower(engine, root, config=config)
        follower.scan()
    assert lost[0] in range(100, 1200, 100), "else the test shows nothing"
    assert [] == differences(expected, dump(engine))
    follower.indexer.database.dispose()
    engine.dispose()


# What errors mean -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "family", "words"),
    [
        ("53100", Wait, "the disk of the database is full"),
        ("58030", Wait, "the disk or memory of the database fails"),
        ("53200", Wait, "the disk or memory of the database fails"),
        ("53300", Unreachable, "cannot be reached"),
        ("57P03", Unreachable, "cannot be reached"),
        ("40001", Retry, "another writer"),
        ("40P01", Retry, "another writer"),
        ("23505", Refuse, "the database refused"),
    ],
)
def test_what_a_server_says_has_a_family(
    postgres_engine: Engine, state: str, family: type[Exception], words: str
) -> None:
    """By its code, never by its words."""
    database = Database(postgres_engine.url.render_as_string(hide_password=False))
    with pytest.raises(family, match=words), transaction(database) as conn:
        conn.execute(f"DO $$ BEGIN RAISE EXCEPTION 'it says so' USING ERRCODE = '{state}'; END $$")
    database.dispose()


def test_a_damaged_file_is_refused_with_what_to_do(sqlite_template: Path, tmp_path: Path) -> None:
    """Nothing is repaired and nothing is overwritten."""
    path = tmp_path / "damaged.db"
    content = bytearray(sqlite_template.read_bytes())
    page = 16384
    content[page:] = b"\xff" * (len(content) - page)
    path.write_bytes(content)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(Refuse, match=r"is damaged .* index anew"), transaction(database) as conn:
        conn.execute("SELECT * FROM jobs").fetchall()
    database.dispose()
    assert bytes(content) == path.read_bytes()
