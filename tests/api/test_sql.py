"""`/sql`: what reads is answered on both databases, what else is tried is refused or cut, and nobody is harmed."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine, text

from indexer.config import Config
from indexer.db.engine import open_reader
from indexer.errors import Deadline, Retry
from tests.api.conftest import Api, changed
from tests.conftest import Backend
from tests.support.engines import transaction
from tests.support.postgres import OWNER, READER, as_role
from webapi import query, sql
from webapi.app import create_app

FAST: dict[str, Any] = {"sql_seconds": 1.0, "sql_memory": 64 * 2**20, "sql_bytes": 2**20}


def asking(api: Api, **settings: Any) -> Api:
    """Return the same API with other settings."""
    return replace(api, app=create_app(replace(api.config, **settings), api.reader))


def ask(api: Api, q: str, status: int = 200, **more: object) -> Any:
    """Return the JSON that a query is answered with."""
    return api.get("/sql", {"q": q, **more}, status=status)


def refused(api: Api, q: str) -> dict[str, Any]:
    """Return the problem that a query is answered with: refused or cut."""
    answer = api.request("/api/v1/sql", query_string={"q": q})
    assert answer.status_code in {400, 503, 504}, (q, answer.text[:200])
    found: dict[str, Any] = answer.get_json()
    return found


# Answers --------------------------------------------------------------------------------------------------------------
def test_rows_are_columns_and_lists(api: Api) -> None:
    """The default is what `summarydb sql --json` prints; steps are whole numbers, what is not finite is a text."""
    found = ask(api, "SELECT step, value FROM tensor_points WHERE tag_id IN (6, 7) ORDER BY tag_id, step -- all\n;")
    assert {"columns", "rows", "truncated"} == set(found)
    assert ["step", "value"] == found["columns"]
    assert [-(2**63), 2**53 + 1, 2**63 - 1] == [row[0] for row in found["rows"][:3]]
    assert [None, "Infinity", "-Infinity", 0.5] == [row[1] for row in found["rows"][3:]]
    assert found["truncated"] is False


def test_every_shape(api: Api) -> None:
    """The same rows as objects and as columns; a name that repeats is numbered where it is a key."""
    q = "SELECT id AS a, train_id AS a FROM jobs WHERE id < 3 ORDER BY id"
    assert [["a", "a"], [[1, "./a"], [2, "./b/c"]]] == [ask(api, q)[key] for key in ("columns", "rows")]
    assert [{"a": 1, "a_2": "./a"}, {"a": 2, "a_2": "./b/c"}] == ask(api, q, shape="records")["items"]
    assert {"a": [1, 2], "a_2": ["./a", "./b/c"]} == ask(api, q, shape="columns")["columns"]
    for shape in ("rows", "records", "columns"):
        empty = ask(api, "SELECT id FROM jobs WHERE id < 0", shape=shape)
        assert empty in (
            {"columns": ["id"], "rows": [], "truncated": False},
            {"items": [], "truncated": False},
            {"columns": {"id": []}, "truncated": False},
        )


def test_every_format(api: Api) -> None:
    """By suffix and by Accept, the same rows."""
    q = {"q": "SELECT step, value, 'a\"b' AS t FROM tensor_points WHERE tag_id = 7 ORDER BY step"}
    lines = api.request("/api/v1/sql.csv", query_string=q).text
    assert [["step", "value", "t"], ["0", "", 'a"b'], ["1", "Infinity", 'a"b']] == list(csv.reader(io.StringIO(lines)))[
        :3
    ]
    rows = [json.loads(line) for line in api.request("/api/v1/sql.ndjson", query_string=q).text.splitlines()]
    assert {"step": 3, "value": 0.5, "t": 'a"b'} == rows[3]
    table = parquet.read_table(io.BytesIO(api.request("/api/v1/sql.parquet", query_string=q).data))
    stream = api.request("/api/v1/sql", query_string=q, headers={"Accept": "application/vnd.apache.arrow.stream"})
    assert "application/vnd.apache.arrow.stream" == stream.content_type
    for found in (table, pa.ipc.open_stream(stream.data).read_all()):
        assert [pa.int64(), pa.float64(), pa.string()] == found.schema.types
        assert [None, float("inf"), float("-inf"), 0.5] == found.column("value").to_pylist()


def test_types_are_those_of_all_rows(api: Api) -> None:
    """A column of integers and floats is floats, one of nothing or of all sorts is text, whatever came first."""
    q = "SELECT 1 AS a, NULL AS b, train_key AS c FROM jobs WHERE id = 1 UNION ALL SELECT .5, NULL, train_key FROM jobs"
    table = parquet.read_table(io.BytesIO(api.request("/api/v1/sql.parquet", query_string={"q": q}).data))
    assert [pa.float64(), pa.string(), pa.large_binary()] == table.schema.types
    assert 9 == table.num_rows


def test_a_post_takes_what_an_address_cannot(api: Api) -> None:
    """The query is the body, or in a JSON object with the other parameters."""
    q = f"SELECT id FROM jobs WHERE id IN (1, 2) -- {'x' * 40_000}"
    for body in ({"data": q, "content_type": "text/plain"}, {"json": {"q": q}}):
        assert [[1], [2]] == sorted(api.request("/api/v1/sql", "POST", **body).get_json()["rows"])
    found = api.request("/api/v1/sql.json", "POST", json={"q": q, "limit": 1, "shape": "records"}).get_json()
    assert (1, True) == (len(found["items"]), found["truncated"])
    assert b"id\n1\n" == api.request("/api/v1/sql.csv?limit=1", "POST", json={"q": q + "\nORDER BY id"}).data


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"q": 1.5}}, 400),
        ({"json": ["SELECT 1"]}, 400),
        ({"json": {"query": "SELECT 1"}}, 400),
        ({"json": {}}, 400),
        ({"data": b"{", "content_type": "application/json"}, 400),
        ({"data": b"SELECT '\xff'", "content_type": "text/plain"}, 400),
        ({"data": b"SELECT 1", "content_type": "text/html"}, 415),
        ({"data": {"q": "SELECT 1"}}, 415),
    ],
)
def test_a_post_that_is_no_query(api: Api, body: dict[str, Any], status: int) -> None:
    """What cannot be right is a problem."""
    answer = api.request("/api/v1/sql", "POST", **body)
    assert (status, "application/problem+json") == (answer.status_code, answer.content_type)


def test_an_answer_has_a_tag_of_its_content(api: Api, filled: Engine) -> None:
    """An equal answer is not sent twice, whatever changed meanwhile; another one is."""
    q = {"q": "SELECT count(*) FROM jobs"}
    first = api.request("/api/v1/sql", query_string=q)
    asked = {"If-None-Match": first.headers["ETag"]}
    changed(filled)
    assert 304 == api.request("/api/v1/sql", query_string=q, headers=asked).status_code
    with transaction(filled) as conn:
        conn.execute(text("DELETE FROM jobs WHERE id = 8"))
    assert 200 == api.request("/api/v1/sql", query_string=q, headers=asked).status_code


# Bounds ---------------------------------------------------------------------------------------------------------------
ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t"


def test_rows_are_cut_and_said_to_be(api: Api) -> None:
    """Exactly as many rows as the bound are not cut; the header says so in every format."""
    for limit, rows, truncated in ((7, 7, True), (8, 8, False), (9, 8, False)):
        found = ask(api, "SELECT id FROM jobs", limit=limit)
        assert (rows, truncated) == (len(found["rows"]), found["truncated"])
        answer = api.request("/api/v1/sql.csv", query_string={"q": "SELECT id FROM jobs", "limit": limit})
        assert str(truncated).lower() == answer.headers["Summarydb-Truncated"]
    endless = ask(api, ENDLESS)
    assert (10_000, True) == (len(endless["rows"]), endless["truncated"])


def test_an_answer_that_is_too_long_is_an_error(api: Api) -> None:
    """No half answer looks like a whole one."""
    answer = asking(api, sql_bytes=10_000).request("/api/v1/sql", query_string={"q": ENDLESS})
    assert (400, "q") == (answer.status_code, answer.get_json()["parameter"])
    assert "10,000 bytes" in answer.get_json()["detail"]


def test_a_deadline_is_504(api: Api) -> None:
    """The line names how long it was, and the setting."""
    api = asking(api, **FAST)
    detail = ask(api, f"SELECT count(*) FROM ({ENDLESS}) AS x", 504)["detail"]
    assert "deadline of 1 s" in detail
    assert "--sql-seconds" in detail


BOMBS = {
    "sqlite": [
        "SELECT instr(zeroblob(8000000), zeroblob(4000000) || x'01')",  # a step that asks nobody
        "SELECT replace(hex(zeroblob(4000000)), '00', hex(zeroblob(1000)))",
        "SELECT zeroblob(1000000000)",
        "SELECT randomblob(1000000000)",
        "SELECT " + ", ".join(["randomblob(15000000)"] * 50),
        f"SELECT group_concat(hex(zeroblob(100000))) FROM ({ENDLESS})",
        f"SELECT n FROM ({ENDLESS}) ORDER BY n DESC",
        f"SELECT json_group_array(n) FROM ({ENDLESS})",
        f"SELECT count(DISTINCT n) FROM ({ENDLESS})",
        f"SELECT count(*) FROM {', '.join(f'tensor_points p{n}' for n in range(6))}",
        "WITH RECURSIVE t(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM t) SELECT max(length(x)) FROM t",
        "SELECT json(replace(hex(zeroblob(4000000)), '00', '['))",
        "SELECT " + ", ".join(["1"] * 5_000),
        "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
        " UNION ALL ".join(["SELECT 1"] * 600),
    ],
    "postgresql": [
        "SELECT repeat('x', 1000000000)",
        "SELECT length(repeat('x', 1000000000) || repeat('y', 900000000))",
        "SELECT " + ", ".join(["repeat('x', 90000000)"] * 50),
        "SELECT array_agg(repeat('x', 1000000)) FROM generate_series(1, 1000000)",
        f"SELECT string_agg(repeat('x', 100000), '') FROM ({ENDLESS}) AS x",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        "SELECT x FROM generate_series(1, 100000000000) AS g(x) ORDER BY x DESC",
        f"SELECT count(DISTINCT n) FROM ({ENDLESS}) AS x",
        "SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d, pg_class e",
        "WITH RECURSIVE t(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM t) SELECT max(length(x)) FROM t",
        "SELECT factorial(100000)",
        "SELECT " + ", ".join(["1"] * 5_000),
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    ],
}


def test_bombs_are_cut(api: Api, backend: Backend) -> None:
    """Memory, time and depth that a query asks for are bounded, also where the database itself asks nobody."""
    fast = asking(api, **FAST)
    for bomb in BOMBS[backend]:
        assert refused(fast, bomb)["detail"]
    assert [[8]] == ask(api, "SELECT count(*) FROM jobs")["rows"]


PATTERNS = {
    "sqlite": [
        f"SELECT hex(zeroblob(8000000)) LIKE '{'%0' * 400}1'",
        f"SELECT hex(zeroblob(8000000)) GLOB '{'*0' * 400}1'",
        f"SELECT 'x' LIKE '{'%0' * 600}'",
    ],
    "postgresql": [
        "SELECT repeat('a', 40000) || 'b' ~ '(a|aa)+$|(.*)(.*)(.*)(.*)(.*)[xyz]\\1\\2\\3'",
        "SELECT repeat('ab', 5000) ~ '^((.*)(.*)(.*))\\2\\3\\4\\1c$'",
        "SELECT repeat('x', 100000) LIKE repeat('%x', 5000) || 'y'",
    ],
}


def test_patterns_end_in_time(api: Api, backend: Backend) -> None:
    """A pattern is answered, refused or cut: what it may not do is to run on."""
    api = asking(api, **FAST)
    for pattern in PATTERNS[backend]:
        assert api.request("/api/v1/sql", query_string={"q": pattern}).status_code in {200, 400, 504}


def test_deadline_holds_where_a_database_asks_nobody(api: Api) -> None:
    """A process that does not end by itself is ended."""
    bounds = query.Bounds(0.3, 10, 0)
    steady = {
        "sqlite": "SELECT instr(zeroblob(80000000), zeroblob(40000000) || x'01')",
        "postgresql": "SELECT count(*) FROM generate_series(1, 100000000000)",
    }[api.reader.dialect.name]
    with pytest.raises(Deadline), query.run(api.config.url, steady, bounds) as found:
        list(found.batches())


# Attacks --------------------------------------------------------------------------------------------------------------
WRITES = [
    "DELETE FROM jobs",
    "SELECT 1; DELETE FROM jobs",
    "SELECT 1; COMMIT; DELETE FROM jobs",
    "WITH gone AS (SELECT 1) DELETE FROM jobs",
    "WITH gone AS (DELETE FROM jobs RETURNING id) SELECT * FROM gone",
    "WITH a AS (INSERT INTO roots (id, name, path) VALUES (9, 'x', 'y') RETURNING id) SELECT * FROM a",
    "WITH a AS (UPDATE jobs SET train_id = 'x' RETURNING id) SELECT * FROM a",
    "SELECT * INTO copy FROM jobs",
    "SELECT 1 /* ; */; -- \n DROP TABLE jobs",
    "SELECT 1\0; DROP TABLE jobs",
    "/* SELECT */ DROP TABLE jobs",
    "BEGIN",
    "COMMIT",
    "EXPLAIN DELETE FROM jobs",
    "VACUUM",
    "CREATE TABLE x (a INTEGER)",
    "SELECT ?",
    "SELECT $1",
    "",
    ";",
    "-- SELECT 1",
    "SELECT nope",
    "SELECT * FROM",
]
ATTACKS = {
    "sqlite": [
        "PRAGMA user_version = 5",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "SELECT * FROM pragma_user_version",
        "SELECT * FROM pragma_database_list",
        "SELECT * FROM pragma_query_only('off')",
        "SELECT * FROM pragma_journal_mode('delete')",
        "ATTACH '/tmp/other.db' AS other",
        "DETACH main",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT fts3_tokenizer('x', x'00')",
        "SELECT sqlite_log(1, 'x')",
        "SELECT sqlite_compileoption_get(1)",
        "SELECT * FROM sqlite_dbpage",
        "SELECT * FROM dbstat",
        "SELECT * FROM sqlite_stmt",
        "SELECT last_insert_rowid(), changes()",
        "REINDEX",
        "ANALYZE",
    ],
    "postgresql": [
        "SELECT pg_sleep(60)",
        "SELECT pg_sleep_for('1 minute')",
        'SELECT U&"pg\\005fsleep"(60)',
        "SELECT E'a'\n'\\'' , pg_sleep(60) , '...'",
        "COPY jobs TO PROGRAM 'touch /tmp/x'",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('/etc/passwd')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_stat_file('postgresql.conf')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT lo_create(0), lo_from_bytea(0, 'x')",
        "SELECT lo_get(1)",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "RESET ROLE",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT current_setting('data_directory')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_lock_shared(1)",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity",
        "SELECT pg_notify('x', 'y')",
        "NOTIFY x",
        "LISTEN x",
        "LOCK TABLE jobs",
        "SELECT * FROM jobs FOR UPDATE",
        "SELECT * FROM jobs FOR SHARE",
        "DO $$ BEGIN PERFORM pg_sleep(60); END $$",
        "PREPARE x AS SELECT 1",
        "DECLARE x CURSOR FOR SELECT 1",
        "SELECT nextval('roots_id_seq')",
        "SELECT setval('roots_id_seq', 1)",
        "SELECT dblink('host=localhost', 'DELETE FROM jobs')",
        "SELECT query_to_xml('DELETE FROM jobs', true, true, '')",
        "SELECT * FROM ts_stat('SELECT pg_sleep(60)')",
        "SELECT table_to_xml('jobs', true, true, '')",
        "SELECT pg_reload_conf()",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('x')",
        "SELECT pg_logical_emit_message(false, 'x', 'y')",
        "SELECT txid_current()",
        "SELECT pg_export_snapshot()",
        "SELECT pg_backup_start('x')",
        "SELECT * FROM pg_ls_dir('.') AS f(x)",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT rolpassword FROM pg_authid",
        "CALL x()",
    ],
}


@pytest.fixture
def role() -> str:
    """The role of PostgreSQL's that asks; SQLite has none."""
    return READER


