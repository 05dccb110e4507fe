"""Measure summarydb beside TensorBoard's loaders; print a table as it goes, and write docs/benchmarks.md on request."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import FrameType

from benchmarks import rest, scenarios, tensorboard
from benchmarks.measure import REPOSITORY, Failed
from benchmarks.report import Section, page
from benchmarks.scenarios import Bench

SCENARIOS = scenarios.SCENARIOS | rest.SCENARIOS | tensorboard.SCENARIOS
OUTPUT = REPOSITORY / "docs" / "benchmarks.md"

METHOD = """\
- Each contender is a process of its own, timed from before it is started. For summarydb that is `summarydb index \
--once` into a database that does not exist yet, until the process has ended: start, migrations, load, commit, close. \
For the Rust data server it is until it reports the end of its load (`--reload=once --checksum \
--samples-per-plugin=scalars=all`); that all points are there is then counted over gRPC, outside the time. For the \
Python loader (`EventMultiplexer`, all scalars kept) and tbparse it is until the process has ended.
- Contenders run in turn (ours, theirs, ours, theirs ...) after one round that does not count: pages are cached, code \
is compiled. A ratio is the median over such pairs, and below 1 where summarydb took less time.
- Every load is checked: jobs, series, points and the sum of all values are those that were generated.
- A copy of a file is one with 1 MiB a call and one fsync at its end, of the file that is loaded, in the same run. \
Payloads are checked by their number, their bytes and a digest; histograms by the sum of their counts.
- Processor time is that of all threads, user and system. It depends less than wall time on who else uses the machine.
- Memory is the proportional set size summed over all processes of a program, the peak of samples 20 ms apart, in \
runs that are not timed.
- Bytes a point are those of the database file and its write-ahead log after the load, everything included.
- Latencies are measured by a client on the same machine, from the request until its body is there.
- SQLite runs in WAL mode with `synchronous=NORMAL`, as users run it.
- Inputs are made by `benchmarks/generate.py` and `benchmarks/payloads.py`: deterministic, one file a run, tag names \
of 30 characters."""


def main() -> int:
    """Run the scenarios that are asked for; 1 where one of them failed, 0 also where a target is not reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, two runs each, no Python loaders")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=SCENARIOS, help=", ".join(SCENARIOS))
    parser.add_argument("--runs", type=int, help="how often each contender runs (default 5, with --quick 2)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--dir", type=Path, help="where inputs and databases go meanwhile (default: a temporary one)")
    chosen = parser.parse_args()
    runs = chosen.runs or (2 if chosen.quick else 5)
    names = [name for name in SCENARIOS if not chosen.only or name in chosen.only]
    signal.signal(signal.SIGTERM, _interrupt)
    if chosen.dir is not None:
        chosen.dir.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="summarydb-benchmarks-", dir=chosen.dir))
    begun = time.perf_counter()
    sections: list[Section] = []
    try:
        bench = Bench(directory, runs, chosen.quick)
        for name in names:
            bench.section = Section(name, (SCENARIOS[name].__doc__ or "").strip().replace("\n    ", "\n"))
            sections.append(bench.section)
            print(f"{name}: {bench.section.about.splitlines()[0]}", flush=True)
            try:
                SCENARIOS[name](bench)
            except (Failed, AssertionError, OSError) as error:
                bench.section.error = str(error) or traceback.format_exc(limit=-1)
                print(f"  FAILED: {bench.section.error}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if chosen.write:
        options = f"{' --quick' if chosen.quick else ''} --runs {runs}"
        left_out = [name for name in SCENARIOS if name not in names]
        OUTPUT.write_text(
            page(sections, method=METHOD, left_out=left_out, options=options, seconds=time.perf_counter() - begun)
        )
    missed = [
        f"{section.name}: {figure.what}"
        for section in sections
        for figure in section.figures
        if figure.limit is not None and not figure.limit.reached(figure.shown)
    ]
    print(f"targets not reached: {len(missed)}", *missed, sep="\n  ")
    return 1 if any(section.error is not None for section in sections) else 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl+C does, so that everything we started ends too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
