"""Jobs that go, come back and outlive their files, as users see it: real processes, one of which is killed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from indexer.db.dialect import parse_url
from tests.support.program import PATIENCE_SECONDS, Running, append, eventually, run, started
from tests.support.records import tb_scalar, tb_version

FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"


def write(runs: Path, *names: str, steps: int = 300) -> Path:
    """Write jobs with one file each."""
    for name in names:
        append(
            runs / name / FIRST, [tb_version(1.7e9), *(tb_scalar("loss", s, s / 4, 1.7e9 + s) for s in range(steps))]
        )
    return runs


def prune(url: str, cwd: Path, *arguments: str) -> Any:
    """Run `prune --json`; return what it says."""
    done = run("prune", "--db", url, "--json", *arguments, cwd=cwd)
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def train_ids(up: Running) -> list[str]:
    """Return the jobs that REST shows."""
    return sorted(job["train_id"] for job in up.get("/jobs")["items"])


def steps(up: Running, job: str) -> int:
    """Return how many points REST shows of the one series of a job; 0 where it has none."""
    try:
        found = up.get(f"/series?job={job}&tag=loss&max_points=0")["series"]
    except urllib.error.HTTPError as e:
        e.close()
        if e.code != 404:
            raise
        return 0
    return sum(len(series["step"]) for series in found)


def cached(up: Running, *names: str) -> bool:
    """Tell whether just these jobs are loaded."""
    return [f"./{name}" for name in names] == sorted(
        job["train_id"] for job in up.get("/jobs?cache_status=CACHED")["items"]
    )


def test_prune_beside_up(empty_url: str, tmp_path: Path) -> None:
    """First it is shown what would go, then it goes while `up` runs, and does not come back; the files are there."""
    runs = write(tmp_path / "runs", "a", "b", "c")
    with started("up", "runs", "--db", empty_url, "--port", "0", "--reconcile", "0.5", cwd=tmp_path) as up:
        eventually(lambda: cached(up, "a", "b", "c"))
        shown = prune(empty_url, tmp_path, "--job", "./a")
        assert (True, ["./a"], 300) == (shown["dry_run"], [j["train_id"] for j in shown["jobs"]], shown["point_count"])
        assert 300 == steps(up, "./a")
        assert not prune(empty_url, tmp_path, "--job", "./a", "--yes")["dry_run"]
        assert ["./b", "./c"] == train_ids(up)
        append(runs / "a" / FIRST, [tb_scalar("loss", 1_000, 1.0, 1.7e9)])
        append(runs / "b" / FIRST, [tb_scalar("loss", 1_000, 1.0, 1.7e9)])
        eventually(lambda: 301 == steps(up, "./b"))
        assert ["./b", "./c"] == train_ids(up)
        assert (runs / "a" / FIRST).exists()
        done = run("reindex", "./a", "--db", empty_url, cwd=tmp_path)
        assert 0 == done.returncode, done.stderr
        assert "301 points" in done.stdout
        eventually(lambda: 301 == steps(up, "./a"))


def test_reindex_beside_up(empty_url: str, tmp_path: Path) -> None:
    """The indexer that runs does it; whoever looks meanwhile sees all points, every time."""
    write(tmp_path / "runs", "a", "b", steps=2_000)
    with started("up", "runs", "--db", empty_url, "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: cached(up, "a", "b"))
        engine = create_engine(parse_url(empty_url))
        with engine.begin() as conn:
            conn.execute(text("UPDATE tensor_points SET value = -1 WHERE step = 7"))
        with started("reindex", "./a", FIRST, "--db", empty_url, "--json", cwd=tmp_path) as command:
            while command.process.poll() is None:
                assert 2_000 == steps(up, "./a")
        assert 0 == command.process.returncode, command.err.read_text()
        assert "done" == json.loads(command.out.read_text())["state"]
        with engine.connect() as conn:
            values = conn.execute(text("SELECT job, value FROM v_scalars WHERE step = 7 ORDER BY 1")).all()
        engine.dispose()
        assert [("./a", 7 / 4), ("./b", -1.0)] == [tuple(row) for row in values]
        failed = run("reindex", "./a", "other", "--db", empty_url, cwd=tmp_path)
        assert (1, True) == (failed.returncode, "has no file other on disk" in failed.stderr)


def test_a_reindex_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL while it reads: the old curves are there, and the next start ends what was asked for and cleans up."""
    url = f"sqlite:///{tmp_path / 'summary.db'}"
    write(tmp_path / "runs", "a", steps=60_000)
    assert 0 == run("index", "--once", "runs", "--db", url, cwd=tmp_path).returncode
    with started("reindex", "./a", "--db", url, "--no-kernel", cwd=tmp_path) as command:
        eventually(lambda: list(tmp_path.glob("summary.db.reindex-*/shadow.db")))
        command.process.kill()
        command.process.wait(PATIENCE_SECONDS)
    query = "SELECT (SELECT count(*) FROM v_scalars), (SELECT count(*) FROM tensor_points), (SELECT count(*) FROM tags)"
    with sqlite3.connect(tmp_path / "summary.db") as conn:
        assert (60_000, 60_000, 1) == conn.execute(query).fetchone()
        assert 1 == conn.execute("SELECT count(*) FROM reindexes WHERE finished_at IS NULL").fetchone()[0]
    assert 0 == run("index", "--once", "runs", "--db", url, cwd=tmp_path).returncode
    with sqlite3.connect(tmp_path / "summary.db") as conn:
        assert (60_000, 1) == conn.execute(query).fetchone()[::2]
        assert [(None,)] == conn.execute("SELECT error FROM reindexes WHERE finished_at IS NOT NULL").fetchall()
    conn.close()
    assert [] == list(tmp_path.glob("summary.db.reindex-*"))


