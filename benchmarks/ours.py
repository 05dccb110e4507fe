"""summarydb as its users run it: the command line in subprocesses, answers over HTTP, facts from the database."""

from __future__ import annotations

import http.client
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import text

from benchmarks.generate import Truth
from benchmarks.measure import Failed, Outcome, Program
from benchmarks.payloads import Truth as Payloads
from indexer.db.engine import open_reader

_POLL_SECONDS = 0.005


def command(*words: str | Path) -> list[str | Path]:
    """Return the command line of `summarydb WORDS`."""
    return [sys.executable, "-m", "summarydb", *words]


def index(
    directory: Path, url: str, *, env: dict[str, str] | None = None, watch_memory: bool = False, processes: int = 1
) -> Outcome:
    """Load `directory` into the database at `url` and end; with several processes, until the last has ended."""
    words = command("index", "--once", directory, "--db", url)
    with ExitStack() as stack:
        programs = [stack.enter_context(Program(words, env=env, watch_memory=watch_memory)) for _ in range(processes)]
        outcomes = [program.finish() for program in programs]
    return max(outcomes, key=lambda outcome: outcome.seconds)


def check(url: str, truth: Truth) -> None:
    """Compare the database with what was generated; Failed where they differ."""
    reader = open_reader(url)
    with reader.connect() as conn:
        jobs = conn.execute(text("SELECT count(*) FROM jobs WHERE cache_status = 'CACHED'")).scalar_one()
        series, counted = conn.execute(text("SELECT count(*), sum(point_count) FROM tags")).one()
        points, value_sum = conn.execute(text("SELECT count(*), sum(value) FROM tensor_points")).one()
    reader.dispose()
    found = (jobs, series, int(counted or 0), points)
    wanted = (truth.runs, truth.series, truth.points, truth.points)
    if found != wanted or not math.isclose(value_sum, truth.value_sum, rel_tol=1e-9):
        raise Failed(
            f"the database holds (jobs, series, their points, points) {found} with sum {value_sum}, "
            f"not {wanted} with sum {truth.value_sum}"
        )


def check_payloads(url: str, kind: str, truth: Payloads) -> None:
    """Compare the payloads of a kind in the database with what was generated; Failed where they differ."""
    reader = open_reader(url)
    with reader.connect() as conn:
        stored = text("SELECT count(*), sum(length(data)) FROM blobs WHERE kind = :kind AND error IS NULL")
        payloads, size = conn.execute(stored, {"kind": kind}).one()
        counted = text("SELECT count(*), sum(count), sum(bytes) FROM blob_counts WHERE errors = 0")
        series, count, size_counted = conn.execute(counted).one()
        values = conn.execute(text("SELECT coalesce(sum(count), 0) FROM histogram_stats")).scalar_one()
        last = conn.execute(
            text("SELECT digest FROM blobs WHERE kind = 'image' ORDER BY step DESC, tag_id DESC")
        ).first()
    reader.dispose()
    found = (series, payloads, int(count), int(size), int(size_counted), values, b"" if last is None else last[0])
    wanted = (truth.series, *[truth.payloads] * 2, *[truth.size] * 2, truth.values, truth.last)
    if found != wanted:
        raise Failed(f"the database holds (series, payloads, bytes, values, last digest) {found}, not {wanted}")


def sqlite_bytes(database: Path) -> int:
    """Return what a SQLite database takes on disk, its write-ahead log included."""
    files = (database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm"))
    return sum(file.stat().st_size for file in files if file.exists())


@dataclass(slots=True)
class Web:
    """A running `summarydb up` or `serve`, and one kept-alive connection to it."""

    program: Program
    connection: http.client.HTTPConnection

    def get(self, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()) -> bytes:
        """Return the body of an answer; Failed where it is not 200."""
        self.connection.request("GET", f"/api/v1{path}?{urlencode(parameters)}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise self.program.failed(f"GET {path} answered {answer.status}: {body[:300].decode(errors='replace')}")
        return body

    def drain(self, path: str) -> tuple[int, int, float]:
        """Read an answer and keep nothing of it; return its bytes, the line feeds among them, and the seconds."""
        begun = time.perf_counter()
        self.connection.request("GET", f"/api/v1{path}")
        answer = self.connection.getresponse()
        size = lines = 0
        while part := answer.read(1 << 20):
            size += len(part)
            lines += part.count(b"\n")
        if answer.status != 200:
            raise self.program.failed(f"GET {path} answered {answer.status}")
        return size, lines, time.perf_counter() - begun

    def ask(self, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()) -> Any:
        """Return the answer's JSON."""
        return json.loads(self.get(path, parameters))

    def timed(self, path: str, parameters: Mapping[str, object] | Sequence[tuple[str, object]] = ()) -> float:
        """Return the seconds from the request until the whole body is here."""
        begun = time.perf_counter()
        self.get(path, parameters)
        return time.perf_counter() - begun

    def cached_jobs(self) -> int:
        """Return how many jobs are CACHED."""
        found: int = len(self.ask("/jobs", {"cache_status": "CACHED", "limit": 10_000})["items"])
        return found

    def wait_cached(self, jobs: int, *, seconds: float = 600.0) -> float:
        """Wait until `jobs` jobs are CACHED; return the seconds since the program's start."""
        while self.cached_jobs() < jobs:
            if time.perf_counter() - self.program.started > seconds:
                raise self.program.failed(f"has not {jobs} jobs CACHED after {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        return time.perf_counter() - self.program.started


@contextmanager
def web(*words: str | Path, watch_memory: bool = False) -> Iterator[Web]:
    """Run `summarydb WORDS` (up or serve) on a free port of the loopback; yield it once it answers."""
    with Program(command(*words, "--host", "127.0.0.1", "--port", "0"), watch_memory=watch_memory) as program:
        _, match = program.wait_for(r"http://127\.0\.0\.1:(\d+)", seconds=60)
        connection = http.client.HTTPConnection("127.0.0.1", int(match.group(1)), timeout=60)
        try:
            yield Web(program, connection)
        finally:
            connection.close()


def shows(directory: Path, url: str, tag: str, points: int, *, max_points: int = 0) -> tuple[float, int]:
    """Time `up` over an indexed directory until REST answers all `points` points of `tag` (over all jobs).

    With `max_points` it answers so many of each series. Returns seconds, and the bytes that all its processes have
    read two seconds later (0 where the system does not tell): that no file was read again shows there.
    """
    with web("up", directory, "--db", url) as page:
        total = -1
        while total != points:
            series = page.ask("/series", {"tag": tag, "max_points": max_points, "limit": 10_000})["series"]
            total = sum(one["total"] for one in series)
            if time.perf_counter() - page.program.started > 60:
                raise page.program.failed(f"shows {total} points of {tag}, not {points}")
        seconds = time.perf_counter() - page.program.started
        if max_points == 0 and points != sum(len(one["step"]) for one in series):
            raise page.program.failed(f"thinned {tag} although every point was asked for")
        time.sleep(2.0)
        return seconds, page.program.read_bytes()
