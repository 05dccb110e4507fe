"""The web never writes, and says in words when the database is away, locked, old or slow."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from indexer.config import Config
from indexer.db import engine as engines
from indexer.db.engine import open_engine, open_reader, read_only
from tests.api.conftest import Api
from tests.conftest import Backend
from tests.support.engines import transaction
from tests.support.postgres import PostgresServer
from webapi import queries
from webapi.app import create_app

PATHS = [
    "/",
    *(
        f"/api/v1{path}"
        for path in ("/health", "/jobs", "/jobs/1", "/jobs/1/tags", "/jobs/1/files", "/series", "/points")
    ),
]


def problems(client: FlaskClient, status: int) -> list[str]:
    """Ask every route; each answers with a problem of this status. Returns what they say."""
    found = []
    for path in PATHS:
        answer = client.get(path)
        assert (status, "application/problem+json") == (answer.status_code, answer.content_type), answer.text
        found.append(str(answer.get_json()["detail"]))
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO roots (id, name, path) VALUES (99, 'x', 'x')",
        "UPDATE jobs SET point_count = 0",
        "DELETE FROM tensor_points",
        "DROP TABLE tags",
        "CREATE TABLE mine (id INTEGER)",
    ],
)
def test_the_application_cannot_write(api: Api, statement: str) -> None:
    """Writing through the web's own engine fails in the database, in our own block and outside of it."""
    with pytest.raises(Exception, match=r"(?i)read.?only") as caught, read_only(api.reader, seconds=5) as conn:
        conn.execute(text(statement))
    assert caught.type.__name__ == "Refuse"
    with pytest.raises(DBAPIError, match=r"(?i)read.?only"), api.reader.begin() as conn:
        conn.execute(text(statement))


def test_the_application_leaves_the_database_as_it_was(api: Api, filled: Engine) -> None:
    """Every route was asked and not a row differs."""

    def rows() -> dict[str, list[str]]:
        with transaction(filled) as conn:
            tables = ("roots", "jobs", "shards", "shard_errors", "tags", "tensor_points", "restarts", "index_state")
            return {table: sorted(map(repr, conn.execute(text(f"SELECT * FROM {table}")))) for table in tables}

    before = rows()
    for path in PATHS:
        assert 200 == api.request(path).status_code
    assert before == rows()


def test_an_older_schema_is_named(api: Api, filled: Engine) -> None:
    """A database that must be migrated first is a 503 that says which command does it."""
    with transaction(filled) as conn:
        conn.execute(text("UPDATE summarydb_version SET version_num = '0001'"))
    for detail in problems(api.app.test_client(), 503):
        assert "summarydb db upgrade" in detail
    with transaction(filled) as conn:
        conn.execute(text("UPDATE summarydb_version SET version_num = '9999'"))
    for detail in problems(api.app.test_client(), 503):
        assert "install a newer summarydb" in detail


def test_a_database_without_tables_is_a_problem(empty_url: str, config: Config) -> None:
    """A database that nobody migrated is a 503, no defect."""
    writer = open_engine(empty_url)
    writer.connect().close()  # SQLite: now there is a file
    writer.dispose()
    reader = open_reader(empty_url)
    problems(create_app(config, reader).test_client(), 503)
    reader.dispose()


def test_a_query_past_its_deadline_is_504(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that takes too long is cut, and the answer says so."""
    endless = (
        "SELECT pg_sleep(60)"
        if api.reader.dialect.name == "postgresql"
        else "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    )

    def slow(conn: Connection) -> queries.State:
        conn.execute(text(endless))
        raise AssertionError("it ended")

    monkeypatch.setattr(queries, "state", slow)
    client = create_app(Config(url=api.config.url, query_seconds=0.05), api.reader).test_client()
    for detail in problems(client, 504):
        assert "deadline" in detail


def test_a_query_cut_behind_its_first_row_is_504(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite computes rows while they are fetched, where the deadline holds, too."""
    one_and_no_end = (
        "SELECT pg_sleep(60)"
        if api.reader.dialect.name == "postgresql"
        else "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 2"
    )

    def slow(conn: Connection) -> queries.State:
        queries.tuples(conn, text(one_and_no_end))
        raise AssertionError("it ended")

    monkeypatch.setattr(queries, "state", slow)
    client = create_app(Config(url=api.config.url, query_seconds=0.05), api.reader).test_client()
    for detail in problems(client, 504):
        assert "deadline" in detail


@pytest.fixture
def lost(api: Api, filled: Engine, backend: Backend, request: pytest.FixtureRequest) -> FlaskClient:
    """A client whose database has just gone."""
    api.reader.dispose()
    filled.dispose()
    if backend == "sqlite":
        for path in Path(api.config.url.removeprefix("sqlite:///")).parent.glob("summary.db*"):
            path.unlink()
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        server.drop(api.config.url)
    return api.app.test_client()


def test_a_database_that_is_gone_is_503(lost: FlaskClient) -> None:
    """A database that cannot be opened is named as such on every route; what needs none still answers."""
    problems(lost, 503)
    assert 200 == lost.get("/api/v1/openapi.json").status_code


def test_a_locked_database_is_503_with_retry_after(
    api: Api, filled: Engine, backend: Backend, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who holds the whole database makes us wait a moment, then say when to come back."""
    monkeypatch.setattr(engines, "BUSY_MS", 10)
    api.reader.dispose()
    filled.dispose()
    if backend == "sqlite":
        holder = sqlite3.connect(api.config.url.removeprefix("sqlite:///"), isolation_level=None)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        expected = 503
    else:
        holder = psycopg.connect(url)  # type: ignore[assignment]
        holder.execute("LOCK TABLE index_state IN ACCESS EXCLUSIVE MODE")
        expected = 504  # it waits in the server, up to the deadline
    client = create_app(Config(url=api.config.url, query_seconds=0.05), api.reader).test_client()
    answer = client.get("/api/v1/jobs")
    assert expected == answer.status_code, answer.text
    assert expected == 504 or int(answer.headers["Retry-After"]) > 0
    holder.close()
    assert 200 == api.request("/api/v1/jobs").status_code
