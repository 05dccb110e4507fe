"""`summarydb up`, started as a user does: what it shows of a live file, what it survives, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError

import psutil
import psycopg
import pytest
from psycopg import sql

from tests.support.postgres import PostgresServer, database_of
from tests.support.program import Running, append, eventually, run, started
from tests.support.records import tb_scalar, tb_version

END_SECONDS = 2.0
"""DESIGN: SIGINT and SIGTERM end cleanly within 2 s."""
ORPHAN_SECONDS = 2.0
"""DESIGN says 1 s; the machine that runs the tests is shared."""
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def write_run(directory: Path, steps: range) -> Path:
    """Write or go on with one TensorBoard run; return its file."""
    path = directory / "live" / "events.out.tfevents.1700000000.host"
    if not path.exists():
        append(path, [tb_version(1700000000.0)])
    append(path, [tb_scalar("loss", step, 1.0 / (step + 1), 1700000000.0 + step) for step in steps])
    return path


def steps_shown(up: Running) -> list[int]:
    """Return the steps of the live run that REST shows."""
    jobs = up.get("/jobs")["items"]
    if not jobs:
        return []
    series = up.get(f"/series?job={jobs[0]['id']}&tag=loss&max_points=0")["series"] if jobs[0]["point_count"] else []
    return [int(step) for one in series for step in one["step"]]


def points_stored(path: Path) -> int:
    """Return how many points a SQLite database holds, 0 where there is none yet."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            return int(conn.execute("SELECT count(*) FROM tensor_points").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def gone(process: psutil.Process) -> bool:
    """Tell whether a process ended; one that nobody waited for yet ended too."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_an_appended_record_is_seen_over_rest(empty_url: str, tmp_path: Path) -> None:
    """One command shows a run that is being written; the same database answers SQL."""
    runs = tmp_path / "runs"
    write_run(runs, range(3))
    with started("up", str(runs), "--port", "0", "--db", empty_url, cwd=tmp_path) as up:
        eventually(lambda: steps_shown(up) == [0, 1, 2])
        write_run(runs, range(3, 5))
        eventually(lambda: steps_shown(up) == [0, 1, 2, 3, 4])
        assert up.get("/health")["status"] == "ok"
        assert 1 == len(up.out.read_text().splitlines())
    query = "SELECT cache_status, count(*) AS jobs FROM jobs GROUP BY 1"
    answer = run("sql", query, "--json", "--db", empty_url, cwd=tmp_path)
    assert {"columns": ["cache_status", "jobs"], "rows": [["CACHED", 1]], "truncated": False} == json.loads(
        answer.stdout
    )


@POSIX_ONLY
def test_a_killed_indexer_is_started_again(tmp_path: Path) -> None:
    """The web goes on answering, and what is appended afterwards is shown."""
    runs = tmp_path / "runs"
    write_run(runs, range(2))
    with started("up", str(runs), "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: steps_shown(up) == [0, 1])
        first = up.child("_index")
        first.kill()
        assert steps_shown(up) == [0, 1]
        write_run(runs, range(2, 4))
        eventually(lambda: steps_shown(up) == [0, 1, 2, 3])
        assert first.pid != up.child("_index").pid
        assert "the indexer process ended (killed by SIGKILL); it is started again" in up.err.read_text()


@POSIX_ONLY
def test_a_killed_web_process_comes_back_at_the_same_address(tmp_path: Path) -> None:
    """A browser's tab stays valid."""
    runs = tmp_path / "runs"
    write_run(runs, range(2))
    with started("up", str(runs), "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: steps_shown(up) == [0, 1])
        up.child("_serve").kill()

        def answers() -> bool:
            try:
                return steps_shown(up) == [0, 1]
            except OSError:
                return False

        eventually(answers)
        assert 1 == len(up.out.read_text().splitlines())


def test_a_database_that_goes_away_is_waited_for(postgres: PostgresServer, tmp_path: Path) -> None:
    """A PostgreSQL that restarts ends nothing: what was written meanwhile is shown when it is back."""
    runs = tmp_path / "runs"
    write_run(runs, range(2))
    url = postgres.create()
    name = database_of(url)
    with (
        psycopg.connect(postgres.url("postgres"), autocommit=True) as admin,
        started("up", str(runs), "--port", "0", "--db", url, cwd=tmp_path) as up,
    ):
        eventually(lambda: steps_shown(up) == [0, 1])
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        write_run(runs, range(2, 4))
        eventually(lambda: "database_waited_for" in up.err.read_text())
        with pytest.raises(HTTPError, match="503"):
            up.get("/jobs")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))

        def back() -> bool:
            try:
                return steps_shown(up) == [0, 1, 2, 3]
            except HTTPError:
                return False

        eventually(back)
    postgres.drop(url)


