"""The scenarios by name: each measures one thing and adds its figures to a section. Targets are those of the design."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import ours, payloads, peers
from benchmarks.generate import FIRST_TIME, Shape, Truth, record, run_name, tag_name, truth, version_record, write
from benchmarks.measure import Memory
from benchmarks.payloads import Payloads
from benchmarks.report import Figure, Limit, Section, line, percentile, ratios

TWO_MILLION = Shape(points=200_000)
TEN_MILLION = Shape(points=1_000_000)
THOUSAND_RUNS = Shape(runs=1_000, points=100)
_LIVE = "live"  # the run that freshness appends to
_LIVE_TAG = "loss"


@dataclass(slots=True)
class Bench:
    """What scenarios share: inputs made once, fresh databases, and where figures go."""

    directory: Path
    runs: int
    quick: bool
    section: Section = field(default_factory=lambda: Section("", ""))
    _truths: dict[Shape, Truth] = field(default_factory=dict)
    _databases: int = 0

    def add(
        self,
        what: str,
        unit: str,
        samples: Sequence[float],
        limit: Limit | None = None,
        *,
        value: float | None = None,
    ) -> None:
        """Add a figure to the section, and print it."""
        figure = Figure(what, unit, samples, limit, value)
        self.section.figures.append(figure)
        print(line(figure), flush=True)

    def add_latencies(self, what: str, samples: Sequence[float], *, p50: Limit | None, p99: Limit | None) -> None:
        """Add the median and the 99th percentile of latencies (seconds)."""
        self.add(f"{what}, p50", "ms", samples, p50)
        self.add(f"{what}, p99", "ms", samples, p99, value=percentile(samples, 0.99))

    def full_size(self, limit: Limit) -> Limit | None:
        """Return `limit`, or None with --quick: inputs are smaller than the target says."""
        return None if self.quick else limit

    def input(self, shape: Shape) -> tuple[Path, Truth]:
        """Return the directory that holds `shape`, its pages in the cache, and what is in it."""
        directory = self.directory / f"input-{'-'.join(str(getattr(shape, name)) for name in Shape.__slots__)}" / "runs"
        if shape not in self._truths:
            write(shape, directory)
            self._truths[shape] = truth(shape)
        for file in directory.rglob("*.*"):
            with file.open("rb") as opened:
                while opened.read(2**24):
                    pass
        return directory, self._truths[shape]

    def drop(self, shape: Shape) -> None:
        """Remove a large input."""
        directory, _ = self.input(shape)
        shutil.rmtree(directory.parent)
        del self._truths[shape]

    def database(self) -> Path:
        """Return the path of a database that does not exist yet."""
        self._databases += 1
        return self.directory / f"{self._databases}.db"

    @contextmanager
    def loaded(self, shape: Shape) -> Iterator[tuple[Path, Path]]:
        """Yield the directory of `shape` and a database that holds it; remove the database at the end."""
        directory, wanted = self.input(shape)
        database = self.database()
        ours.index(directory, url_of(database))
        ours.check(url_of(database), wanted)
        yield directory, database
        remove(database)

    def load(self, shape: Shape, *, env: dict[str, str] | None = None, memory: bool = False) -> Load:
        """Load `shape` into a fresh SQLite database, check what is in it, and remove it."""
        directory, wanted = self.input(shape)
        database = self.database()
        outcome = ours.index(directory, url_of(database), env=env, watch_memory=memory)
        ours.check(url_of(database), wanted)
        size = ours.sqlite_bytes(database)
        remove(database)
        return Load(outcome.seconds, outcome.pss, size / wanted.points)

    def seconds(self, shape: Shape) -> float:
        """Return the seconds that summarydb takes to load `shape` into a fresh SQLite database."""
        return self.load(shape).seconds

    def rust(self, shape: Shape) -> float:
        """Return the seconds that the Rust data server takes to load `shape`."""
        return peers.rust(*self.input(shape)).seconds


@dataclass(frozen=True, slots=True)
class Load:
    """What a load into SQLite took."""

    seconds: float
    pss: int | None  # bytes, peak over all processes
    bytes_per_point: float


def alternate(runs: int, *steps: Callable[[], float]) -> list[list[float]]:
    """Call the steps in turn, `runs` times, and return what each gave. One round before that does not count."""
    rounds = [[step() for step in steps] for _ in range(runs + 1)]
    return [list(column) for column in zip(*rounds[1:], strict=True)]


def load_2m(bench: Bench) -> None:
    """2 M scalar points, one run, 10 tags a step: cold load into a new SQLite file."""
    mine = _side_by_side(bench, TWO_MILLION, Limit(0.8), Limit(36))
    if bench.quick:
        return
    directory, wanted = bench.input(TWO_MILLION)
    for name, label, limit in (
        ("tensorboard", "TensorBoard's Python loader", Limit(15, least=True)),
        ("tbparse", "tbparse", None),
    ):
        seconds = peers.python_loader(name, directory, wanted).seconds
        bench.add(label, "s", [seconds])
        bench.add(f"{label} / summarydb", "x", [seconds / _median(mine)], limit)


def load_1000_runs(bench: Bench) -> None:
    """1000 runs, 10 tags, 100 points a tag: cold load into a new SQLite file."""
    _side_by_side(bench, THOUSAND_RUNS, Limit(2.0), Limit(44))
    directory, wanted = bench.input(THOUSAND_RUNS)
    if not bench.quick:
        bench.add("TensorBoard's Python loader", "s", [peers.python_loader("tensorboard", directory, wanted).seconds])
        bench.add("tbparse", "s", [peers.python_loader("tbparse", directory, wanted).seconds])


def load_10m(bench: Bench) -> None:
    """10 M scalar points, one run, 10 tags a step."""
    shape = replace(TEN_MILLION, points=400_000) if bench.quick else TEN_MILLION
    _side_by_side(bench, shape, None, None, runs=min(bench.runs, 3))


def growth(bench: Bench) -> None:
    """How time, size and memory grow with the input: one run of 10 tags. An exponent of 1 is linear."""
    millions = [1, 2, 5] if bench.quick else [1, 2, 5, 10, 20, 50]
    seconds, sizes = [], []
    for million in millions:
        shape = Shape(points=million * 100_000)
        loads = [bench.load(shape) for _ in range(min(bench.runs, 3 if million <= 10 else 1))]
        seconds.append(_median([load.seconds for load in loads]))
        sizes.append(loads[0].bytes_per_point * shape.total)
        bench.add(f"{million} M points", "s", [load.seconds for load in loads])
        bench.add(f"{million} M points, rate", "M/s", [shape.total / load.seconds for load in loads])
        bench.add(f"{million} M points, bytes a point", "B", [loads[0].bytes_per_point])
        if shape not in {TWO_MILLION, TEN_MILLION}:
            bench.drop(shape)
    bench.add("exponent of time", "", [_exponent(millions, seconds)])
    bench.add("exponent of database size", "", [_exponent(millions, sizes)])


def many_tags(bench: Bench) -> None:
    """10 k tags in one run, 20 points each."""
    shape = Shape(tags=10_000, points=20)
    _side_by_side(bench, shape, None, None)
    with bench.loaded(shape) as (_, database), ours.web("serve", "--db", url_of(database)) as page:
        job = page.ask("/jobs")["items"][0]["id"]
        assert len(page.ask(f"/jobs/{job}/tags", {"limit": 10_000})["items"]) == shape.tags
        samples = [page.timed(f"/jobs/{job}/tags", {"limit": 10_000}) for _ in range(30)]
        bench.add_latencies("list of 10 k tags over REST", samples, p50=Limit(0.060), p99=None)


def order(bench: Bench) -> None:
    """2 M points tag after tag, against step after step."""
    sorted_shape = replace(TWO_MILLION, interleaved=False)
    runs = min(bench.runs, 3)
    mixed, grouped, rust = alternate(
        runs,
        partial(bench.seconds, TWO_MILLION),
        partial(bench.seconds, sorted_shape),
        partial(bench.rust, sorted_shape),
    )
    bench.add("summarydb, interleaved", "s", mixed)
    bench.add("summarydb, sorted by tag", "s", grouped)
    bench.add("Rust data server, sorted by tag", "s", rust)
    bench.add("summarydb sorted / interleaved", "x", ratios(grouped, mixed))
    bench.drop(sorted_shape)


def mindspore(bench: Bench) -> None:
    """2 M points as MindSpore writes them: one record a step holds all 10 tags."""
    shape = replace(TWO_MILLION, format="mindspore")
    theirs, own = alternate(min(bench.runs, 3), partial(bench.seconds, TWO_MILLION), partial(bench.seconds, shape))
    bench.add("summarydb, TensorBoard's format", "s", theirs)
    bench.add("summarydb, MindSpore's format", "s", own)
    bench.drop(shape)


def tensor_style(bench: Bench) -> None:
    """2 M points as TensorFlow 2 writes them: rank-0 tensors with the scalars plugin's metadata."""
    shape = replace(TWO_MILLION, tensor=True)
    _side_by_side(bench, shape, None, None, runs=min(bench.runs, 3))
    bench.drop(shape)


