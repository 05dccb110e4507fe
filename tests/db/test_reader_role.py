"""`db create-reader`: the role reads our tables and views, today's and tomorrow's, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import psycopg.sql
import pytest

from indexer.config import Config
from indexer.db import reader_role
from indexer.db.connection import Database, transaction
from indexer.db.engine import open_engine, open_reader
from indexer.db.reader_role import Reader
from indexer.errors import Refuse, UsageError
from tests.conftest import DATA
from tests.support.following import index_once
from tests.support.postgres import PostgresServer
from tests.support.program import CHECKOUT
from webapi.app import create_app

NAMES = count()


@pytest.fixture
def owned(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A PostgreSQL database with runs in it."""
    url = postgres.create(template=postgres_template)
    engine = open_engine(url)
    index_once(engine, DATA / "tensorboard" / "sweep")
    engine.dispose()
    yield url
    postgres.drop(url)


@pytest.fixture
def role(postgres: PostgresServer, owned: str) -> Iterator[str]:
    """A name that is free, odd enough to need quotes; the role is gone after the test."""
    name = f'Reader "{next(NAMES)}" of %s?'
    yield name
    with psycopg.connect(owned, autocommit=True) as conn:
        quoted = psycopg.sql.Identifier(name)
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                conn.execute(psycopg.sql.SQL(statement).format(quoted))


def create(url: str, name: str, password: str | None = None) -> Reader:
    """Create a reader with limits that tests can see."""
    return reader_role.create(url, name, password=password, connections=7, seconds=11)


def as_role(url: str, name: str) -> psycopg.Connection:
    """Connect as the role; the test server asks nobody for a password."""
    return psycopg.connect(url, user=name, autocommit=True)


def test_it_reads_everything_of_ours(owned: str, role: str) -> None:
    """All tables and views answer, and the limits hold in its sessions."""
    made = create(owned, role)
    assert made.created
    assert {"tensor_points", "blobs", "v_scalars", "v_latest", "summarydb_version"} <= set(made.relations)
    with as_role(owned, role) as conn:
        for relation in made.relations:
            conn.execute(psycopg.sql.SQL("SELECT count(*) FROM {}").format(psycopg.sql.Identifier(relation)))
        assert conn.execute("SELECT count(*) FROM v_scalars").fetchone() != (0,)
        shown = [conn.execute(f"SHOW {name}").fetchone() for name in ("statement_timeout", "temp_file_limit")]
        assert [("11s",), ("1GB",)] == shown
    with psycopg.connect(owned) as conn:
        query = "SELECT rolcanlogin, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = %s"
        assert (True, False, 7) == conn.execute(query, (role,)).fetchone()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM tensor_points",
        "UPDATE jobs SET point_count = 0",
        "INSERT INTO roots (name, path) VALUES ('x', '/x')",
        "TRUNCATE tags",
        "SELECT nextval('tags_id_seq')",
        "CREATE TABLE mine (x integer)",
        "SELECT * FROM theirs",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE postgres",
    ],
)
def test_it_does_nothing_else(owned: str, role: str, statement: str) -> None:
    """Also where a session says that it wants to write: what it has no right to is refused."""
    with psycopg.connect(owned, autocommit=True) as conn:
        conn.execute("CREATE TABLE theirs (x integer)")
        conn.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    create(owned, role)
    with as_role(owned, role) as conn:
        assert ("on",) == conn.execute("SHOW default_transaction_read_only").fetchone()
        conn.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement)


def test_the_sql_of_the_docs_makes_the_same(owned: str, role: str) -> None:
    """Whoever makes the role by hand gets one that reads as much and does as little."""
    page = (CHECKOUT / "docs" / "maintenance.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```postgresql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    quoted = '"' + role.replace('"', '""') + '"'
    with psycopg.connect(owned, autocommit=True) as conn:
        conn.execute(re.sub(r"\breader\b", lambda _: quoted, block))
        query = (
            "SELECT relname, privilege_type FROM pg_class c, aclexplode(c.relacl) a "
            "WHERE a.grantee = %s::regrole AND relnamespace = 'public'::regnamespace ORDER BY 1, 2"
        )
        settings = "SELECT rolconfig, rolconnlimit, rolsuper FROM pg_roles WHERE rolname = %s"
        by_hand = conn.execute(query, (quoted,)).fetchall(), conn.execute(settings, (role,)).fetchone()
        conn.execute(psycopg.sql.SQL("DROP OWNED BY {}").format(psycopg.sql.Identifier(role)))
        conn.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(role)))
    reader_role.create(owned, role, password=None, connections=40, seconds=60)
    with psycopg.connect(owned) as conn:
        made = conn.execute(query, (quoted,)).fetchall(), conn.execute(settings, (role,)).fetchone()
    assert made == by_hand
    assert ("tags", "SELECT") in made[0]