@pytest.fixture
def attacked(filled: Engine, url: str, role: str) -> Iterator[Api]:
    """The API over a database of the test's own, asked as a role."""
    reader = open_reader(as_role(url, role))
    yield Api.over(Config(url=as_role(url, role)), reader)
    reader.dispose()


def whole(engine: Engine) -> list[Any]:
    """Return what must not change."""
    with engine.connect() as conn:
        tables = ("roots", "jobs", "tags", "tensor_points", "shards")
        return [conn.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2, 3")).all() for table in tables]


@pytest.mark.parametrize(("backend", "role"), [("sqlite", READER), ("postgresql", READER), ("postgresql", OWNER)])
def test_whatever_is_tried_nothing_is_written(attacked: Api, filled: Engine, backend: Backend) -> None:
    """All attacks are refused, whoever owns the tables; the tables stay, and a writer writes on meanwhile."""
    before = whole(filled)
    for attack in [*WRITES, *ATTACKS[backend]]:
        refused(attacked, attack)
        changed(filled)  # nobody holds a lock that the writer needs
    assert before == whole(filled)
    assert [[8]] == ask(attacked, "SELECT count(*) FROM jobs")["rows"]


def test_a_query_that_runs_stops_no_writer(attacked: Api, filled: Engine) -> None:
    """While somebody's query takes its time, commits go through."""
    answers: list[dict[str, Any]] = []
    fast = asking(attacked, **FAST)
    thread = threading.Thread(target=lambda: answers.append(refused(fast, f"SELECT max(n) FROM ({ENDLESS}) AS x")))
    thread.start()
    commits = 0
    while thread.is_alive():
        changed(filled)
        commits += 1
    thread.join()
    assert commits > 1
    assert [504] == [answer["status"] for answer in answers]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_no_lock_and_no_connection_is_left(attacked: Api, url: str, backend: Backend) -> None:
    """Behind a query, cut or not, the server has forgotten it."""
    ask(attacked, "SELECT 1")
    refused(asking(attacked, **FAST), f"SELECT max(n) FROM ({ENDLESS}) AS x")
    attacked.reader.dispose()
    with psycopg.connect(url, autocommit=True) as conn:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND usename <> 'postgres' AND backend_type = 'client backend'"
        )
        for _ in range(1_000):  # a server process takes a moment to end
            if conn.execute(others).fetchone() == (0,):
                break
        assert (0,) == conn.execute(others).fetchone()
        assert (0,) == conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()