def many_runs(bench: Bench) -> None:
    """10 k runs, 10 tags, 10 points a tag."""
    shape = Shape(runs=2_000 if bench.quick else 10_000, points=10)
    _side_by_side(bench, shape, None, None, runs=min(bench.runs, 3))


def cold_start(bench: Bench) -> None:
    """The very first load, which compiles the kernel, against every later one."""
    for label, shape in (("2 M points", TWO_MILLION), ("1000 points", Shape(points=100))):
        cold, warm = alternate(min(bench.runs, 3), partial(_cold, bench, shape), partial(bench.seconds, shape))
        bench.add(f"{label}, nothing compiled", "s", cold)
        bench.add(f"{label}, compiled before", "s", warm)


def restart(bench: Bench) -> None:
    """`up` over an indexed, unchanged directory until REST answers one tag of all runs; TensorBoard until its page can.

    With the default of REST (1000 points a series at most), and with every point of the tag: 200,000 of one run, or
    100 in each of 1000 runs. That the files are not read again shows in what all processes together have read two
    seconds later: Python's modules and parts of the database.
    """
    tag = tag_name(3)
    runs = 2_000 if bench.quick else 10_000
    cases = [
        ("2 M points", TWO_MILLION, Limit(0.2)),
        ("1000 runs", THOUSAND_RUNS, Limit(0.6)),
        (f"{runs} runs", Shape(runs=runs, points=10), None),
    ]
    if not bench.quick:
        cases.append(("10 M points", TEN_MILLION, None))
    for label, shape, limit in cases:
        points = shape.runs * shape.points
        with bench.loaded(shape) as (directory, database):
            read: list[int] = []
            (first,) = alternate(
                min(bench.runs, 3), partial(_shown, directory, url_of(database), tag, points, 1000, read)
            )
            bench.add(f"{label}: summarydb up", "s", first, Limit(1.0))
            if limit is not None:
                whole, theirs = alternate(
                    bench.runs,
                    partial(_shown, directory, url_of(database), tag, points, 0, []),
                    partial(peers.tensorboard_shows, directory, tag, list(map(run_name, range(shape.runs))), points),
                )
                bench.add(f"{label}: summarydb up, every point of the tag", "s", whole)
                bench.add(f"{label}: TensorBoard with the Rust server, the same points", "s", theirs)
                bench.add(f"{label}: summarydb / TensorBoard", "x", ratios(whole, theirs), limit)
            if shape.runs == 1 and any(read):
                size = sum(file.stat().st_size for file in directory.rglob("*.*"))
                shares = [count / size for count in read]
                bench.add(f"{label}: bytes read by all processes / bytes of the files", "x", shares, Limit(0.5))


