"""The reader of queries and PostgreSQL agree: what it lets through calls nothing that it did not see."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.postgres import PostgresServer
from webapi.statement import Refused, check_postgresql

TRAPPED = "ZZ001"
PIECES = [
    *"'\"$aE\\-/*()bxU&;1 ,é.",
    *("\n", "\r", "$$", "$a$", "''", "E'", "--", "/*", "*/", "AS", "\\'"),
]


@pytest.fixture(scope="module")
def trap(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    """A connection to a database with a function that nobody may call."""
    url = postgres.create()
    with psycopg.connect(url, autocommit=True) as conn:
        raising = f"BEGIN RAISE EXCEPTION 'trapped' USING ERRCODE = '{TRAPPED}'; END"
        conn.execute(f"CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql AS $x$ {raising} $x$")
        yield conn
    postgres.drop(url)


@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(st.sampled_from(PIECES), max_size=8), behind=st.lists(st.sampled_from(PIECES), max_size=8))
def test_a_call_is_not_hidden(trap: psycopg.Connection, before: list[str], behind: list[str]) -> None:
    """Whatever quotes and comments stand around a call, a query that is let through does not make it."""
    query = f"SELECT 1 {''.join(before)}, trap(), 2 {''.join(behind)}"
    try:
        check_postgresql(query)
    except Refused:
        return
    assert TRAPPED != state_of(trap, query)


def state_of(conn: psycopg.Connection, query: str) -> str | None:
    """Run a query and return the code of its error."""
    try:
        with conn.transaction(force_rollback=True), conn.cursor() as cursor:
            for _ in cursor.stream(query.encode()):
                pass
    except psycopg.Error as e:
        return e.sqlstate
    return None
