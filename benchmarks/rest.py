"""REST under load, and beside TensorBoard's HTTP with the Rust server on the same files in the same run."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import ours
from benchmarks.generate import Shape, run_name, tag_name
from benchmarks.measure import Program
from benchmarks.report import Limit, ratios
from benchmarks.scenarios import THOUSAND_RUNS, Bench, remove, url_of

_REQUESTS = 30
_CLIENTS = 200
_SECONDS = 30
_KIND_NAMES = {
    "jobs": "list of jobs",
    "tags": "tags of a job",
    "series": "one series",
    "many": "20 series of one tag",
    "changed": "poll with If-None-Match",
    "health": "health",
}


def beside_tensorboard(bench: Bench) -> None:
    """What a page asks for, over HTTP on one connection: ours, and TensorBoard's with the Rust server behind it.

    TensorBoard answers at most 1000 points of a series here, its default; ours are asked for as many. Neither
    compresses.
    """
    long = Shape(tags=1, points=1_000_000 if bench.quick else 10_000_000)
    runs = [run_name(number) for number in range(THOUSAND_RUNS.runs)]
    some, tag = runs[:100], tag_name(3)
    jobs = [("job", f"./{name}") for name in some]
    cases: list[tuple[Shape, str, _Ask, _Ask]] = [
        (
            THOUSAND_RUNS,
            "list of 1000 runs",
            lambda page: len(page.get("/api/v1/jobs?limit=1000")["items"]),
            lambda page: len(page.get("/data/runs")),
        ),
        (
            THOUSAND_RUNS,
            "one tag of 100 runs",
            lambda page: len(page.get("/api/v1/series?" + urlencode([("tag", tag), ("limit", 100), *jobs]))["series"]),
            lambda page: len(
                page.post("/data/plugin/scalars/scalars_multirun", [("tag", tag), *(("runs", name) for name in some)])
            ),
        ),
        (
            Shape(tags=10_000, points=10),
            "list of 10 k tags",
            lambda page: len(page.get("/api/v1/jobs/1/tags?limit=10000")["items"]),
            lambda page: len(page.get("/data/plugin/scalars/tags")[run_name(0)]),
        ),
        (
            long,
            f"{long.points // 1_000_000} M-point series, 1000 points out",
            lambda page: page.get("/api/v1/series?" + urlencode({"tag": tag_name(0), "max_points": 1000}))["series"][0][
                "total"
            ],
            lambda page: len(
                page.get("/data/plugin/scalars/scalars?" + urlencode({"tag": tag_name(0), "run": run_name(0)}))
            ),
        ),
    ]
    for shape, what, mine, theirs in cases:
        with (
            bench.loaded(shape) as (directory, database),
            ours.web("serve", "--db", url_of(database)) as web,
            _tensorboard(directory, theirs) as other,
        ):
            ourselves = _Page(web.connection)
            pairs = [(_timed(mine, ourselves), _timed(theirs, other)) for _ in range(_REQUESTS + 1)][1:]
        own, peer = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        bench.add(f"{what}: summarydb", "ms", own)
        bench.add(f"{what}: TensorBoard", "ms", peer)
        bench.add(f"{what}: summarydb / TensorBoard", "x", ratios(own, peer))
        if shape is long:
            bench.drop(shape)


def crowd(bench: Bench) -> None:
    """200 clients on loopback for 30 s, from the moment `up` answers: 1000 jobs, 10 M points that it loads meanwhile.

    Clients and server share the machine. An answer is one of 200 or 304; 429 and 503 say to come again later, and 404
    that a series is not loaded yet.
    """
    shape = Shape(runs=1_000, tags=10, points=100 if bench.quick else 1_000)
    directory, _ = bench.input(shape)
    database = bench.database()
    words = [sys.executable, "-m", "benchmarks.crowd"]
    with ours.web("up", directory, "--db", url_of(database), watch_memory=True) as web:
        with Program([*words, str(web.connection.port), str(_CLIENTS), str(_SECONDS)]) as clients:
            time.sleep(_SECONDS / 3)
            early = web.program.memory.peak if web.program.memory else None
            met = json.loads(clients.finish(seconds=_SECONDS * 4).output.splitlines()[-1])
        late = web.program.memory.stop() if web.program.memory else None
        seconds = web.wait_cached(shape.runs)
    remove(database)
    bench.drop(shape)
    statuses: dict[str, int] = met["statuses"]
    wrong = {status: count for status, count in statuses.items() if status not in {"200", "304", "404", "429", "503"}}
    good = statuses.get("200", 0) + statuses.get("304", 0)
    bench.add("answers a second", "", [good / _SECONDS])
    later = statuses.get("429", 0) + statuses.get("503", 0)
    bench.add("told to come again (429, 503), share", "", [later / max(1, sum(statuses.values()))])
    bench.add("anything else", "", [float(sum(wrong.values()))], Limit(0.0))
    if wrong:
        print(f"  {wrong}", flush=True)
    for kind, samples in met["seconds"].items():
        if samples:
            bench.add_latencies(_KIND_NAMES[kind], samples, p50=None, p99=None)
    bench.add("all 1000 jobs CACHED after", "s", [seconds])
    if early and late:
        bench.add("peak memory in the first third", "MB", [float(early)])
        bench.add("peak memory of all of it", "MB", [float(late)])


class _Page:
    """A kept-alive connection, opened again where the server closes it."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection

    def get(self, path: str) -> Any:
        """Return the JSON of an answer."""
        self.connection.request("GET", path)
        return self._answer(path)

    def post(self, path: str, form: Sequence[tuple[str, str]]) -> Any:
        """Return the JSON of the answer to a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self.connection.request("POST", path, urlencode(form), headers)
        return self._answer(path)

    def _answer(self, path: str) -> Any:
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{path} answered {answer.status}: {body[:200].decode(errors='replace')}")
        return json.loads(body)


_Ask = Callable[[_Page], int]


def _timed(ask: _Ask, page: _Page) -> float:
    begun = time.perf_counter()
    if not ask(page):
        raise OSError("the answer is empty")
    return time.perf_counter() - begun


@contextmanager
def _tensorboard(directory: Path, ask: _Ask) -> Iterator[_Page]:
    """Run TensorBoard with the Rust server over `directory`; yield a connection once two answers a second apart agree.

    It says nothing of its own when everything is loaded.
    """
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={directory}", "--load_fast=true"]
    with Program([*command, "--host=127.0.0.1", "--port=0"]) as program:
        _, match = program.wait_for(r"http://[^/ ]+:(\d+)/", seconds=60)
        page = _Page(http.client.HTTPConnection("127.0.0.1", int(re.sub(r"\D", "", match.group(1))), timeout=60))
        before, now = -1, 0
        while now == 0 or now != before:
            before = now
            time.sleep(1.0)
            try:
                now = ask(page)
            except OSError:  # a run that it does not know yet
                now = 0
        yield page
        page.connection.close()


SCENARIOS: dict[str, Callable[[Bench], None]] = {"rest": beside_tensorboard, "crowd": crowd}