def freshness(bench: Bench) -> None:
    """A record appended and flushed, until REST answers it; 100 quiet runs beside. Idle, and while other jobs load."""
    directory = bench.directory / "fresh"
    write(Shape(runs=100, tags=3, points=50), directory)
    staged = [bench.directory / "staged" / f"bulk_{number}" for number in range(1 if bench.quick else 3)]
    for number, path in enumerate(staged):
        write(Shape(points=100_000 if bench.quick else 500_000, seed=number + 1), path)
    (directory / _LIVE).mkdir()
    count = 50 if bench.quick else 200
    database = bench.database()
    with (
        (directory / _LIVE / f"events.out.tfevents.{FIRST_TIME}.benchmark").open("wb", buffering=0) as live,
        ours.web("up", directory, "--db", url_of(database)) as page,
    ):
        live.write(version_record(Shape()) + record(_LIVE_TAG, 1, FIRST_TIME + 1.0, 1.0))
        page.wait_cached(101)
        steps = iter(range(2, 1_000_000))
        idle = [_appended(page, live.write, next(steps)) for _ in range(count)]
        bench.add_latencies("append to REST, idle", idle, p50=None, p99=Limit(0.100))
        busy: list[float] = []
        for number, path in enumerate(staged):
            path.rename(directory / path.name)  # appears at once and whole
            while page.cached_jobs() < 102 + number:
                busy.append(_appended(page, live.write, next(steps)))
        bench.add_latencies("append to REST, while other jobs load", busy, p50=None, p99=Limit(1.0))
    shutil.rmtree(directory)
    remove(database)