def test_jobs_come_when_somebody_looks(empty_url: str, tmp_path: Path) -> None:
    """With --max-cached-jobs 1 asking for another job loads it, and the one before gives way."""
    write(tmp_path / "runs", "a", "b")
    with started("up", "runs", "--db", empty_url, "--port", "0", "--max-cached-jobs", "1", cwd=tmp_path) as up:
        eventually(lambda: any(cached(up, name) for name in "ab"))
        first, other = "ab" if cached(up, "a") else "ba"
        evicted = next(job for job in up.get("/jobs")["items"] if job["train_id"] == f"./{other}")
        assert evicted["evicted_at"] is not None
        assert ("NOT_IN_CACHE", 0) == (evicted["cache_status"], evicted["point_count"])
        eventually(lambda: 300 == steps(up, f"./{other}"))
        assert cached(up, other)
        eventually(lambda: 300 == steps(up, f"./{first}"))
        assert cached(up, first)


def test_a_job_outlives_its_files(empty_url: str, tmp_path: Path) -> None:
    """Its files are deleted: series, lists, `status` and the start page show it, and say since when they are gone."""
    runs = write(tmp_path / "runs", "a", "b")
    append(runs / "b" / SECOND, [tb_version(1.7e9), tb_scalar("loss", 300, 1.0, 1.7e9)])

    def look(up: Running) -> None:
        gone = {job["train_id"]: job["missing_since"] is not None for job in up.get("/jobs")["items"]}
        assert {"./a": True, "./b": False} == gone
        assert [300, 301] == [steps(up, job) for job in ("./a", "./b")]
        assert {"missing"} == {file["state"] for file in up.get("/jobs/1/files")["items"]} | {"missing"}
        with urllib.request.urlopen(f"{up.url}/", timeout=PATIENCE_SECONDS) as page:
            assert b"files gone" in page.read()

    with started("up", "runs", "--db", empty_url, "--port", "0", "--reconcile", "0.5", cwd=tmp_path) as up:
        eventually(lambda: 301 == steps(up, "./b") and cached(up, "a", "b"))
        shutil.rmtree(runs / "a")
        (runs / "b" / FIRST).unlink()
        eventually(lambda: any(job["missing_since"] for job in up.get("/jobs")["items"]))
        look(up)
    with started("up", "runs", "--db", empty_url, "--port", "0", cwd=tmp_path) as up:
        look(up)
        status = run("status", "--db", empty_url, cwd=tmp_path).stdout
        assert "missing since" in status
        shown = prune(empty_url, tmp_path, "--missing", "--yes")
        assert ["./a"] == [job["train_id"] for job in shown["jobs"]]
        assert ["./b"] == train_ids(up)
        write(runs, "a")  # a new run of the name is a new job
        eventually(lambda: 300 == steps(up, "./a"))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "nothing is chosen"),
        (("--older-than", "soon"), 2, "--older-than soon: write a number and s, m, h, d or w"),
        (("--thin-to", "500"), 2, "go together"),
        (("--thin-to", "5", "--thin-older-than", "1d"), 2, "100 points or more"),
        (("--missing", "--vacuum"), 2, "--yes"),
        (("--job", "./none"), 1, "there is no job ./none"),
    ],
)
def test_prune_says_what_cannot_be(url: str, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    """One line on standard error, and the exit code of its kind."""
    done = run("prune", "--db", url, *arguments, cwd=tmp_path)
    assert code == done.returncode
    assert says in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_vacuum_gives_space_back(tmp_path: Path) -> None:
    """The file is smaller afterwards, and what stays is whole."""
    url = f"sqlite:///{tmp_path / 'summary.db'}"
    write(tmp_path / "runs", "a", steps=30_000)
    write(tmp_path / "runs", "b")
    assert 0 == run("index", "--once", "runs", "--db", url, cwd=tmp_path).returncode
    before = (tmp_path / "summary.db").stat().st_size
    done = run("prune", "--db", url, "--job", "./a", "--yes", "--vacuum", cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    assert "runs:./a: 30,000 points\ngone: 1 jobs, 1 tags, 30,000 points, about" in done.stdout
    assert (tmp_path / "summary.db").stat().st_size < before - 20 * 30_000
    shown = run("sql", "SELECT job, count(*) FROM v_scalars GROUP BY 1", "--db", url, "--format", "csv", cwd=tmp_path)
    assert "./b,300" in shown.stdout


def test_thinning_from_the_command_line(url: str, tmp_path: Path) -> None:
    """Points of 2023 are old: of a long series about as many stay as asked for."""
    write(tmp_path / "runs", "a", steps=5_000)
    assert 0 == run("index", "--once", "runs", "--db", url, cwd=tmp_path).returncode
    shown = prune(url, tmp_path, "--thin-older-than", "30d", "--thin-to", "500")
    done = prune(url, tmp_path, "--thin-older-than", "30d", "--thin-to", "500", "--yes")
    assert shown["point_count"] == done["point_count"]
    assert 4_000 < done["point_count"] < 4_700
    assert [("loss", 5_000)] == [(one["tag"], one["of"]) for one in done["thinned"]]