def test_tables_of_tomorrow_are_read_too(owned: str, role: str) -> None:
    """A migration need not know who reads."""
    create(owned, role)
    with psycopg.connect(owned, autocommit=True) as conn:
        conn.execute("CREATE TABLE made_by_a_migration (x integer)")
    with as_role(owned, role) as conn:
        assert (0,) == conn.execute("SELECT count(*) FROM made_by_a_migration").fetchone()


def test_again_brings_it_up_to_date(owned: str, role: str) -> None:
    """What somebody granted beside is taken back, what somebody took is given back, and the password may change."""
    create(owned, role)
    with psycopg.connect(owned, autocommit=True) as conn:
        quoted = psycopg.sql.Identifier(role)
        conn.execute(psycopg.sql.SQL("GRANT DELETE ON jobs TO {}").format(quoted))
        conn.execute(psycopg.sql.SQL("REVOKE SELECT ON tags FROM {}").format(quoted))
    assert not create(owned, role, "s3cret 'with' quotes").created
    with psycopg.connect(owned) as conn:
        query = "SELECT has_table_privilege(%s, 'jobs', 'DELETE'), has_table_privilege(%s, 'tags', 'SELECT')"
        assert (False, True) == conn.execute(query, (role, role)).fetchone()
        stored = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone()
    assert stored is not None
    assert str(stored[0]).startswith("SCRAM-SHA-256$")


@pytest.mark.parametrize("powers", ["SUPERUSER", "CREATEROLE", "CREATEDB"])
def test_a_role_that_may_more_is_left_alone(owned: str, role: str, powers: str) -> None:
    """A name that is taken by somebody else never loses rights by a slip."""
    with psycopg.connect(owned, autocommit=True) as conn:
        conn.execute(psycopg.sql.SQL(f"CREATE ROLE {{}} {powers}").format(psycopg.sql.Identifier(role)))
    with pytest.raises(Refuse, match="may do more than read"):
        create(owned, role)
    with pytest.raises(Refuse, match="may do more than read"):
        create(owned, "postgres")


def test_it_is_said_where_everybody_may_create_tables(owned: str, role: str) -> None:
    """A right that comes from PUBLIC is not the role's to lose, so a note names the statement that takes it."""
    with psycopg.connect(owned, autocommit=True) as conn:
        conn.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert any("REVOKE CREATE" in note for note in create(owned, role).notes)


def test_the_web_serves_with_it(owned: str, role: str) -> None:
    """`serve` needs no right that the role has not."""
    create(owned, role)
    reader = open_reader(owned.replace("postgres:@", f"{quote(role)}@"))
    client = create_app(Config(), reader).test_client()
    assert 200 == client.get("/api/v1/health").status_code
    jobs = client.get("/api/v1/jobs").get_json()["items"]
    assert jobs
    answer = client.get(f"/api/v1/jobs/{jobs[0]['id']}/tags")
    assert answer.get_json()["items"]
    reader.dispose()


def test_sqlite_has_no_roles(tmp_path: Path) -> None:
    """There the file's permissions say who reads."""
    with pytest.raises(Refuse, match="roles are for PostgreSQL"):
        create(f"sqlite:///{tmp_path / 'x.db'}", "reader")


@pytest.mark.parametrize("name", ["", "x" * 64])
def test_an_impossible_name_is_a_usage_error(owned: str, name: str) -> None:
    """PostgreSQL would cut it and create another."""
    with pytest.raises(UsageError, match="1 to 63 bytes"):
        create(owned, name)


def test_a_database_without_our_schema_is_refused(postgres: PostgresServer) -> None:
    """There is nothing to grant yet."""
    url = postgres.create()
    with pytest.raises(Refuse, match="empty"):
        create(url, "reader")
    database = Database(url)
    with transaction(database) as conn:
        assert 0 == conn.value("SELECT count(*) FROM pg_roles WHERE rolname = 'reader'")
    database.dispose()
    postgres.drop(url)