def charts(bench: Bench) -> None:
    """What a page asks for: a chart of one tag thinned to 1000 points, and lists, over one kept-alive connection."""
    shape = Shape(tags=1, points=1_000_000 if bench.quick else 10_000_000)
    label = f"{shape.points // 1_000_000} M-point tag, 1000 points out"
    with bench.loaded(shape) as (_, database), ours.web("serve", "--db", url_of(database)) as page:
        asked: dict[str, object] = {"tag": tag_name(0), "max_points": 1000}
        (series,) = page.ask("/series", asked)["series"]
        out = len(series["step"])
        if series["total"] != shape.points or not 500 <= out <= 1000:
            raise page.program.failed(f"answers {out} points for max_points=1000, of a total of {series['total']}")
        samples = [page.timed("/series", asked) for _ in range(200)]
        bench.add_latencies(f"{label}, whole", samples, p50=None, p99=bench.full_size(Limit(0.010)))
        chance = random.Random(1)
        samples = []
        for _ in range(200):
            first, last = sorted(chance.sample(range(1, shape.points), 2))
            samples.append(page.timed("/series", asked | {"from_step": first, "to_step": last}))
        bench.add_latencies(f"{label}, random ranges", samples, p50=None, p99=bench.full_size(Limit(0.010)))
    bench.drop(shape)
    with bench.loaded(THOUSAND_RUNS) as (_, database), ours.web("serve", "--db", url_of(database)) as page:
        assert THOUSAND_RUNS.runs == len(page.ask("/jobs", {"limit": 1000})["items"])
        samples = [page.timed("/jobs", {"limit": 1000}) for _ in range(50)]
        bench.add_latencies("list of 1000 jobs", samples, p50=None, p99=None)
        asked = {"tag": tag_name(3), "limit": 1000}
        bench.add_latencies(
            "one tag of 1000 runs", [page.timed("/series", asked) for _ in range(20)], p50=None, p99=None
        )


