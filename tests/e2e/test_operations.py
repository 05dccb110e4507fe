"""The running program as operators meet it: a loop that hangs, a schema that changes, a log that is rotated."""

from __future__ import annotations

import json
import signal
import sys
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import text

from indexer.db.engine import open_engine
from tests.e2e.test_up import write_run
from tests.support.program import PATIENCE_SECONDS, Running, eventually, run, started

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def execute(url: str, statement: str) -> None:
    """Change a database behind the program's back."""
    engine = open_engine(url)
    try:
        with engine.begin() as conn:
            conn.execute(text(statement))
    finally:
        engine.dispose()


def problems(up: Running) -> list[str]:
    """Return what health complains of; the disk of this machine is no matter here."""
    return [line for line in up.get("/health")["problems"] if "disk" not in line]


@POSIX_ONLY
def test_an_indexer_that_hangs_is_seen(tmp_path: Path) -> None:
    """Its process lives and its loop does not turn: health, metrics and status say so, until it goes on."""
    write_run(tmp_path / "runs", range(2))
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with started("up", "runs", "--port", "0", "--db", url, cwd=tmp_path) as up:
        eventually(lambda: up.get("/jobs")["items"])
        eventually(lambda: up.get("/health")["indexer"]["state"] == "watching")
        assert [] == problems(up)
        child = up.child("_index")
        child.send_signal(signal.SIGSTOP)
        execute(url, "UPDATE indexers SET heartbeat = heartbeat - 60")  # a minute passes
        assert f"process {child.pid} on" in problems(up)[0]
        assert "it ended or hangs" in problems(up)[0]
        assert "degraded" == up.get("/health")["status"]
        with urllib.request.urlopen(f"{up.url}/metrics", timeout=PATIENCE_SECONDS) as answer:
            assert b"summarydb_indexers_alive 0" in answer.read()
        checked = run("status", "--check", "--db", url, cwd=tmp_path)
        assert 1 == checked.returncode
        assert "it ended or hangs" in checked.stdout
        child.send_signal(signal.SIGCONT)
        eventually(lambda: problems(up) == [])


def test_up_ends_when_the_schema_changes_under_it(empty_url: str, tmp_path: Path) -> None:
    """Somebody with a newer version migrated: it says what to do, and leaves the database alone."""
    write_run(tmp_path / "runs", range(2))
    with started("up", "runs", "--port", "0", "--db", empty_url, cwd=tmp_path) as up:
        eventually(lambda: up.get("/jobs")["items"])
        execute(empty_url, "UPDATE summarydb_version SET version_num = '9999'")
        assert 1 == up.process.wait(PATIENCE_SECONDS)
        assert "was taken to schema 9999 while we ran" in up.err.read_text()
        assert "start it again as the version that changed it" in up.err.read_text()
    again = run("up", "runs", "--port", "0", "--db", empty_url, cwd=tmp_path)
    assert 1 == again.returncode
    assert "install a newer summarydb" in again.stderr


@POSIX_ONLY
def test_all_processes_log_to_one_file_that_may_be_rotated(tmp_path: Path) -> None:
    """The web's lines go on in a new file, and standard error holds none of them."""
    write_run(tmp_path / "runs", range(2))
    log = tmp_path / "x.log"
    arguments = ("--log-file", "x.log", "--log-format", "json", "--access-log")
    with started("up", "runs", "--port", "0", *arguments, cwd=tmp_path) as up:
        up.get("/jobs")
        eventually(lambda: '"/api/v1/jobs"' in log.read_text())
        log.rename(tmp_path / "x.log.1")
        up.get("/jobs?limit=7")
        eventually(lambda: log.exists() and "limit=7" in log.read_text())
        assert {"request"} == {json.loads(line)["event"] for line in log.read_text().splitlines()}
        assert "request" not in up.err.read_text()