@POSIX_ONLY
def test_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    """However the parent dies, nobody is left behind to hold the port or the database."""
    runs = tmp_path / "runs"
    write_run(runs, range(2))
    with started("up", str(runs), "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: steps_shown(up) == [0, 1])
        children = psutil.Process(up.process.pid).children()
        assert 2 == len(children)
        up.process.kill()
        eventually(lambda: all(map(gone, children)), seconds=ORPHAN_SECONDS)


@POSIX_ONLY
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["up", "index", "serve"])
def test_a_signal_ends_it_cleanly(command: str, number: signal.Signals, tmp_path: Path) -> None:
    """SIGINT and SIGTERM end each long command within 2 s, exit code 0, and nothing is left running."""
    runs = tmp_path / "runs"
    write_run(runs, range(2))
    if command == "serve":
        run("index", "--once", str(runs), cwd=tmp_path)
    arguments = {"up": [str(runs), "--port", "0"], "index": [str(runs)], "serve": ["--port", "0"]}[command]
    with started(command, *arguments, cwd=tmp_path) as program:
        eventually(lambda: program.out.read_text() or "loaded 1 of 1 jobs" in program.err.read_text())
        children = psutil.Process(program.process.pid).children()
        began = time.monotonic()
        program.process.send_signal(number)
        assert 0 == program.process.wait(END_SECONDS)
        assert time.monotonic() - began <= END_SECONDS
        assert all(map(gone, children))
        assert "Traceback" not in program.err.read_text()


@POSIX_ONLY
def test_after_a_clean_end_the_file_alone_is_the_database(tmp_path: Path) -> None:
    """Whoever copies summarydb.db, and not what SQLite keeps beside it, has every point."""
    write_run(tmp_path / "runs", range(2))
    with started("up", "runs", "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: steps_shown(up) == [0, 1])
        up.process.terminate()
        assert 0 == up.process.wait(END_SECONDS)
    copied = tmp_path / "copied.db"
    copied.write_bytes((tmp_path / "summarydb.db").read_bytes())
    assert 2 == points_stored(copied)


@POSIX_ONLY
def test_ctrl_c_reaches_all_processes_and_is_no_error(tmp_path: Path) -> None:
    """A terminal signals the whole group, also children that were born just now: nobody shows a traceback."""
    (tmp_path / "runs").mkdir()
    with started("up", "runs", "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: 2 == len(psutil.Process(up.process.pid).children()))
        os.killpg(up.process.pid, signal.SIGINT)
        assert 0 == up.process.wait(END_SECONDS)
        assert "" == up.err.read_text()


@POSIX_ONLY
def test_a_signal_in_the_middle_of_a_load_ends_it_in_time(tmp_path: Path) -> None:
    """A long load does not hold the end up; what was cut is loaded at the next start."""
    runs = tmp_path / "runs"
    write_run(runs, range(60_000))
    with started("index", str(runs), "--no-kernel", "--batch-points", "5000", cwd=tmp_path) as program:
        eventually(lambda: 0 < points_stored(tmp_path / "summarydb.db"))
        program.process.terminate()
        assert 0 == program.process.wait(END_SECONDS)
    done = run("index", "--once", "--json", str(runs), cwd=tmp_path)
    assert 60_000 == json.loads(done.stdout)["points"]


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """One line says which port, and what to do."""
    write_run(tmp_path / "runs", range(1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in (["up", "runs"], ["serve"]):
            ended = run(*command, "--port", port, cwd=tmp_path)
            assert (1, "") == (ended.returncode, ended.stdout)
            assert f"summarydb: port {port} on 127.0.0.1 is in use: give another --port" in ended.stderr


def test_a_second_indexer_on_sqlite_is_refused_by_name(tmp_path: Path) -> None:
    """`up` and `index` name who holds the database, after a moment for it to end."""
    runs = tmp_path / "runs"
    write_run(runs, range(1))
    with started("up", str(runs), "--port", "0", cwd=tmp_path) as up:
        port = up.url.rpartition(":")[2]
        eventually(lambda: steps_shown(up) == [0])
        holder = up.child("_index").pid
        commands = (["up", str(runs), "--port", "0"], ["up", str(runs), "--port", port], ["index", str(runs)])
        with ThreadPoolExecutor() as pool:  # each waits 5 s for the lock
            results = list(pool.map(lambda command: run(*command, cwd=tmp_path), commands))
        for ended in results:
            assert (1, "") == (ended.returncode, ended.stdout)
            assert f"summarydb.db is being indexed by process {holder}" in ended.stderr
            assert 1 == len(ended.stderr.splitlines())


def test_a_refusal_of_a_child_is_one_line_of_the_parent(tmp_path: Path) -> None:
    """What `up` cannot start with ends it, with the exit code that the command itself would have."""
    (tmp_path / "runs").mkdir()
    foreign = tmp_path / "text.db"
    foreign.write_text("no database, but text" * 100)
    ended = run("up", "runs", "--port", "0", "--db", "sqlite:///text.db", cwd=tmp_path)
    assert (1, "", 1) == (ended.returncode, ended.stdout, len(ended.stderr.splitlines()))
    assert "text.db: the file is no SQLite database" in ended.stderr
    ended = run("up", "runs", "--port", "0", "--db", "mysql://x/y", cwd=tmp_path)
    assert (1, "", 1) == (ended.returncode, ended.stdout, len(ended.stderr.splitlines()))