def memory(bench: Bench) -> None:
    """Peak memory while loading: proportional set size summed over all processes, sampled every 20 ms."""
    sizes = (
        ("2 M", TWO_MILLION),
        ("4 M" if bench.quick else "10 M", replace(TWO_MILLION, points=400_000) if bench.quick else TEN_MILLION),
    )
    limit = Limit(400e6)
    peaks: dict[str, list[float]] = {}
    for label, shape in sizes:
        bench.load(shape)
        peaks[label] = [float(bench.load(shape, memory=True).pss or math.nan) for _ in range(min(bench.runs, 3))]
        bench.add(f"index --once, {label} points, largest", "MB", peaks[label], limit, value=max(peaks[label]))
    small, large = (max(values) for values in peaks.values())
    bench.add(
        f"(peak at {sizes[1][0]} - 10 MB) / peak at 2 M", "x", [(large - 10e6) / small], bench.full_size(Limit(1.25))
    )
    thousand = [float(bench.load(THOUSAND_RUNS, memory=True).pss or math.nan) for _ in range(min(bench.runs, 3))]
    bench.add("index --once, 1000 runs, largest", "MB", thousand, limit, value=max(thousand))
    for label, shape in sizes:
        directory, _ = bench.input(shape)
        database = bench.database()
        with ours.web("up", directory, "--db", url_of(database), watch_memory=True) as page:
            page.wait_cached(shape.runs)
            peak = page.program.memory.stop() if page.program.memory else None
        bench.add(f"up (parent, indexer, web), {label} points", "MB", [float(peak or math.nan)], limit)
        remove(database)
    peak = peers.rust(*bench.input(TWO_MILLION), watch_memory=True).pss
    bench.add("Rust data server, 2 M points", "MB", [float(peak or math.nan)])


def answers(bench: Bench) -> None:
    """10 M points of one run as a table over REST, in every format: how much memory of the server grows meanwhile."""
    shape = replace(TEN_MILLION, points=100_000) if bench.quick else TEN_MILLION
    with bench.loaded(shape) as (_, database), ours.web("serve", "--db", url_of(database)) as page:
        for form in ("csv", "ndjson", "arrow", "parquet"):
            page.drain(f"/points.{form}?limit=10000")
            before = Memory(page.program.process.pid).stop()
            watched = Memory(page.program.process.pid)
            size, lines, seconds = page.drain(f"/points.{form}")
            peak = watched.stop()
            rows = {"csv": lines - 1, "ndjson": lines}.get(form, shape.total)
            assert rows == shape.total, f"{form} has {rows} rows"
            bench.add(f"{form}, {shape.total // 10**6} M points", "s", [seconds])
            bench.add(f"{form}, bytes a point", "B", [size / shape.total])
            grown = math.nan if peak is None or before is None else float(peak - before)
            bench.add(f"{form}, growth of memory", "MB", [grown], Limit(100e6))


def images(bench: Bench) -> None:
    """10 k PNG files of 30 KB as images, against copying their file and syncing the copy.

    Into SQLite each byte goes three times to the system: into the log, from there into the database file, both synced.
    So where syncing is what takes time, half the speed of a copy cannot be exceeded. Where it is free, what is left
    is processor time: SHA-256 of every byte, the checksums of the record and of the log's pages, and the copies
    between; and the start of the program, which `summarydb index --once` of an empty directory shows.
    """
    wanted = Payloads("images", 1_000 if bench.quick else 10_000)
    directory = bench.directory / "images"
    truth = payloads.write(wanted, directory)
    (file,) = directory.rglob("*.tfevents.*")
    nothing = bench.directory / "nothing"
    nothing.mkdir()
    cpu: list[float] = []

    def load() -> float:
        database = bench.database()
        outcome = ours.index(directory, url_of(database))
        ours.check_payloads(url_of(database), "image", truth)
        remove(database)
        cpu.append(outcome.cpu_seconds)
        return outcome.seconds

    def start() -> float:
        database = bench.database()
        outcome = ours.index(nothing, url_of(database))
        remove(database)
        return outcome.seconds

    mine, copies, starts = alternate(bench.runs, load, partial(_copied, file), start)
    bench.add("summarydb, whole process", "s", mine)
    bench.add("summarydb, processor time", "s", cpu[1:])
    bench.add("summarydb, an empty directory", "s", starts)
    bench.add("copy and fsync", "s", copies)
    bench.add(
        "speed of summarydb / speed of the copy", "x", ratios(copies, mine), bench.full_size(Limit(0.3, least=True))
    )
    net = [whole - empty for whole, empty in zip(mine, starts, strict=True)]
    bench.add("the same, without the program's start", "x", ratios(copies, net))
    bench.add("payloads a second, without the start", "MB", [truth.size / seconds for seconds in net])


