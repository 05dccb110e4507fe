"""Commands that end by themselves: what they print, and the one line and exit code where something cannot be right."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from indexer.db import migrate
from indexer.db.engine import open_engine
from indexer.version import REVISION, VERSION_TABLE
from summarydb import cli
from tests.conftest import DATA
from tests.support.engines import transaction, writer
from tests.support.program import CHECKOUT, environment, run

HEAVY = {"alembic", "flask", "numba", "numpy", "sqlalchemy", "structlog", "waitress", "watchdog"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SUMMARYDB_")]:
        monkeypatch.delenv(name)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command line that cannot be right; return its exit code and its only line."""
    code = cli.run(arguments)
    captured = capsys.readouterr()
    assert "" == captured.out
    lines = captured.err.splitlines()
    assert 1 == len(lines)
    assert lines[0].startswith("summarydb: ")
    return code, lines[0].removeprefix("summarydb: ")


# Bad input ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["up", "--frobnicate", "runs"], 2, "No such option '--frobnicate'"),
        (["up"], 2, "no LOGDIR given"),
        (["index"], 2, "no LOGDIR given"),
        (["sql"], 2, "Missing argument 'QUERY'"),
        (["sql", "SELECT 1", "--format", "xml"], 2, "'xml' is not one of"),
        (["up", ".", "--port", "http"], 2, "--port: 'http' is no whole number"),
        (["up", ".", "--host", "0.0.0.0"], 2, "add --allow-anonymous"),
        (["serve", "--host", "0.0.0.0"], 2, "add --allow-anonymous"),
        (["index", "nowhere"], 1, "LOGDIR nowhere does not exist"),
        (["up", "nowhere"], 1, "LOGDIR nowhere does not exist"),
        (["up", "file"], 1, "LOGDIR file is not a directory"),
        (["up", "s3://bucket/runs"], 1, "remote directories are not supported"),
        (["index", "mine:gs://bucket/runs"], 1, "remote directories are not supported"),
        (["status", "--db", "frob"], 2, "database URL 'frob' cannot be read"),
        (["status", "--db", "mysql://u@h/d"], 1, "database 'mysql' is not supported"),
        (["status", "--db", "sqlite://"], 1, "in-memory database"),
        (["index", ".", "--once", "--db", "sqlite:///no/such/x.db"], 1, "create it first"),
        (["db", "upgrade", "--db", "sqlite:///no/such/x.db"], 1, "create it first"),
        (["index", ".", "--once", "--db", "sqlite:///file"], 1, "no SQLite database"),
        (["status", "--db", "sqlite:///file"], 1, "no SQLite database"),
        (["status"], 1, "sqlite:///summarydb.db: there is no such file: run `summarydb up LOGDIR`"),
        (["sql", "SELECT 1"], 1, "there is no such file"),
        (["serve", "--port", "0"], 1, "there is no such file"),
        (["db", "check"], 1, "there is no such file"),
        (["serve", "--host", "no.such.host.invalid", "--allow-anonymous"], 1, "no such address"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], code: int, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 for what was typed, 1 for a directory or database that cannot be used; the line says what to do."""
    (here / "file").write_text("this is no database" * 100)
    found, line = refused(capsys, *arguments)
    assert code == found
    assert says in line


def test_a_missing_driver_is_named_with_what_installs_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL without psycopg is no traceback."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name == "psycopg" else find(name, package)
    )
    _, line = refused(capsys, "status", "--db", "postgresql://u@h/d")
    assert "pip install 'summarydb[postgres]'" in line


@pytest.mark.parametrize("command", [["index", ".", "--once"], ["status"], ["db", "check"], ["db", "upgrade"]])
def test_a_database_of_another_program_is_refused(
    command: list[str], empty_url: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tables are named, and never touched."""
    engine = open_engine(empty_url)
    with transaction(engine) as conn:
        conn.execute(text("CREATE TABLE customers (id INTEGER)"))
    engine.dispose()
    code, line = refused(capsys, *command, "--db", empty_url)
    assert 1 == code
    assert "another program (customers)" in line


def test_a_server_that_is_not_there_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A database server that cannot be reached is told, without a password."""
    code, line = refused(capsys, "status", "--db", "postgresql://u:secret@127.0.0.1:1/d")
    assert 1 == code
    assert "secret" not in line


@pytest.mark.parametrize(("revision", "says"), [("0001", "summarydb db upgrade"), ("9999", "newer summarydb")])
def test_serve_refuses_another_schema(
    revision: str, says: str, url: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older or newer schema is not guessed at; the line names what helps."""
    engine = open_engine(url)
    with transaction(engine) as conn:
        conn.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision})
    engine.dispose()
    code, line = refused(capsys, "serve", "--port", "0", "--db", url)
    assert 1 == code
    assert says in line


