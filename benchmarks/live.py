"""Live tail of many files: `python -m benchmarks.live growing` and `... idle`; each prints one JSON object.

growing: runs that each get a record a second, spread evenly; seconds from just before the write until a reader of the
database sees the point, over all points, and what the indexer and its commits cost.
idle: directories in which nothing happens; seconds of a scan of all of them, and processor time of the indexer.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from benchmarks.generate import Shape, record, version_record
from benchmarks.measure import Failed, environment

_TAG = "loss"
_LOOK_SECONDS = 0.005  # between two looks of the reader
_PATIENCE_SECONDS = 600.0


def main() -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("what", choices=("growing", "idle"))
    parser.add_argument("--runs", type=int, help="default 1000 growing, 10000 idle")
    parser.add_argument("--seconds", type=int, help="default 30 growing, 60 idle")
    parser.add_argument("--flag", action="append", default=[], help="for `summarydb index`, as --flag=--polling")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="summarydb-live-") as name:
        directory = Path(name)
        if chosen.what == "growing":
            found = growing(directory, chosen.runs or 1_000, chosen.seconds or 30, chosen.flag)
        else:
            found = idle(directory, chosen.runs or 10_000, chosen.seconds or 60, chosen.flag)
    print(json.dumps(found, indent=2))
    return 0


def growing(directory: Path, runs: int, seconds: int, flags: list[str]) -> dict[str, object]:
    """Append to every run once a second."""
    files = write(directory / "runs", runs)
    written: list[dict[int, float]] = [{} for _ in range(runs)]  # step → when
    with indexed(directory, runs, flags) as (process, database):
        place_of = places(database)
        seen = dict.fromkeys(place_of, 1)
        begun, cpu, commits = time.perf_counter(), cpu_seconds(process), counter(database)
        writer = threading.Thread(target=append, args=(files, written, seconds), daemon=True)
        writer.start()
        latencies: list[float] = []
        deadline = begun + seconds + _PATIENCE_SECONDS
        while len(latencies) < runs * seconds:
            for tag, step in database.execute("SELECT id, max_step FROM tags"):
                if step > seen[tag]:
                    now = time.perf_counter()
                    mine = written[place_of[tag]]
                    latencies += [now - mine[one] for one in range(seen[tag] + 1, step + 1)]
                    seen[tag] = step
            if time.perf_counter() > deadline:
                raise Failed(f"{len(latencies)} of {runs * seconds} points were seen")
            time.sleep(_LOOK_SECONDS)
        took = time.perf_counter() - begun
        latencies.sort()
        return {
            "runs": runs,
            "points": len(latencies),
            "seconds": round(took, 1),
            "latency_ms": {
                name: round(1000 * latencies[min(int(share * len(latencies)), len(latencies) - 1)], 1)
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
            "indexer_cpu_percent": round(100 * (cpu_seconds(process) - cpu) / took, 1),
            "commits_per_second": round((counter(database) - commits) / took, 1),
        }


def idle(directory: Path, runs: int, seconds: int, flags: list[str]) -> dict[str, object]:
    """Leave every run alone; the last record came an hour ago."""
    write(directory / "runs", runs)
    quiet = time.time() - 3_600
    for file in (directory / "runs").rglob("*.*"):
        os.utime(file, (quiet, quiet))
    with indexed(directory, runs, flags) as (process, database):
        scanned = scans(database)
        until(lambda: scans(database) > scanned)  # what came behind the load is over
        scanned, cpu, begun = scans(database), cpu_seconds(process), time.perf_counter()
        times = set()
        while time.perf_counter() - begun < seconds:
            times.add(scans(database))
            time.sleep(0.1)
        took = time.perf_counter() - begun
        percent = 100 * (cpu_seconds(process) - cpu) / took
    return {
        "directories": runs,
        "seconds": round(took, 1),
        "indexer_cpu_percent": round(percent, 2),
        "scans": len(times - {scanned}),
        "scan": scan(directory),
    }


def scan(directory: Path) -> dict[str, float]:
    """Return wall and processor seconds of one scan of everything, by an indexer in this process."""
    from indexer.config import Config, Root
    from indexer.db.connection import Database
    from indexer.ingest.watch import Indexer

    root = Root("runs", directory / "runs", named=False)
    database = Database(f"sqlite:///{directory / 'x.db'}")
    try:
        indexer = Indexer(Config(roots=(root,)), database)
        indexer._enter()  # noqa: SLF001  # the part of a run that is measured
        indexer._scan()  # noqa: SLF001
        wall, cpu = time.perf_counter(), time.process_time()
        indexer._scan()  # noqa: SLF001
        return {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}
    finally:
        database.dispose()


def write(root: Path, runs: int) -> list[Path]:
    """Write runs with one point each; return their files."""
    files = []
    for run in range(runs):
        path = root / f"group{run % 100:02}" / f"run{run:05}" / "events.out.tfevents.1700000000.live"
        path.parent.mkdir(parents=True)
        path.write_bytes(version_record(Shape()) + record(_TAG, 1, 1.0, 1.0))
        files.append(path)
    return files


def append(files: list[Path], written: list[dict[int, float]], seconds: int) -> None:
    """Append one record to each file a second, evenly spread."""
    begun = time.perf_counter()
    for turn in range(seconds):
        for place, path in enumerate(files):
            wait = begun + turn + place / len(files) - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            content = record(_TAG, turn + 2, 1.0, 1.0)
            written[place][turn + 2] = time.perf_counter()
            with path.open("ab", buffering=0) as file:
                file.write(content)


@contextmanager
def indexed(directory: Path, runs: int, flags: list[str]) -> Iterator[tuple[psutil.Process, sqlite3.Connection]]:
    """Have an indexer at work that has loaded all runs; give it, and a connection to its database."""
    path = directory / "x.db"
    arguments = ["-m", "summarydb", "index", str(directory / "runs"), "--db", f"sqlite:///{path}", *flags]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log, env=environment())
    try:
        until(path.exists)
        until(lambda: loaded(path) == runs)
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield psutil.Process(process.pid), database
    finally:
        process.terminate()
        process.wait()
        sys.stderr.write((directory / "log").read_text(errors="replace")[-2_000:])


def loaded(path: Path) -> int:
    """Return how many jobs are CACHED."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            return int(conn.execute("SELECT count(*) FROM jobs WHERE cache_status = 'CACHED'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # it is being made


def places(database: sqlite3.Connection) -> dict[int, int]:
    """Return tag → number of its run."""
    query = "SELECT t.id, j.train_id FROM tags t JOIN jobs j ON j.id = t.job_id"
    return {tag: int(train_id.rpartition("run")[2]) for tag, train_id in database.execute(query)}


def counter(database: sqlite3.Connection) -> int:
    """Return the change counter: commits that changed what readers see."""
    return int(database.execute("SELECT change_counter FROM index_state").fetchone()[0])


def scans(database: sqlite3.Connection) -> float:
    """Return when the last scan ended."""
    return float(database.execute("SELECT scanned_at FROM index_state").fetchone()[0])


def cpu_seconds(process: psutil.Process) -> float:
    """Return processor seconds of all threads of a process so far, user and system."""
    times = process.cpu_times()
    return float(times.user + times.system)


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while not condition():
        if time.perf_counter() > deadline:
            raise Failed("it takes too long")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