# Who may ask ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_superuser_answers_nobody(url: str, backend: Backend) -> None:
    """With a role that may do anything, no query of somebody's runs."""
    reader = open_reader(url)
    try:
        found = ask(Api.over(Config(url=url), reader), "SELECT 1", 403)
    finally:
        reader.dispose()
    assert "postgres is a superuser" in found["detail"]


@pytest.mark.parametrize("backend", ["postgresql"])
def test_a_superuser_in_disguise_is_one(url: str, backend: Backend) -> None:
    """A role that was changed to another is still who it logged in as."""
    disguised = url + f"&options=-c%20role%3D{READER}"
    reader = open_reader(disguised)
    try:
        assert 403 == ask(Api.over(Config(url=disguised), reader), "SELECT 1", 403)["status"]
    finally:
        reader.dispose()


@pytest.mark.parametrize(
    ("when", "host", "status"),
    [
        ("auto", "127.0.0.1", 200),
        ("auto", "0.0.0.0", 403),
        ("on", "0.0.0.0", 200),
        ("off", "127.0.0.1", 403),
    ],
)
def test_it_is_off_where_others_can_ask(api: Api, when: str, host: str, status: int) -> None:
    """Beyond loopback somebody must have asked for it."""
    found = ask(asking(api, sql=when, host=host), "SELECT 1", status)
    assert status == 200 or "--sql on" in found["detail"]


