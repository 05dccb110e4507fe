"""TensorBoard's client of a data provider, ours and its own server to ask, and what they answer as plain values."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tensorboard.data.proto import data_provider_pb2 as messages
from tensorboard.data.proto import data_provider_pb2_grpc as services
from tensorboard.util import tensor_util

from indexer.db.reader import Reader
from tests.support.program import eventually
from webapi.dataprovider import server
from webapi.dataprovider.service import Service

KINDS = ("Scalars", "Tensors", "BlobSequences")
ALL_SAMPLES = ",".join(
    f"{plugin}=all"
    for plugin in ("scalars", "images", "audio", "histograms", "text", "pr_curves", "mesh", "graphs", "hparams")
)
EVERYTHING = 100_000
SECONDS = 60.0


@contextmanager
def asking(port: int) -> Iterator[Any]:
    """Give TensorBoard's stub of a server on this machine."""
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 256 * 2**20)]
    ) as channel:
        yield services.TensorBoardDataProviderStub(channel)


@contextmanager
def provider(url: str, *, seconds: float = SECONDS, empty: bool = False) -> Iterator[Any]:
    """Serve our data provider over a database; gives a stub to ask it."""
    reader = Reader(url)
    service = Service(reader, location="here", seconds=seconds, empty=empty)
    running = server.create(lambda: service, threads=4)
    port = server.bind(running, "127.0.0.1", 0)
    running.start()
    try:
        with asking(port) as stub:
            yield stub
    finally:
        running.stop(0).wait()
        reader.close()


def rustboard() -> str | None:
    """Return the path of TensorBoard's own data server; None where its wheel has none for this machine."""
    if importlib.util.find_spec("tensorboard_data_server") is None:
        return None
    found: str | None = importlib.import_module("tensorboard_data_server").server_binary()
    return found


@contextmanager
def tensorboards_own(binary: str, logdir: Path, directory: Path, *flags: str) -> Iterator[Any]:
    """Serve a directory with TensorBoard's own data server, every point kept; gives a stub, once all is loaded."""
    port_file, log = directory / "port", directory / "log"
    given = (f"--logdir={logdir}", "--port=0", f"--port-file={port_file}", "--reload=once", "-v", "-v", *flags)
    with log.open("wb") as to_log:
        process = subprocess.Popen([binary, *given], stdin=subprocess.DEVNULL, stderr=to_log)
    try:
        eventually(lambda: "Finished load cycle" in log.read_text(errors="replace"))
        with asking(int(port_file.read_text())) as stub:
            yield stub
    finally:
        process.kill()
        process.wait()


# Requests -------------------------------------------------------------------------------------------------------------
def request(
    call: str,
    plugin: str = "scalars",
    *,
    runs: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    points: int | None = None,
) -> Any:
    """Return a List or Read request. runs, tags: None is no filter at all; points: None is no downsampling at all."""
    made = getattr(messages, f"{call}Request")()
    made.plugin_filter.plugin_name = plugin
    for wanted, names in ((made.run_tag_filter.runs, runs), (made.run_tag_filter.tags, tags)):
        if names is not None:
            wanted.SetInParent()
            wanted.names.extend(names)
    if points is not None:
        made.downsample.SetInParent()
        made.downsample.num_points = points
    return made


def ask(stub: Any, call: str, *arguments: Any, **more: Any) -> dict[tuple[str, str], Any]:
    """Return a List or Read answer: by run and tag its metadata or data, in the order of the answer."""
    answer = getattr(stub, call)(request(call, *arguments, **more), timeout=SECONDS)
    found = {}
    for run in answer.runs:
        assert run.tags, f"run {run.run_name} without tags"
        for tag in run.tags:
            assert (run.run_name, tag.tag_name) not in found
            found[run.run_name, tag.tag_name] = tag.metadata if call.startswith("List") else tag.data
    return found


def names(stub: Any) -> list[str]:
    """Return all runs in the order of the answer."""
    return [run.name for run in stub.ListRuns(messages.ListRunsRequest(), timeout=SECONDS).runs]


def plugins(stub: Any) -> set[str]:
    """Return all plugins."""
    return {found.name for found in stub.ListPlugins(messages.ListPluginsRequest(), timeout=SECONDS).plugins}


def blob(stub: Any, key: str) -> bytes:
    """Return the bytes of a blob."""
    return b"".join(part.data for part in stub.ReadBlob(messages.ReadBlobRequest(blob_key=key), timeout=SECONDS))


def status(stub: Any, call: str, message: Any) -> grpc.StatusCode:
    """Return the status that a call ends with."""
    try:
        answer = getattr(stub, call)(message, timeout=SECONDS)
        if call == "ReadBlob":
            list(answer)
    except grpc.RpcError as e:
        return e.code()
    return grpc.StatusCode.OK


# Answers as values ----------------------------------------------------------------------------------------------------
def plain(stub: Any, kind: str, data: Any) -> list[tuple[Any, ...]]:
    """Return the points of a Read answer as values that compare: NaN equals NaN, tensors by type, shape, elements."""
    columns: list[Any] = [list(data.step), list(map(repr, data.wall_time))]
    if kind == "Scalars":
        columns.append(list(map(repr, data.value)))
    elif kind == "Tensors":
        columns.append([tensor(value) for value in data.value])
    else:
        columns.append([[blob(stub, ref.blob_key) for ref in sequence.blob_refs] for sequence in data.values])
    assert 1 == len(set(map(len, columns)))
    return list(zip(*columns, strict=True))


def tensor(message: Any) -> tuple[str, tuple[int, ...], object]:
    """Return type, shape and elements of a TensorProto."""
    array: np.ndarray[Any, Any] = tensor_util.make_ndarray(message)
    return str(array.dtype), array.shape, array.tolist() if array.dtype == object else array.tobytes()
