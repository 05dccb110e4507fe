"""What a query is, told from its text: one statement, and the functions it calls."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapi.statement import LONGEST, Refused, check_postgresql, check_sqlite

HARMLESS = [
    "SELECT 1",
    "select 1;",
    "  -- why\n/* a /* nested */ one */ SELECT 1 -- end",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "WITH a(x, y) AS MATERIALIZED (SELECT 1, 2), b (z) AS NOT MATERIALIZED (VALUES (1)) SELECT x FROM a, b",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT max(n) FROM t",
    "SELECT count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b) FROM t WHERE a IN (1, 2) AND (b OR NOT (c))",
    "SELECT pg_catalog.lower('A'), \"lower\"('A'), LOWER ('A')",
    "SELECT CAST(a AS numeric(10, 2)), a::varchar(5), EXTRACT(epoch FROM b), substring(c from 1 for 2) FROM t",
    "SELECT * FROM generate_series(1, 3) AS g(x), unnest(ARRAY[1]) AS u(y)",
    "SELECT 'pg_sleep(1); DROP TABLE x', $$pg_sleep(1)$$, $q$ $$; pg_sleep(1) $q$, E'\\'pg_sleep(1)', \"pg_sleep(1)\"",
    "SELECT 'it''s', \"a\"\"b\" FROM t",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v) FROM t GROUP BY GROUPING SETS ((a), ())",
    "SELECT 1e3, 0x1F, 1_000, .5, 5. FROM t",
    "SELECT ARRAY(SELECT 1), EXISTS (SELECT 1), 1 = ANY (SELECT 1), (SELECT 2)",
]


@pytest.mark.parametrize("query", HARMLESS)
def test_what_only_computes_is_let_through(query: str) -> None:
    """Texts, comments, aliases and keywords are no calls."""
    check_postgresql(query)


CALLS = [
    "SELECT pg_sleep(1)",
    "SELECT PG_SLEEP(1)",
    'SELECT "pg_sleep"(1)',
    "SELECT pg_catalog.pg_sleep(1)",
    'SELECT "pg_catalog"."pg_sleep"(1)',
    "SELECT pg_catalog . pg_sleep /* x */ (1)",
    "SELECT pg_sleep--\n(1)",
    "SELECT other.lower('A')",
    "SELECT db.pg_catalog.lower('A')",
    'SELECT U&"pg\\005fsleep"(1)',
    "SELECT * FROM pg_sleep(1)",
    "SELECT * FROM a, dblink(x) AS (y int)",
    "SELECT * FROM dblink(x) AS t(y int)",
    "SELECT 1 FROM LATERAL pg_ls_dir('.') AS f(x)",
    "WITH a AS (SELECT pg_sleep(1)) SELECT * FROM a",
    "WITH pg_sleep(x) AS (SELECT 1) SELECT pg_sleep(1)",
    "SELECT E'a'\n'\\'' , pg_sleep(5) , '...'",
    "SELECT E'a' -- b\n  '\\'' , pg_sleep(5) , '...'",
    "SELECT 'a'\n'\\' , pg_sleep(5) , '...'",
    "SELECT 1a$x$, pg_sleep(5), 2 a$x$",
    "SELECT 1 a$x$, pg_sleep(5), 2 a$x$",
    "SELECT $1a$x$, pg_sleep(5), 2 a$x$",
    "SELECT /* /* */ 1 */ pg_sleep(5) */",
    "SELECT 1 /* ' */ , pg_sleep(5) /* ' */",
    "SELECT 1 -- '\n, pg_sleep(5) -- '",
    "SELECT 1 -- '\r, pg_sleep(5) -- '",
    "SELECT 'a\\', pg_sleep(5), 'b'",
    "SELECT set_config('statement_timeout', '0', true)",
    "SELECT query_to_xml('DELETE FROM t', true, true, '')",
    "SELECT nextval('s'), lo_import('/etc/passwd')",
    "SELECT OPERATOR(pg_catalog.+) 1",
]


@pytest.mark.parametrize("query", CALLS)
def test_what_may_do_more_is_refused(query: str) -> None:
    """However a call is written, it is found; what cannot be read for sure is refused."""
    with pytest.raises(Refused):
        check_postgresql(query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "--",
        "/* SELECT 1",
        "SELECT 'x",
        'SELECT "x',
        "SELECT $$x",
        "SELECT 1; SELECT 2",
        "SELECT 1;;",
        "SELECT 1; -- \n ;",
        "/* /* */ SELECT 1 */ DELETE FROM t",
        "(SELECT 1)",
        "VALUES (1)",
        "TABLE t",
        "EXPLAIN SELECT 1",
        "DO $$ BEGIN END $$",
        "COPY t TO PROGRAM 'sh'",
        "SET ROLE postgres",
        '"SELECT" 1',
        "selecT\0 1",
        "SELECT $1",
        "SELECT '\udcff'",
        "SELECT '" + "x" * LONGEST + "'",
        "ſELECT 1",
    ],
)
def test_what_is_not_one_select_is_refused(query: str) -> None:
    """The first word is SELECT or WITH, behind comments as the database nests them, and there is one statement."""
    with pytest.raises(Refused):
        check_postgresql(query)


@pytest.mark.parametrize("query", ["DELETE FROM t", "", "PRAGMA x", "SELECT '\0'", "x" * (LONGEST + 1)])
def test_sqlite_too_wants_a_select(query: str) -> None:
    """What its authorizer does not see is told from the text."""
    with pytest.raises(Refused):
        check_sqlite(query)


@given(st.text(alphabet="SELECT ();'\"$aE\\-/*\n.,U&1"))
def test_no_text_breaks_the_reader(query: str) -> None:
    """Whatever stands there, the answer is yes or no."""
    for check in (check_postgresql, check_sqlite):
        with suppress(Refused):
            check("SELECT " + query)
