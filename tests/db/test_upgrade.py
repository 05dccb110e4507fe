"""Two releases on one database: whoever does not speak its schema says so, and touches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from indexer.config import Config
from indexer.db import migrate
from indexer.db.connection import Database
from indexer.db.engine import open_engine, open_reader
from indexer.errors import Refuse, Wait
from indexer.version import REVISION, VERSION_TABLE
from tests.conftest import Backend
from tests.support.engines import transaction, writer
from tests.support.following import Follower, make
from tests.support.records import tb_scalar, tb_version
from webapi.app import create_app

OLD = "0006"
"""A schema of the past: databases of released versions have it."""
EVENTS = tb_version(1.0) + tb_scalar("loss", 1, 0.5, 1.0)
RUN = "a/events.out.tfevents.1700000000.h"


@pytest.fixture
def old(empty_url: str) -> Iterator[tuple[str, Engine]]:
    """Address and engine of a database of the past."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine))
    migrate.downgrade(writer(engine), OLD)
    yield empty_url, engine
    engine.dispose()


def say_of_an_indexer(engine: Engine, *, state: str = "watching", ago: float = 1.0) -> None:
    """Register an indexer of the past that was heard of `ago` seconds ago."""
    now = "extract(epoch FROM now())" if engine.dialect.name == "postgresql" else "unixepoch()"
    with transaction(engine) as conn:
        conn.execute(
            text(
                "INSERT INTO indexers (host, pid, version, started_at, heartbeat, state)"
                f" VALUES ('there', 7, '0.0.9', {now} - 100, {now} - {ago}, '{state}')"
            )
        )


def revision_of(engine: Engine) -> str | None:
    """Return the schema a database has."""
    return migrate.current(engine)


def take_to(engine: Engine, revision: str) -> None:
    """Have the database say that it has another schema."""
    with transaction(engine) as conn:
        conn.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{revision}'"))


def test_an_upgrade_waits_for_no_indexer_but_refuses_beside_one(backend: Backend, old: tuple[str, Engine]) -> None:
    """On PostgreSQL the table of indexers tells who works; on SQLite the lock does, which is tested with it."""
    url, engine = old
    say_of_an_indexer(engine)
    database = Database(url)
    if backend == "postgresql":
        with pytest.raises(Refuse, match=r"process 7 on there \(summarydb 0\.0\.9\) indexes into the database.*end it"):
            migrate.upgrade(database)
        assert OLD == revision_of(engine)
        with transaction(engine) as conn:
            conn.execute(text("UPDATE indexers SET heartbeat = heartbeat - 60"))
    migrate.upgrade(database)
    assert REVISION == revision_of(engine)
    database.dispose()


def test_an_upgrade_beside_one_that_ended(old: tuple[str, Engine]) -> None:
    """Whoever said good-bye is not waited for."""
    url, engine = old
    say_of_an_indexer(engine, state="stopped", ago=0)
    database = Database(url)
    migrate.upgrade(database)
    assert REVISION == revision_of(engine)
    database.dispose()


@pytest.mark.parametrize("other", ["0001", "9999"])
def test_an_indexer_ends_when_the_schema_changes_under_it(engine: Engine, tmp_path: Path, other: str) -> None:
    """At its next beat, with words that say what to do; of what came since nothing is written."""
    follower = Follower(engine, make(tmp_path / "runs", {}))
    follower.settle()
    take_to(engine, other)
    make(tmp_path / "runs", {RUN: EVENTS})
    follower.indexer.next_scan = 0.0
    follower.indexer.next_beat = 0.0
    with pytest.raises(Refuse, match=f"was taken to schema {other} while we ran.*start it again"):
        follower.indexer._turn(follower.stop)
    with engine.connect() as conn:
        assert 0 == conn.execute(text("SELECT count(*) FROM tensor_points")).scalar()


def test_an_indexer_that_begins_meanwhile_refuses(engine: Engine, tmp_path: Path) -> None:
    """Between its look at the schema and its registration somebody may have changed it."""
    take_to(engine, "9999")
    with pytest.raises(Refuse, match="was taken to schema 9999"):
        Follower(engine, make(tmp_path / "runs", {}))
    with engine.connect() as conn:
        assert 0 == conn.execute(text("SELECT count(*) FROM indexers")).scalar()


@pytest.mark.parametrize(
    ("other", "does"), [(OLD, "run `summarydb db upgrade`"), ("9999", "install a newer summarydb")]
)
def test_a_web_over_another_schema_says_so(url: str, engine: Engine, other: str, does: str) -> None:
    """503 with words while it lasts, health included; no restart is needed where the schema comes back."""
    reader = open_reader(url)
    web = create_app(Config(url=url), reader).test_client()
    pages = ("/", "/api/v1/health", "/api/v1/jobs", "/api/v1/series", "/api/v1/changes")
    assert {200} == {web.get(page).status_code for page in pages}
    take_to(engine, other)
    for page in pages:
        answer = web.get(page)
        assert 503 == answer.status_code, page
        assert f"the database has schema {other}, this program needs {REVISION}" in answer.get_json()["detail"]
        assert does in answer.get_json()["detail"]
    assert "summarydb_database_readable 0" in web.get("/metrics").text
    take_to(engine, REVISION)
    assert {200} == {web.get(page).status_code for page in pages}
    reader.dispose()


def test_a_running_web_lives_through_an_upgrade(old: tuple[str, Engine]) -> None:
    """Tables change under its open connections: it refuses before, and answers behind it."""
    url, _ = old
    reader = open_reader(url)
    web = create_app(Config(url=url), reader).test_client()
    assert 503 == web.get("/api/v1/jobs").status_code
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()
    assert 200 == web.get("/api/v1/jobs").status_code
    assert "ok" == web.get("/api/v1/health").get_json()["status"]
    reader.dispose()


def test_the_loop_itself_says_that_it_turns(engine: Engine, tmp_path: Path) -> None:
    """Once a beat, also while it waits for the database: whoever restarts us for silence helps nobody then."""
    follower = Follower(engine, make(tmp_path / "runs", {}))
    turns: list[float] = []
    follower.indexer.turned = lambda: turns.append(follower.clock.time)
    follower.settle()
    assert 1 == len(turns)
    follower.settle()
    assert 1 == len(turns)
    follower.clock.time += 6
    follower.settle()
    assert 2 == len(turns)
    follower.indexer._wait(Wait("the disk is full"), 0.1)
    assert len(turns) > 2