def histograms(bench: Bench) -> None:
    """300 k histograms of 30 buckets in each of the three forms that writers use, into a new SQLite file."""
    count = 50_000 if bench.quick else 300_000
    for label, wanted in (
        ("HistogramProto", Payloads("histograms", count)),
        ("tensor [30, 3]", Payloads("histograms", count, tensor=True)),
        ("MindSpore", Payloads("histograms", count, format="mindspore")),
    ):
        directory = bench.directory / label
        truth = payloads.write(wanted, directory)
        cpu: list[float] = []

        def load(directory: Path = directory, truth: payloads.Truth = truth, cpu: list[float] = cpu) -> float:
            database = bench.database()
            outcome = ours.index(directory, url_of(database), watch_memory=False)
            ours.check_payloads(url_of(database), "histogram", truth)
            remove(database)
            cpu.append(outcome.cpu_seconds)
            return outcome.seconds

        (mine,) = alternate(bench.runs, load)
        limit = bench.full_size(Limit(0.1e6, least=True))
        bench.add(f"{label}: whole process", "s", mine)
        bench.add(f"{label}: processor time", "s", cpu[1:])
        bench.add(f"{label}: histograms a second", "M/s", [count / seconds for seconds in mine], limit)
        shutil.rmtree(directory)


def postgresql(bench: Bench) -> None:
    """Cold load into a new PostgreSQL database, against binary COPY of the same rows plus the same primary key.

    Ours is the whole process: start, migrations, reading, decoding, statistics, rollups. The server is one from a
    wheel, with its default settings, on the same machine.
    """
    from benchmarks.postgres import copy_and_index, rows_of, server_version, stored_bytes
    from tests.support.postgres import PostgresServer

    server = PostgresServer()
    try:
        sizes: list[int] = []

        def load(shape: Shape, processes: int = 1) -> float:
            directory, wanted = bench.input(shape)
            url = server.create()
            seconds = ours.index(directory, url, processes=processes).seconds
            ours.check(url, wanted)
            sizes.append(stored_bytes(url))
            server.drop(url)
            return seconds

        def floor(rows: bytes) -> float:
            url = server.create()
            seconds = copy_and_index(url, rows)
            server.drop(url)
            return seconds

        for label, shape, limit in (
            ("2 M points", TWO_MILLION, Limit(0.7, least=True)),
            ("1000 runs", THOUSAND_RUNS, None),
        ):
            rows = rows_of(shape)
            mine, theirs = alternate(bench.runs, partial(load, shape), partial(floor, rows))
            bench.add(f"{label}: summarydb", "s", mine)
            bench.add(f"{label}: COPY and index alone", "s", theirs)
            bench.add(f"{label}: rate of summarydb / rate of COPY and index", "x", ratios(theirs, mine), limit)
            bench.add(f"{label}: bytes a point, indexes included", "B", [sizes[-1] / shape.total])
        one, two, four = alternate(min(bench.runs, 3), *(partial(load, THOUSAND_RUNS, count) for count in (1, 2, 4)))
        for count, seconds in ((1, one), (2, two), (4, four)):
            bench.add(f"1000 runs, {count} indexer{'s' if count > 1 else ''}", "s", seconds)
        url = server.create()
        bench.section.about += f" PostgreSQL {server_version(url)}."
    finally:
        server.stop()


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "load-2m": load_2m,
    "load-1000-runs": load_1000_runs,
    "load-10m": load_10m,
    "growth": growth,
    "10k-tags": many_tags,
    "sorted-vs-interleaved": order,
    "mindspore": mindspore,
    "tensor-style": tensor_style,
    "10k-runs": many_runs,
    "cold-start": cold_start,
    "restart": restart,
    "freshness": freshness,
    "charts": charts,
    "memory": memory,
    "answers": answers,
    "images": images,
    "histograms": histograms,
    "postgresql": postgresql,
}


