"""TensorBoard's data provider: our drop-in data server and the Rust data server on the same files in the same run."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import tensorboard_data_server  # type: ignore[import-untyped]
from tensorboard.data.proto import data_provider_pb2 as messages
from tensorboard.data.proto import data_provider_pb2_grpc as services

from benchmarks.generate import Shape, run_name, tag_name
from benchmarks.measure import Failed, Program
from benchmarks.report import Limit, ratios
from benchmarks.scenarios import TEN_MILLION, THOUSAND_RUNS, TWO_MILLION, Bench, alternate

_SAMPLES = 1_000  # of a series: what TensorBoard's pages ask for
_POLL_SECONDS = 0.002
_SETTLE_SECONDS = 3.0  # the indexer beside our server looks at the directory once more
_CALLS = 30
_OURS = [sys.executable, "-c", "from summarydb.dataserver import main; main()"]


def data_server_start(bench: Bench) -> None:
    """From the start of the data server until ReadScalars first answers all tags of a run to their last point.

    For summarydb it is a second start: the first one, which indexes, is given beside it. Both get the flags that
    TensorBoard gives. A page is that of TensorBoard with each of them behind it: one tag, all runs.
    """
    long = TWO_MILLION if bench.quick else TEN_MILLION
    cases = [(f"{long.total // 1_000_000} M points", long, Limit(0.3)), ("1000 runs", THOUSAND_RUNS, Limit(1.0))]
    for label, shape, limit in cases:
        directory, _ = bench.input(shape)
        cache = bench.directory / "cache"
        bench.add(
            f"{label}: first start, until a run is complete", "s", [_until_complete(_ours(cache), shape, directory)]
        )
        with _server(_ours(cache), directory) as first:  # whatever the first start left to do
            _wait_for(first, shape, every=True)
        mine, theirs = alternate(
            bench.runs,
            partial(_until_complete, _ours(cache), shape, directory),
            partial(_until_complete, _rust(), shape, directory),
        )
        bench.add(f"{label}: summarydb, until a run is complete", "s", mine)
        bench.add(f"{label}: Rust data server", "s", theirs)
        bench.add(f"{label}: summarydb / Rust data server", "x", ratios(mine, theirs), bench.full_size(limit))
        ports = [_until_port(_ours(cache), directory) for _ in range(bench.runs)]
        bench.add(f"{label}: summarydb, until the port file is written", "s", ports)
        mine, theirs = alternate(
            min(bench.runs, 3),
            partial(_until_page, _ours(cache), shape, directory),
            partial(_until_page, None, shape, directory),
        )
        bench.add(f"{label}: TensorBoard's page with summarydb", "s", mine)
        bench.add(f"{label}: TensorBoard's page with the Rust data server", "s", theirs)
        bench.add(f"{label}: page with summarydb / with the Rust data server", "x", ratios(mine, theirs))
        shutil.rmtree(cache)


def data_provider_calls(bench: Bench) -> None:
    """Calls of the data provider over gRPC on one connection, 1000 runs x 10 tags x 100 points, everything loaded.

    First: the answer that nobody has asked for since the server began. The others are asked for again, as a page does
    each half minute. The small answers of the Rust server wait for its network, not for its work.
    """
    directory, wanted = bench.input(THOUSAND_RUNS)
    cache = bench.directory / "cache"
    run, tag = run_name(5), tag_name(3)
    calls: list[tuple[str, Callable[[Any], int], int, float | None]] = [
        ("ListRuns", lambda stub: len(stub.ListRuns(messages.ListRunsRequest()).runs), wanted.runs, 3.0),
        ("ListPlugins", lambda stub: len(stub.ListPlugins(messages.ListPluginsRequest()).plugins), 1, 3.0),
        ("ListScalars of 10 k series", lambda stub: _series(stub.ListScalars(_list())), wanted.series, 40.0),
        ("ListScalars of a run", lambda stub: _series(stub.ListScalars(_list(runs=[run]))), 10, 3.0),
        ("ReadScalars of a series", lambda stub: _points(stub.ReadScalars(_read([run], [tag]))), 100, 3.0),
        (
            "ReadScalars of a tag of 1000 runs",
            lambda stub: _points(stub.ReadScalars(_read(None, [tag]))),
            100_000,
            25.0,
        ),
        (
            "ReadScalars of the last values of all",
            lambda stub: _points(stub.ReadScalars(_read(points=1))),
            10_000,
            None,
        ),
        ("ReadScalars of everything", lambda stub: _points(stub.ReadScalars(_read())), wanted.points, 150.0),
    ]
    with _server(_ours(cache), directory) as stub:
        _wait_for(stub, THOUSAND_RUNS, every=True)
    for what, call, expected, bound in calls:
        with _server(_ours(cache), directory) as mine, _server(_rust(), directory) as theirs:
            for stub in (mine, theirs):
                _wait_for(stub, THOUSAND_RUNS, every=stub is theirs)
            time.sleep(_SETTLE_SECONDS)
            first = _timed(call, mine, expected)
            _timed(call, theirs, expected)
            pairs = [(_timed(call, mine, expected), _timed(call, theirs, expected)) for _ in range(_CALLS)]
        own, peer = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        limit = None if bound is None else Limit(bound / 1000)
        bench.add(f"{what}: summarydb, first", "ms", [first])
        bench.add(f"{what}: summarydb", "ms", own, limit)
        bench.add(f"{what}: Rust data server", "ms", peer)
    shutil.rmtree(cache)


def data_server_memory(bench: Bench) -> None:
    """Peak memory of the data server and all its processes, from its start until it has answered every series.

    summarydb in a second start, its indexer counted. For the target the Rust data server keeps every point, as we
    do (`--samples-per-plugin=scalars=all`); with its default, 1000 of a series, it can show no others.
    """
    shape = TWO_MILLION if bench.quick else TEN_MILLION
    directory, _ = bench.input(shape)
    cache = bench.directory / "cache"
    with _server(_ours(cache), directory) as stub:
        _wait_for(stub, shape, every=True)
    mine, whole, sampled = alternate(
        min(bench.runs, 3),
        partial(_peak, _ours(cache), shape, directory),
        partial(_peak, _rust("scalars=all"), shape, directory),
        partial(_peak, _rust(), shape, directory),
    )
    bench.add("summarydb", "MB", mine)
    bench.add("Rust data server, every point", "MB", whole)
    bench.add("Rust data server, 1000 points of a series", "MB", sampled)
    bench.add("summarydb / Rust data server, every point", "x", ratios(mine, whole), bench.full_size(Limit(0.5)))
    shutil.rmtree(cache)


_Command = tuple[list[str], dict[str, str]]
"""Words and environment."""


def _ours(cache: Path) -> _Command:
    cache.mkdir(exist_ok=True)
    return _OURS, {"XDG_CACHE_HOME": str(cache)}


def _rust(samples: str = "") -> _Command:
    binary = tensorboard_data_server.server_binary()
    if binary is None:
        raise Failed("tensorboard-data-server has no binary for this platform")
    return [binary, f"--samples-per-plugin={samples}"], {}


@contextmanager
def _started(command: _Command, directory: Path, *, watch_memory: bool = False) -> Iterator[tuple[Program, int]]:
    """Run a data server as TensorBoard does; yields it, and its port as soon as that is written."""
    words, env = command
    port_file = directory.parent / f"port-{time.monotonic_ns()}"
    flags = [f"--logdir={directory}", "--reload=5", "--port=0", f"--port-file={port_file}"]
    with Program([*words, *flags, "--die-after-stdin"], env=env, watch_memory=watch_memory) as program:
        while not port_file.exists() or not port_file.read_text().endswith("\n"):
            if program.process.poll() is not None:
                raise program.failed("ended before it wrote its port")
            time.sleep(_POLL_SECONDS)
        try:
            yield program, int(port_file.read_text())
        finally:
            port_file.unlink()


@contextmanager
def _server(command: _Command, directory: Path) -> Iterator[Any]:
    """Run a data server; yields a client."""
    with _started(command, directory) as (_, port), _client(port) as stub:
        yield stub


@contextmanager
def _client(port: int) -> Iterator[Any]:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield services.TensorBoardDataProviderStub(channel)


def _until_complete(command: _Command, shape: Shape, directory: Path) -> float:
    with _started(command, directory) as (program, port), _client(port) as stub:
        _wait_for(stub, shape)
        return time.perf_counter() - program.started


def _until_port(command: _Command, directory: Path) -> float:
    with _started(command, directory) as (program, _):
        return time.perf_counter() - program.started


def _peak(command: _Command, shape: Shape, directory: Path) -> float:
    with _started(command, directory, watch_memory=True) as (program, port), _client(port) as stub:
        _wait_for(stub, shape, every=True)
        time.sleep(_SETTLE_SECONDS)
        peak = program.memory.stop() if program.memory else None
        if peak is None:
            raise program.failed("its memory cannot be seen here")
        return float(peak)


def _until_page(command: _Command | None, shape: Shape, directory: Path) -> float:
    """Time TensorBoard until its scalars page answers one tag of all runs to its last point. None: its own server."""
    words = [sys.executable, "-m", "tensorboard.main", f"--logdir={directory}", "--load_fast=true", "--port=0"]
    env: dict[str, str] = {}
    if command is not None:
        script = directory.parent / "data-server"
        script.write_text(f"#!/bin/sh\nexec {command[0][0]} -c '{command[0][2]}' \"$@\"\n")
        script.chmod(0o755)
        env = command[1] | {"TENSORBOARD_DATA_SERVER_BINARY": str(script)}
    names = [("runs", run_name(number)) for number in range(shape.runs)]
    body = urllib.parse.urlencode([("tag", tag_name(3)), *names]).encode()
    with Program([*words, "--host=127.0.0.1"], env=env) as program:
        _, match = program.wait_for(r"http://[^/ ]+:(\d+)/")
        url = f"http://127.0.0.1:{match.group(1)}/data/plugin/scalars/scalars_multirun"
        ends = b", %d, " % shape.points  # a point is [time, step, value]
        while time.perf_counter() - program.started < 600:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
                    if answer.read().count(ends) == shape.runs:
                        return time.perf_counter() - program.started
            except urllib.error.HTTPError as error:
                if error.code not in {400, 404}:  # not loaded yet
                    raise
            time.sleep(_POLL_SECONDS)
        raise program.failed("shows no complete tag")


def _wait_for(stub: Any, shape: Shape, *, every: bool = False) -> None:
    """Wait until one run, or every run, is complete."""
    deadline = time.perf_counter() + 600
    wanted = shape.runs if every else 1
    while time.perf_counter() < deadline:
        runs = stub.ReadScalars(_read(None if every else [run_name(0)], points=1 if every else _SAMPLES)).runs
        done = [run for run in runs if [shape.points] * shape.tags == [tag.data.step[-1] for tag in run.tags]]
        if len(done) == wanted:
            return
        time.sleep(_POLL_SECONDS)
    raise Failed("a data server does not answer all points")


def _list(*, runs: Sequence[str] | None = None) -> Any:
    request = messages.ListScalarsRequest()
    request.plugin_filter.plugin_name = "scalars"
    if runs is not None:
        request.run_tag_filter.runs.names.extend(runs)
    return request


def _read(runs: Sequence[str] | None = None, tags: Sequence[str] | None = None, *, points: int = _SAMPLES) -> Any:
    request = messages.ReadScalarsRequest()
    request.plugin_filter.plugin_name = "scalars"
    if runs is not None:
        request.run_tag_filter.runs.names.extend(runs)
    if tags is not None:
        request.run_tag_filter.tags.names.extend(tags)
    request.downsample.num_points = points
    return request


def _series(answer: Any) -> int:
    return sum(len(run.tags) for run in answer.runs)


def _points(answer: Any) -> int:
    return sum(len(tag.data.step) for run in answer.runs for tag in run.tags)


def _timed(call: Callable[[Any], int], stub: Any, expected: int) -> float:
    """Return the seconds of a call, its answer taken apart by the client; Failed where it is not whole."""
    begun = time.perf_counter()
    found = call(stub)
    seconds = time.perf_counter() - begun
    if found != expected:
        raise Failed(f"an answer holds {found}, not {expected}")
    return seconds


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "data-server-start": data_server_start,
    "data-provider-calls": data_provider_calls,
    "data-server-memory": data_server_memory,
}
