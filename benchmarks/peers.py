"""TensorBoard's loaders as subprocesses: the Rust data server, the Python loader, tbparse, and TensorBoard whole."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import grpc
import tensorboard_data_server  # type: ignore[import-untyped]
from tensorboard.data.proto import data_provider_pb2, data_provider_pb2_grpc

from benchmarks.generate import Truth
from benchmarks.measure import Failed, Outcome, Program

EVERYTHING = 1_000_000_000  # samples a tag: more than any input has
_POLL_SECONDS = 0.02
_ANSWER_POINTS = 5_000_000  # in one answer, which may not pass 2 GiB


def rust(directory: Path, truth: Truth, *, watch_memory: bool = False) -> Outcome:
    """Time TensorBoard's Rust data server until every scalar below `directory` is in its memory, checksums on.

    It says itself when its load is over; asking over gRPC meanwhile would take time from it. What it holds is then
    counted over gRPC, outside the time.
    """
    binary = tensorboard_data_server.server_binary()
    if binary is None:
        raise Failed("tensorboard-data-server has no binary for this platform")
    options = ["--reload=once", "--checksum", "--samples-per-plugin=scalars=all", "--host=127.0.0.1", "--port=0"]
    port_file = directory.parent / "port"
    port_file.unlink(missing_ok=True)
    command = [binary, f"--logdir={directory}", *options, f"--port-file={port_file}", "--verbose"]
    with Program(command, watch_memory=watch_memory) as program:
        seconds, _ = program.wait_for("Finished load cycle")
        pss = program.memory.stop() if program.memory else None
        found = _count(int(port_file.read_text()), truth)
        if found != (truth.series, truth.points):
            raise program.failed(f"holds {found[1]} points in {found[0]} series, not {truth.points} in {truth.series}")
        return Outcome(seconds, pss, 0, "")


def python_loader(name: str, directory: Path, truth: Truth, *, watch_memory: bool = False) -> Outcome:
    """Time a loader of benchmarks/loaders.py, from the start of its process to its end."""
    with Program([sys.executable, "-m", "benchmarks.loaders", name, directory], watch_memory=watch_memory) as program:
        outcome = program.finish()
        if f"points={truth.points}" not in outcome.output:
            raise program.failed(f"did not find {truth.points} points")
        return outcome


def tensorboard_shows(directory: Path, tag: str, runs: list[str], points: int) -> float:
    """Time TensorBoard with the Rust server from start until its page's query answers all points of `tag` in `runs`.

    Returns seconds. The server's own default stays: no checksums. Its page keeps 1000 points a tag, here all.
    """
    options = ["--load_fast=true", "--host=127.0.0.1", "--port=0", f"--samples_per_plugin=scalars={EVERYTHING}"]
    with Program([sys.executable, "-m", "tensorboard.main", f"--logdir={directory}", *options]) as program:
        _, match = program.wait_for(r"http://[^/ ]+:(\d+)/")
        base = f"http://127.0.0.1:{match.group(1)}/data/plugin/scalars/"
        # The page asks for the run names before it asks for their curves; one query answers them all.
        body = urllib.parse.urlencode([("tag", tag), *(("runs", run) for run in runs)]).encode()
        found = 0
        while time.perf_counter() - program.started < 600:
            try:
                with urllib.request.urlopen(urllib.request.Request(base + "scalars_multirun", body)) as answer:
                    found = sum(map(len, json.load(answer).values()))
            except urllib.error.HTTPError as error:
                if error.code not in {400, 404}:  # not loaded yet
                    raise
            if found == points:
                return time.perf_counter() - program.started
            time.sleep(_POLL_SECONDS)
        raise program.failed(f"shows {found} points of {tag}, not {points}")


def _count(port: int, truth: Truth) -> tuple[int, int]:
    """Return how many series and points the data server on `port` holds."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        provider = data_provider_pb2_grpc.TensorBoardDataProviderStub(channel)
        listed = data_provider_pb2.ListScalarsRequest()
        listed.plugin_filter.plugin_name = "scalars"
        names = sorted({tag.tag_name for run in provider.ListScalars(listed).runs for tag in run.tags})
        length = max(1, len(names) * _ANSWER_POINTS // truth.points)  # names a request
        series = points = 0
        for start in range(0, len(names), length):
            request = data_provider_pb2.ReadScalarsRequest()
            request.plugin_filter.plugin_name = "scalars"
            request.run_tag_filter.tags.names.extend(names[start : start + length])
            request.downsample.num_points = EVERYTHING
            for run in provider.ReadScalars(request).runs:
                series += len(run.tags)
                points += sum(len(tag.data.step) for tag in run.tags)
        return series, points