def url_of(database: Path) -> str:
    """Return the address of a SQLite file."""
    return f"sqlite:///{database}"


def remove(database: Path) -> None:
    """Remove a SQLite database and what lies beside it."""
    for file in database.parent.glob(database.name + "*"):
        file.unlink()


def _side_by_side(
    bench: Bench, shape: Shape, limit: Limit | None, size_limit: Limit | None, *, runs: int | None = None
) -> list[float]:
    """Load `shape` with us and the Rust server in turn; add both, ratio, rate and size; return our seconds."""
    sizes: list[float] = []

    def own() -> float:
        load = bench.load(shape)
        sizes.append(load.bytes_per_point)
        return load.seconds

    mine, rust = alternate(runs or bench.runs, own, partial(bench.rust, shape))
    bench.add("summarydb, whole process", "s", mine)
    bench.add("TensorBoard's Rust data server, in memory", "s", rust)
    bench.add("summarydb / Rust data server", "x", ratios(mine, rust), limit)
    bench.add("summarydb, points a second", "M/s", [shape.total / seconds for seconds in mine])
    bench.add("SQLite, bytes a point", "B", [sizes[-1]], size_limit)
    return mine


def _cold(bench: Bench, shape: Shape) -> float:
    """Load with an empty cache of compiled code."""
    cache = bench.directory / "kernels"
    seconds = bench.load(shape, env={"NUMBA_CACHE_DIR": str(cache)}).seconds
    shutil.rmtree(cache, ignore_errors=True)
    return seconds


def _copied(file: Path) -> float:
    """Return the seconds that a copy of `file` takes until it is on the disk."""
    copy = file.with_name("copy")
    begun = time.perf_counter()
    with file.open("rb") as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.fsync(target.fileno())
    seconds = time.perf_counter() - begun
    copy.unlink()
    return seconds


def _appended(page: ours.Web, append: Callable[[bytes], object], step: int) -> float:
    """Append one record and return the seconds until REST answers it."""
    time.sleep(random.Random(step).uniform(0, 0.05))  # in step with no timer of theirs
    asked = {"job": f"./{_LIVE}", "tag": _LIVE_TAG, "from_step": step, "max_points": 0}
    begun = time.perf_counter()
    append(record(_LIVE_TAG, step, FIRST_TIME + float(step), float(step)))
    while not page.ask("/series", asked)["series"][0]["step"]:
        if time.perf_counter() - begun > 60:
            raise page.program.failed(f"does not show step {step} of {_LIVE} after 60 s")
        time.sleep(0.001)
    return time.perf_counter() - begun


def _shown(directory: Path, url: str, tag: str, points: int, max_points: int, read: list[int]) -> float:
    """Return the seconds of `ours.shows`, and add the bytes that it read to `read`."""
    seconds, count = ours.shows(directory, url, tag, points, max_points=max_points)
    read.append(count)
    return seconds


def _exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """Return the slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0])


def _median(samples: Sequence[float]) -> float:
    """Return the median."""
    return float(np.median(samples))