def test_a_bug_is_one_line_and_a_traceback_only_with_v(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody expected still ends in words; -v shows where it was."""

    def broken(url: str) -> None:
        raise KeyError("who\nknows")

    from summarydb import status

    monkeypatch.setattr(status, "read", broken)
    code, line = refused(capsys, "status")
    assert 70 == code
    assert "unexpected KeyError, a bug" in line
    assert 70 == cli.run(["status", "-v"])
    assert "Traceback" in capsys.readouterr().err


# What is printed ------------------------------------------------------------------------------------------------------
def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types only the name is told what there is."""
    assert 0 == cli.run([])
    assert "Commands:" in capsys.readouterr().out


def test_only_commands_that_exist_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The help promises nothing, and shows no child of `up`."""
    cli.run(["--help"])
    listed = [line.split()[0] for line in capsys.readouterr().out.partition("Commands:")[2].splitlines() if line]
    assert sorted(cli.COMMANDS) == listed


def test_the_command_line_imports_little() -> None:
    """`--version` and every usage error come without the database, the web or numpy."""
    code = "import sys; from summarydb import parent, cli; cli.run(['--version']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert set() == HEAVY & set(done.stdout.split())


def test_versions_for_a_bug_report(capsys: pytest.CaptureFixture[str]) -> None:
    """One paste tells all versions that matter."""
    assert 0 == cli.run(["--version", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {"summarydb", "schema", "python", "platform", "sqlite", "packages", "extras"} == set(found)
    assert REVISION == found["schema"]


def test_index_once_ends_when_all_is_loaded(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample runs are loaded, and said to be; a second time as well."""
    for _ in range(2):
        assert 0 == cli.run(["index", "--once", "--json", str(CHECKOUT / "examples" / "runs"), "--db", url])
        found = json.loads(capsys.readouterr().out)
        assert {"jobs": 3, "points": 2790, "bad_records": 0, "bad_bytes": 0, "unreadable": []} == found


@pytest.mark.parametrize(
    ("case", "code"), [("flip-payload", 3), ("torn-in-payload", 0), ("version-only", 0), ("garbage-between", 3)]
)
def test_strict_tells_damage_from_a_torn_tail(
    case: str, code: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage was skipped: exit code 3 with --strict, 0 without; a file that just ends early is no damage."""
    runs = str(DATA / "damaged" / "tensorboard" / case)
    assert 0 == cli.run(["index", "--once", runs])
    assert code == cli.run(["index", "--once", "--strict", runs])


def test_index_says_in_words_what_it_did(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People get a sentence, programs ask for --json."""
    cli.run(["index", "--once", str(DATA / "damaged" / "tensorboard" / "flip-payload")])
    assert "damaged records skipped: 1 (" in capsys.readouterr().out


def test_status_tells_jobs_progress_and_damage(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Per root and job: cache_status, how far, how much, what was wrong."""
    for name in ("flip-payload", "torn-in-payload"):
        cli.run(["index", "--once", f"{name}:{DATA / 'damaged' / 'tensorboard' / name}", "--db", url])
    capsys.readouterr()
    assert 0 == cli.run(["status", "--json", "--db", url])
    found = json.loads(capsys.readouterr().out)
    damaged, torn = found["jobs"]
    assert [("flip-payload", 1), ("torn-in-payload", 0)] == [(r["name"], r["bad_records"]) for r in found["roots"]]
    assert {"NOT_IN_CACHE": 0, "CACHING": 0, "CACHED": 1} == found["roots"][0]["cache_status"]
    assert ("./", "CACHED", 1, 0, 1.0) == tuple(
        damaged[key] for key in ("train_id", "cache_status", "bad_records", "lag", "progress")
    )
    assert (1, 0) == (torn["torn"], torn["bad_records"])
    assert torn["lag"] > 0
    assert 0 == cli.run(["status", "--db", url])
    shown = capsys.readouterr().out
    assert "1 torn" in shown
    assert "no indexer is running" in shown


def test_status_reads_an_older_schema(empty_url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is shown, and what would bring it up to date."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine), "0001")
    engine.dispose()
    assert 0 == cli.run(["status", "--db", empty_url])
    assert "schema 0001 (this program needs" in capsys.readouterr().out


def test_db_commands(empty_url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """upgrade makes the schema, current names it, check compares it table by table."""
    assert 0 == cli.run(["db", "upgrade", "--db", empty_url, "--json"])
    assert REVISION == json.loads(capsys.readouterr().out)["schema"]
    assert 0 == cli.run(["db", "current", "--db", empty_url, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (REVISION, REVISION) == (found["schema"], found["needed"])
    assert 0 == cli.run(["db", "check", "--db", empty_url])


def test_db_check_names_a_change_by_hand(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that was changed is found before it surprises anybody."""
    engine = open_engine(url)
    with transaction(engine) as conn:
        conn.execute(text("ALTER TABLE tags ADD COLUMN colour INTEGER"))
    engine.dispose()
    code, line = refused(capsys, "db", "check", "--db", url)
    assert 1 == code
    assert "changed by hand" in line
    assert "colour" in line


# sql ------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def points(engine: Engine) -> Engine:
    """A database with three odd points."""
    with transaction(engine) as conn:
        conn.execute(text("INSERT INTO roots (id, name, path) VALUES (1, 'r', '/r')"))
        conn.execute(
            text("INSERT INTO jobs (id, root_id, train_id, train_key) VALUES (1, 1, :id, :key)"),
            {"id": "./a\x1b[31m,\nb", "key": b"\x00\xff"},
        )
        for step, value in enumerate((0.5, None, float("inf"))):
            conn.execute(
                text("INSERT INTO tensor_points VALUES (1, :step, 0, 1.5, :value)"),
                {"step": 2**53 + step, "value": value},
            )
    return engine


POINTS = "SELECT step, value FROM tensor_points ORDER BY step"


def test_sql_as_json_is_strict(points: Engine, url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps stay whole numbers, infinities are text, NULL is null, bytes are hexadecimal."""
    assert 0 == cli.run(["sql", POINTS, "--json", "--db", url])
    rows = [[2**53, 0.5], [2**53 + 1, None], [2**53 + 2, "Infinity"]]
    expected = {"columns": ["step", "value"], "rows": rows, "truncated": False}
    assert expected == json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    cli.run(["sql", "SELECT train_key FROM jobs", "--json", "--db", url])
    assert [["00ff"]] == json.loads(capsys.readouterr().out)["rows"]


def test_sql_says_when_it_was_cut(points: Engine, url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound on rows is never silent; exactly as many rows as the bound are not cut."""
    for limit, rows, truncated in ((2, 2, True), (3, 3, False), (0, 3, False)):
        assert 0 == cli.run(["sql", POINTS, "--json", "--limit", str(limit), "--db", url])
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        assert (rows, truncated) == (len(found["rows"]), found["truncated"])
        assert truncated == ("cut after 2 rows" in captured.err)


def test_sql_in_every_format(points: Engine, url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same rows as table, ndjson and CSV."""
    cli.run(["sql", POINTS, "--format", "ndjson", "--db", url])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"step": 2**53 + 2, "value": "Infinity"} == lines[2]
    cli.run(["sql", "SELECT train_id, 'x' AS x FROM jobs", "--format", "csv", "--db", url])
    assert [["train_id", "x"], ["./a\x1b[31m,\nb", "x"]] == list(csv.reader(io.StringIO(capsys.readouterr().out)))
    cli.run(["sql", "SELECT train_id FROM jobs", "--db", url])
    assert ["train_id", "---------------", r"./a\x1b[31m,\nb"] == capsys.readouterr().out.splitlines()


def test_sql_without_rows_keeps_its_columns(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer still says what it would hold; a % is a %."""
    cli.run(["sql", "SELECT train_id AS a, id AS a FROM jobs WHERE train_id LIKE '%s'", "--json", "--db", url])
    assert {"columns": ["a", "a"], "rows": [], "truncated": False} == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM jobs",
        "",
        "  -- nothing\n",
        "PRAGMA user_version",
        "COMMIT",
        "SELECT 1; DELETE FROM jobs",
        "SELECT 1; COMMIT; DELETE FROM jobs",
        "WITH gone AS (SELECT 1) DELETE FROM jobs",
        "WITH gone AS (DELETE FROM jobs RETURNING id) SELECT * FROM gone",
        "SELECT nope",
        "SELECT * INTO copy FROM jobs",
    ],
)
def test_sql_only_reads(query: str, points: Engine, url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is tried, nothing is written, and one line says why."""
    code, _ = refused(capsys, "sql", query, "--db", url)
    assert code in {1, 2}
    with points.connect() as conn:
        assert 1 == conn.execute(text("SELECT count(*) FROM jobs")).scalar()


def test_sql_ends_at_its_deadline(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A query that would never end is cut, and the line names the setting."""
    endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
    code, line = refused(capsys, "sql", endless, "--query-seconds", "0.2", "--db", url)
    assert 1 == code
    assert "--query-seconds" in line


def test_sql_from_standard_input(tmp_path: Path) -> None:
    """A long query need not be quoted; a reader that has enough is no error."""
    run("db", "upgrade", cwd=tmp_path)
    done = run("sql", "-", "--format", "csv", cwd=tmp_path, given="SELECT 7 AS seven")
    assert (0, "seven\n7\n") == (done.returncode, done.stdout)


def test_settings_come_from_the_file_too(tmp_path: Path) -> None:
    """The program itself reads summarydb.toml of its directory, and variables win over it."""
    (tmp_path / "summarydb.toml").write_text('db = "sqlite:///mine.db"\n')
    assert 0 == run("db", "upgrade", cwd=tmp_path).returncode
    assert 0 == run("db", "upgrade", cwd=tmp_path, env={"SUMMARYDB_DB": "sqlite:///yours.db"}).returncode
    assert {"mine.db", "yours.db"} == {path.name for path in tmp_path.glob("*.db")}
