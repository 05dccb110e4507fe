"""verify, snapshot, db copy, doctor and create-reader as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from indexer.db.engine import open_engine
from summarydb import cli
from tests.conftest import DATA
from tests.support.engines import transaction
from tests.support.postgres import PostgresServer
from tests.support.program import CHECKOUT, PATIENCE_SECONDS, environment, run
from tests.support.tables import differences, dump

KILLED = """
import os, signal, sys
from threading import Event
from summarydb import copying

def show(what, done, total):
    if what == "tensor_points":
        os.kill(os.getpid(), signal.SIGKILL)

copying.copy_database(sys.argv[1], sys.argv[2], show=show, stop=Event())
"""


@pytest.fixture
def loaded(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with runs in it, in an empty current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA / "tensorboard" / "sweep", tmp_path / "runs")
    assert 0 == run("index", "--once", "runs", "--db", url, cwd=tmp_path).returncode
    return url


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command line; return its exit code and what it printed."""
    code = cli.run(arguments)
    return code, capsys.readouterr().out


def test_verify_ends_with_1_where_there_is_a_difference(loaded: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a difference, then a line of counts; in JSON the same as values, `truncated` where there are more."""
    capsys.readouterr()
    code, out = said(capsys, "verify", "--db", loaded)
    assert 0 == code
    assert "4 jobs, 4 files" in out
    assert out.endswith(" 0 differences\n")
    engine = open_engine(loaded)
    with transaction(engine) as conn:
        conn.execute(text("UPDATE tensor_points SET value = 1e9"))
        count = conn.execute(text("SELECT count(*) FROM tensor_points")).scalar_one()
    engine.dispose()
    code, out = said(capsys, "verify", "runs", "--limit", "2", "--db", loaded)
    lines = out.splitlines()
    assert (1, 4) == (code, len(lines))
    assert "the table 1000000000.0" in lines[0]
    assert "give a larger --limit" in lines[2]
    code, out = said(capsys, "verify", "--json", "--limit", "1", "--db", loaded)
    facts = json.loads(out)
    assert (1, 1, True) == (code, len(facts["items"]), facts["truncated"])
    assert facts["differences"] > count
    assert 1e9 == facts["items"][0]["found"]


def test_snapshot_is_served(loaded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The copy is a database like any other; a second one of the same name needs --force."""
    code, out = said(capsys, "snapshot", "copy.db", "--json", "--db", loaded)
    assert (0, (tmp_path / "copy.db").stat().st_size) == (code, json.loads(out)["bytes"])
    assert 1 == cli.run(["snapshot", "copy.db", "--db", loaded])
    assert 0 == cli.run(["snapshot", "copy.db", "--force", "--db", loaded])
    capsys.readouterr()
    assert 0 == cli.run(["db", "check", "--db", "sqlite:///copy.db"])
    assert 0 == cli.run(["verify", "--db", "sqlite:///copy.db"])


def test_there_and_back_again(
    loaded: str, postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database that moved to PostgreSQL and from there to SQLite has the rows that it had."""
    between = postgres.create()
    code, out = said(capsys, "db", "copy", "--to", between, "--db", loaded)
    assert 0 == code
    assert "the same as in" in out
    code, out = said(capsys, "db", "copy", "--to", "sqlite:///back.db", "--json", "--db", between)
    facts = json.loads(out)
    assert 0 == code
    assert facts["rows"] == sum(table["rows"] for table in facts["tables"])
    one, other = open_engine(loaded), open_engine(f"sqlite:///{tmp_path / 'back.db'}")
    assert [] == differences(dump(one), dump(other))
    one.dispose()
    other.dispose()
    postgres.drop(between)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_killed_copy_can_be_made_again(
    loaded: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 in the middle: the target is as it was, says that it is empty, and takes the copy the next time."""
    server: PostgresServer | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    target = f"sqlite:///{tmp_path / 'target.db'}" if server is None else server.create()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, loaded, target],
        env=environment(),
        cwd=CHECKOUT,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert -9 == killed.returncode
    assert 1 == cli.run(["status", "--db", target])
    says = capsys.readouterr().err
    assert "there is no such file" in says if server is None else "the database is empty" in says
    assert 0 == cli.run(["db", "copy", "--to", target, "--db", loaded])
    assert 0 == cli.run(["verify", "--db", target])
    if server is not None:
        server.drop(target)


STUBBORN = """
import sys, threading
from summarydb import ending

def work(stop):
    print("working", flush=True)
    threading.Event().wait()

ending.GRACE_SECONDS = 0.0
ending.until_asked(work, unfinished=ending.REFUSED)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_work_that_was_cut_does_not_end_with_0() -> None:
    """A signal during a statement that cannot be stopped ends the process, and says that there is no copy."""
    with subprocess.Popen([sys.executable, "-c", STUBBORN], env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"working\n" == process.stdout.readline()
        process.terminate()
        assert 1 == process.wait(PATIENCE_SECONDS)


def test_doctor_ends_with_1_where_there_is_a_problem(loaded: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a check with what to do; in JSON the same."""
    code, out = said(capsys, "doctor", "runs", "--db", loaded)
    assert 0 == code, out
    assert "ok       schema: " in out
    engine = open_engine(loaded)
    with transaction(engine) as conn:
        conn.execute(text("UPDATE summarydb_version SET version_num = '0001'"))
    engine.dispose()
    code, out = said(capsys, "doctor", "--json", "--db", loaded)
    facts = json.loads(out)
    assert (1, False) == (code, facts["ok"])
    (problem,) = [check for check in facts["checks"] if check["status"] == "problem"]
    assert ("schema", "run `summarydb db upgrade`") == (problem["name"], problem["do"])


def test_create_reader_is_said_and_served(
    postgres: PostgresServer, postgres_template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The role is made once and brought up to date after that; the password comes from standard input."""
    url = postgres.create(template=postgres_template)
    try:
        done = run("db", "create-reader", "web", "--password-stdin", "--db", url, cwd=tmp_path, given="secret\n")
        assert (0, True) == (done.returncode, "role web created" in done.stdout), done.stderr
        code, out = said(capsys, "db", "create-reader", "web", "--json", "--db", url)
        assert (0, False) == (code, json.loads(out)["created"])
        reader = url.replace("postgres:@", "web:secret@")
        assert 0 == cli.run(["sql", "SELECT count(*) FROM v_scalars", "--db", reader])
        assert 2 == cli.run(["sql", "SELECT rolpassword FROM pg_authid", "--db", reader])
        capsys.readouterr()
        code, out = said(capsys, "doctor", "--db", reader)
        assert "ok       role: web is no superuser" in out
    finally:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("DROP OWNED BY web")
            conn.execute("DROP ROLE web")
        postgres.drop(url)
