"""Real faults of real processes: servers that stop, disks and tables that fill up, indexers that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError

import psutil
import psycopg
import pytest

from indexer.db.engine import open_engine
from indexer.ingest.watch import LEASE_SECONDS
from tests.support.loads import calm
from tests.support.postgres import PostgresServer
from tests.support.program import PATIENCE_SECONDS, Running, append, command, environment, eventually, run, started
from tests.support.records import tb_scalar, tb_version
from tests.support.tables import differences, dump

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
FILE = "events.out.tfevents.1700000000.x"


def write_run(root: Path, job: str, steps: range) -> None:
    """Write or go on with a run."""
    path = root / job / FILE
    if not path.exists():
        append(path, [tb_version(1.7e9)])
    append(path, [tb_scalar("loss", step, step / 4, 1.7e9 + step) for step in steps])


def points(up: Running) -> int:
    """Return how many points REST says are loaded; -1 where it answers with a problem."""
    try:
        return sum(job["point_count"] for job in up.get("/jobs")["items"])
    except HTTPError:
        return -1


def waits(up: Running) -> str:
    """Return what health says that the indexer waits for, empty where it does not."""
    indexer = up.get("/health")["indexer"] or {}
    return str(indexer["message"]) if indexer.get("state") == "waiting" else ""


def whole(path: Path) -> bool:
    """Tell whether a SQLite file is what it should be."""
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def problem(up: Running, path: str) -> tuple[int, str, str | None, str]:
    """Return status, content type, Retry-After and detail of an answer that is none."""
    try:
        with urllib.request.urlopen(f"{up.url}/api/v1{path}", timeout=PATIENCE_SECONDS) as answer:
            return answer.status, "", None, ""
    except HTTPError as e:
        return e.code, e.headers["Content-Type"], e.headers["Retry-After"], json.load(e)["detail"]


# PostgreSQL that goes away --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_server_that_stops_is_waited_for(own_postgres: PostgresServer, tmp_path: Path, seconds: float) -> None:
    """The web says 503, when to come back, and what the indexer waits for; nothing ends, and all goes on by itself."""
    root = tmp_path / "runs"
    write_run(root, "a", range(2))
    url = own_postgres.create()
    with started("up", str(root), "--port", "0", "--db", url, cwd=tmp_path) as up:
        eventually(lambda: points(up) == 2)
        children = {up.child("_index").pid, up.child("_serve").pid}
        own_postgres.halt()
        try:
            write_run(root, "a", range(2, 4))
            eventually(lambda: "the indexer waits" in problem(up, "/health")[3])
            for path in ("/jobs", "/health", "/series"):
                status, kind, retry, detail = problem(up, path)
                assert (503, "application/problem+json", "1") == (status, kind, retry)
                assert "the database cannot be reached" in detail
            deadline = time.monotonic() + seconds
            eventually(lambda: time.monotonic() >= deadline, seconds=seconds + PATIENCE_SECONDS)
        finally:
            own_postgres.resume()
        eventually(lambda: points(up) == 4)
        eventually(lambda: up.get("/health")["indexer"]["state"] == "watching")
        assert up.get("/health")["indexer"]["alive"]
        assert children == {up.child("_index").pid, up.child("_serve").pid}
    own_postgres.drop(url)


# What a machine runs out of -------------------------------------------------------------------------------------------
def limit(process: psutil.Process, what: int, soft: int | None = None) -> int:
    """Set the soft limit of a process; without one, lift it to what it was allowed. Return the one it had."""
    import resource

    before, hard = resource.prlimit(process.pid, what)
    resource.prlimit(process.pid, what, (hard if soft is None else soft, hard))
    return before


@LINUX
def test_a_limit_on_file_sizes_is_waited_for(tmp_path: Path) -> None:
    """The nearest to a quota that needs no rights: health says so, the file stays whole, and it goes on by itself."""
    import resource

    root = tmp_path / "runs"
    write_run(root, "a", range(2))
    with started("up", str(root), "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: points(up) == 2)
        indexer = up.child("_index")
        wal = (tmp_path / "summarydb.db-wal").stat().st_size
        limit(indexer, resource.RLIMIT_FSIZE, wal + 100_000)
        write_run(root, "b", range(20_000))
        assert "the disk or memory of the database fails" in eventually(lambda: waits(up))
        assert whole(tmp_path / "summarydb.db")
        assert points(up) < 20_002
        limit(indexer, resource.RLIMIT_FSIZE)
        eventually(lambda: points(up) == 20_002)
        eventually(lambda: not waits(up))
        assert indexer.pid == up.child("_index").pid
    assert whole(tmp_path / "summarydb.db")


@LINUX
def test_too_few_descriptors_are_waited_for(tmp_path: Path) -> None:
    """An indexer that can open nothing more keeps what it has, and reads new runs as soon as it can."""
    import resource

    root = tmp_path / "runs"
    write_run(root, "a", range(2))
    with started("up", str(root), "--port", "0", "--reconcile", "0.2", cwd=tmp_path) as up:
        eventually(lambda: points(up) == 2)
        indexer = up.child("_index")
        before = limit(indexer, resource.RLIMIT_NOFILE, 3)
        write_run(root, "b", range(5))
        write_run(root, "a", range(2, 4))
        eventually(lambda: "Too many open files" in up.err.read_text())
        assert points(up) < 9
        limit(indexer, resource.RLIMIT_NOFILE, before)
        eventually(lambda: points(up) == 9)
        assert indexer.pid == up.child("_index").pid
        eventually(lambda: {job["cache_status"] for job in up.get("/jobs")["items"]} == {"CACHED"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    options = [mount, "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if subprocess.run(options, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    yield disk
    eventually(lambda: subprocess.run([umount, str(disk)], check=False, capture_output=True).returncode == 0)


@LINUX
def test_a_disk_that_is_really_full_is_waited_for(small_disk: Path, tmp_path: Path) -> None:
    """The database, its WAL, its lock and the log share a disk with what fills it; deleting that is all it takes."""
    root = tmp_path / "runs"
    write_run(root, "a", range(2))
    ballast = small_disk / "ballast"
    out, err = tmp_path / "out", small_disk / "err"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            command("up", str(root), "--port", "0", "--db", f"sqlite:///{small_disk / 'x.db'}"),
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
        )
    up = Running(process, out, err)
    try:
        eventually(lambda: points(up) == 2)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        write_run(root, "b", range(50_000))
        assert "the disk of the database is full" in eventually(lambda: waits(up))
        assert 2 <= points(up) < 50_002
        up.child("_index").kill()  # who starts on a full disk waits as well
        eventually(lambda: "ended (killed by SIGKILL)" in waits(up))
        eventually(lambda: "the disk of the database is full" in waits(up))
        ballast.unlink()
        eventually(lambda: points(up) == 50_002)
        eventually(lambda: not waits(up))
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
    assert 0 == process.returncode
    assert whole(small_disk / "x.db")


@LINUX
def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """Whoever sends standard error to a full disk still gets his points."""
    root = tmp_path / "runs"
    write_run(root, "a", range(2))
    append(root / "a" / FILE, [b"\xff" * 100])  # damage: there is something to log
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("index", "--once", str(root)), cwd=tmp_path, env=environment(), stderr=full, check=False
        )
    assert 0 == done.returncode
    with closing(sqlite3.connect(tmp_path / "summarydb.db")) as conn:
        assert (2,) == conn.execute("SELECT count(*) FROM tensor_points").fetchone()


# Several indexers -----------------------------------------------------------------------------------------------------
def test_the_jobs_of_a_killed_indexer_move_on_within_its_lease(postgres: PostgresServer, tmp_path: Path) -> None:
    """Three processes are at work; one is killed while it holds jobs; the others load them, and nothing twice."""
    root = tmp_path / "runs"
    for job in range(700):
        write_run(root, f"{job:03}", range(10))
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    url = postgres.create()
    assert 0 == run("db", "upgrade", "--db", url, cwd=tmp_path).returncode
    arguments = ("index", "--once", str(root), "--db", url, "--no-kernel", "--batch-points", "20")
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(psycopg.connect(url))
        shut = "SELECT * FROM index_state FOR UPDATE"  # every commit of an indexer needs this row
        gate.execute(shut)
        programs = {
            program.process.pid: program
            for program in (stack.enter_context(started(*arguments, cwd=tmp_path)) for _ in range(3))
        }
        conn = stack.enter_context(psycopg.connect(url, autocommit=True))

        def counted(query: str) -> int:
            return int(conn.execute(query).fetchall()[0][0])

        def holders() -> list[int]:
            """Return the processes that hold jobs, who holds most first."""
            query = "SELECT i.pid FROM jobs j JOIN indexers i ON i.id = j.lease_owner GROUP BY 1 ORDER BY count(*) DESC"
            return [int(row[0]) for row in conn.execute(query)]

        eventually(lambda: counted("SELECT count(*) FROM indexers") == 3)
        gate.rollback()  # all begin at once
        victim = eventually(holders)[0]
        programs[victim].process.kill()
        programs.pop(victim).process.wait()
        orphans = counted("SELECT count(*) FROM jobs WHERE lease_expires IS NOT NULL")
        killed = time.monotonic()
        assert orphans
        for program in programs.values():
            assert 0 == program.process.wait(LEASE_SECONDS + PATIENCE_SECONDS), program.err.read_text()
        assert time.monotonic() - killed < LEASE_SECONDS + 10.0  # to see that it ran out, and to load
        assert 0 == counted("SELECT count(*) FROM jobs WHERE cache_status <> 'CACHED' OR lease_owner IS NOT NULL")
    engine = open_engine(url)
    assert [] == differences(expected, dump(engine))
    engine.dispose()
    postgres.drop(url)
