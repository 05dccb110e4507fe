"""Fixtures shared by all tests: a database of each kind, migrated and empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import Engine

from indexer.db import migrate
from indexer.db.connection import Database
from indexer.db.engine import open_engine
from tests.support.postgres import PostgresServer, database_of

DATA = Path(__file__).parent / "data"
Backend = Literal["sqlite", "postgresql"]


def migrate_empty(url: str) -> None:
    """Make the schema in an empty database."""
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what this suite knows beside pytest's own options."""
    parser.addoption("--update-golden", action="store_true", help="write golden answers anew; look at the difference")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole session."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server that tests may stop: nobody else uses it."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Name of a migrated, empty database to copy."""
    url = postgres.create()
    migrate_empty(url)
    postgres.let_read(url)
    return database_of(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file to copy."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    migrate_empty(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The database a test runs on; every backend test runs on both."""
    value: Backend = request.param
    return value


@pytest.fixture
def empty_url(backend: Backend, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a database without any table."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def url(backend: Backend, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a migrated, empty database."""
    if backend == "sqlite":
        path = tmp_path / "summary.db"
        path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
        yield f"sqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.create(template=request.getfixturevalue("postgres_template"))
    yield made
    server.drop(made)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """SQLAlchemy's engine on a migrated, empty database, to look at it and to prepare rows."""
    made = open_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """The same database as the indexer opens it."""
    made = Database(url)
    yield made
    made.dispose()