def test_threads_are_left_for_others() -> None:
    """Of eight threads two run queries and two wait; who comes then is told to come back."""
    slots = sql.Slots(8)
    with slots.one(1.0), slots.one(1.0), pytest.raises(Retry), slots.one(0.001):
        raise AssertionError("a third one runs")
    with slots.one(0.001):
        pass


def test_a_database_that_is_not_there_is_503(api: Api, tmp_path: Any) -> None:
    """A query finds out by itself that its database is gone."""
    gone = {"sqlite": f"sqlite:///{tmp_path / 'gone.db'}", "postgresql": "postgresql://u@127.0.0.1:1/d"}
    lost = asking(api, url=gone[api.reader.dialect.name])
    answer = lost.request("/api/v1/sql", query_string={"q": "SELECT 1"})
    assert 503 == answer.status_code
    assert int(answer.headers["Retry-After"]) > 0


def test_values_that_python_has_no_word_for(api: Api, backend: Backend) -> None:
    """Times before and behind Python's, huge numbers and whatever else comes as text, and no query breaks on it."""
    queries: dict[str, list[tuple[str, Any]]] = {
        "sqlite": [
            ("SELECT x'00ff'", "00ff"),
            ("SELECT CAST(x'ff' AS TEXT)", "�"),
            ("SELECT 9223372036854775807", 2**63 - 1),
            ("SELECT 1e999", "Infinity"),
            ("SELECT char(0) || 'x'", "\0x"),
            ("SELECT json_extract('[1, 2]', '$')", "[1,2]"),
            ("SELECT value FROM json_each('[7]')", 7),
            ("SELECT count(*) > 5 FROM pragma_table_info('jobs')", 1),
            ("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'", 1),
        ],
        "postgresql": [
            ("SELECT '\\x00ff'::bytea", "00ff"),
            ("SELECT 'infinity'::timestamptz", "infinity"),
            ("SELECT '4000-01-01 BC'::date", "4000-01-01 BC"),
            ("SELECT '20000-01-01'::timestamp", "20000-01-01 00:00:00"),
            ("SELECT '2024-05-06 07:08:09+02'::timestamptz", "2024-05-06T05:08:09+00:00"),
            ("SELECT 1e30::numeric, 1", 10**30),
            ("SELECT 'NaN'::numeric", "NaN"),
            ("SELECT 1.25::numeric", 1.25),
            ("SELECT '{1,2}'::int[]", [1, 2]),
            ("SELECT '{\"a\": [1e400]}'::json #> '{b}'", None),
            ("SELECT ROW(1, 'a')", ["1", "a"]),
            ("SELECT '[1,5)'::int4range", "[1, 5)"),
            ("SELECT '10.0.0.1'::inet", "10.0.0.1"),
        ],
    }
    for q, expected in queries[backend]:
        assert expected == ask(api, q)["rows"][0][0], q


def test_a_process_that_is_no_process_is_a_defect(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that is broken is not taken for a query that asks for too much."""
    monkeypatch.setattr(query, "_CODE", "raise SystemExit(1)  # {path}")
    with pytest.raises(RuntimeError, match="exit code 1"), query.run(api.config.url, "SELECT 1", query.Bounds(5, 1, 0)):
        pass
