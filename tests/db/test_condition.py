"""`doctor` on real databases: what they say of themselves, whole, empty, of an older schema, or none at all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from indexer.db import bulk, condition, migrate
from indexer.db.connection import Database
from indexer.version import REVISION
from summarydb import doctor
from summarydb.doctor import Status
from tests.conftest import DATA, Backend
from tests.support.engines import transaction
from tests.support.following import index_once


def test_a_database_says_what_it_is(engine: Engine, url: str, backend: Backend) -> None:
    """Schema, size, roots and files of both kinds; the server's own facts on PostgreSQL."""
    root = DATA / "tensorboard" / "sweep"
    index_once(engine, root)
    found = condition.examine(url)
    assert (REVISION, [str(root)], []) == (found.revision, found.roots, found.indexers)
    newest = max(path.stat().st_mtime_ns for path in root.rglob("*tfevents*"))
    assert newest == found.newest_mtime_ns
    assert found.bytes > 100_000
    if backend == "sqlite":
        assert ("wal", None) == (found.journal_mode, found.server)
        return
    server = found.server
    assert server is not None
    assert ("UTF8", "postgres", True, False) == (server.encoding, server.role, server.superuser, server.without_key)
    assert server.version >= 120000
    assert 0 < server.connections < server.max_connections
    assert abs(server.now - time.time()) < 60


def test_an_installation_that_is_well_has_no_problem(engine: Engine, url: str) -> None:
    """All checks end, and the logdirs are those of the database."""
    root = DATA / "tensorboard" / "sweep"
    index_once(engine, root)
    report = doctor.run(url, [])
    assert report.ok, doctor.render(report)
    assert f"logdir {root}" in {check.name for check in report.checks}
    facts = report.facts()
    assert facts["ok"] is True
    assert {"check", "status"} <= {"check", *facts["checks"][0]}
    assert "problems: 0" in doctor.render(report)


def test_an_older_schema_can_be_asked(engine: Engine, url: str, empty_url: str) -> None:
    """What is wrong is told even where the rest of the program refuses."""
    database = Database(empty_url)
    report = doctor.run(empty_url, []) if "postgresql" in empty_url else None
    assert report is None or report.ok
    migrate.upgrade(database, "0001")
    database.dispose()
    report = doctor.run(empty_url, [])
    assert not report.ok
    assert [("schema", "run `summarydb db upgrade`")] == [
        (check.name, check.do) for check in report.checks if check.status is Status.PROBLEM
    ]


def test_a_database_of_somebody_else_is_a_problem(engine: Engine, empty_url: str) -> None:
    """It is named, and nothing in it is asked."""
    database = Database(empty_url)
    with database.begin() as conn:
        conn.execute("CREATE TABLE customers (id INTEGER)")
    database.dispose()
    (problem,) = [check for check in doctor.run(empty_url, []).checks if check.status is Status.PROBLEM]
    assert "another program" in problem.says


def test_a_load_that_was_cut_is_told(engine: Engine, url: str, backend: Backend) -> None:
    """The key that a first load leaves out on PostgreSQL, until it ends or the next start."""
    database = Database(url)
    suspended = bulk.suspend_index(database, 10**6)
    database.dispose()
    names = {check.name for check in doctor.run(url, []).checks if check.status is Status.WARNING}
    assert (backend == "postgresql") == suspended == ("key" in names)


def test_a_silent_indexer_is_seen(engine: Engine, url: str) -> None:
    """Its row says when it was last heard of."""
    with transaction(engine) as conn:
        conn.execute(
            text(
                "INSERT INTO indexers (id, host, pid, version, started_at, heartbeat, state) "
                "VALUES (1, 'h', 7, '0', 1, 1, 'loading')"
            )
        )
    (found,) = [check for check in doctor.run(url, []).checks if check.name == "indexer"]
    assert "process 7 on h was cut" in found.says


@pytest.mark.parametrize("url_of", ["sqlite:///{}/x.db", "postgresql://nobody@127.0.0.1:1/x"])
def test_no_database_at_all(tmp_path: Path, url_of: str) -> None:
    """A file that is not there yet is well; a server that does not answer is a problem in one line."""
    report = doctor.run(url_of.format(tmp_path), [])
    sqlite = url_of.startswith("sqlite")
    assert sqlite == report.ok
    (found,) = [check for check in report.checks if check.name == "database"]
    assert ("not there yet" in found.says) == sqlite
