"""Series that are not what they seem: the first value decides, what does not fit is dropped, as by their server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2

from tests.dataprovider.conftest import loaded
from tests.support.records import frame, tb_version
from tests.support.viewer import ALL_SAMPLES, EVERYTHING, KINDS, ask, plain, plugins, rustboard, tensorboards_own

Value = summary_pb2.Summary.Value
Steps = list[tuple[int, Any]]
"""step, value: what a run holds, in order; a value may be a function of an event, or be a whole event."""


def metadata(plugin: str, content: bytes = b"", data_class: int = 0, **more: str) -> summary_pb2.SummaryMetadata:
    """Return the metadata of a value."""
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data, data_class=data_class, **more)


def strings(shape: list[int], *items: bytes) -> tensor_pb2.TensorProto:
    """Return a tensor of strings."""
    made = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=items)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


def floats(shape: list[int], *items: float, dtype: int = types_pb2.DT_FLOAT) -> tensor_pb2.TensorProto:
    """Return a tensor of 32-bit floats, or of another type that has float_val."""
    made = strings(shape)
    made.dtype = dtype
    made.float_val.extend(items)
    return made


def simple(number: float, **more: Any) -> Any:
    """Return a number of the old kind."""
    return Value(tag="t", simple_value=number, **more)


def tensor(made: tensor_pb2.TensorProto, plugin: str | None = None, **more: Any) -> Any:
    """Return a tensor, with metadata where it names a plugin."""
    return Value(tag="t", tensor=made, **({} if plugin is None else {"metadata": metadata(plugin, **more)}))


def histogram(limits: list[float], counts: list[float]) -> Any:
    """Return a histogram of the old kind."""
    histo = summary_pb2.HistogramProto(min=-5, max=5, num=3, sum=1, sum_squares=2, bucket_limit=limits, bucket=counts)
    return Value(tag="t", histo=histo)


def image(width: int, height: int, data: bytes) -> Any:
    """Return an image of the old kind; the bytes are none of any format."""
    return Value(tag="t", image=summary_pb2.Summary.Image(width=width, height=height, encoded_image_string=data))


def audio(data: bytes, content_type: str = "") -> Any:
    """Return a sound of the old kind."""
    return Value(tag="t", audio=summary_pb2.Summary.Audio(encoded_audio_string=data, content_type=content_type))


SCALAR, TENSOR, BLOBS = 1, 2, 3
CASES: dict[str, Steps] = {
    "number then text": [(1, simple(1.5)), (2, tensor(strings([], b"x"), "text")), (3, simple(2.5))],
    "number then bare strings": [(1, simple(1.5)), (2, tensor(strings([], b"x"))), (3, simple(2.5))],
    "bare strings supersede": [(1, simple(1.5)), (2, simple(2.5)), (1, tensor(strings([], b"x")))],
    "another plugin supersedes": [(1, simple(1.5)), (5, simple(2.5)), (2, tensor(strings([], b"x"), "text"))],
    "strings last": [(1, simple(1.5)), (2, tensor(strings([], b"x")))],
    "text then number": [(1, tensor(strings([], b"x"), "text")), (2, simple(2.0)), (3, tensor(strings([], b"y")))],
    "text then not a number": [(1, tensor(strings([], b"x"), "text")), (2, simple(float("nan")))],
    "text of no strings": [(1, tensor(strings([0]), "text")), (2, tensor(strings([1], b"y")))],
    "table of texts": [(1, tensor(strings([2, 2], b"a", b"b", b"c", b"\xff"), "text"))],
    "number of another plugin": [(1, simple(1.0, metadata=metadata("text", b"ignored"))), (2, simple(2.0))],
    "number named": [(1, simple(1.0, metadata=metadata("", display_name="shown", summary_description="why")))],
    "scalars of rank 1": [(1, tensor(floats([2], 1, 2), "scalars")), (2, tensor(floats([], 3), "scalars"))],
    "scalars of rank 1 alone": [(1, tensor(floats([2], 1, 2), "scalars"))],
    "scalars with content": [(1, tensor(floats([], 1), "scalars", content=b"kept", display_name="d"))],
    "class wins over plugin": [(1, tensor(floats([2], 1, 2), "scalars", data_class=TENSOR))],
    "class of a plugin of their own": [(1, tensor(floats([2], 1, 2), "mine", data_class=TENSOR))],
    "plugin of their own without class": [(1, tensor(floats([2], 1, 2), "mine"))],
    "bare tensor": [(1, tensor(floats([2], 1, 2)))],
    "blobs of a plugin of their own": [(1, tensor(strings([2], b"a", b""), "mine", data_class=BLOBS))],
    "blobs of rank 2": [(1, tensor(strings([1, 2], b"a", b"b"), "mine", data_class=BLOBS))],
    "blobs that are numbers": [(1, tensor(floats([2], 1, 2), "mine", data_class=BLOBS))],
    "no blobs": [(1, tensor(strings([0]), "mine", data_class=BLOBS))],
    "new images": [(1, tensor(strings([4], b"2", b"3", b"one", b"two"), "images"))],
    "new images of rank 2": [(1, tensor(strings([1, 3], b"2", b"3", b"one"), "images"))],
    "images of different lengths": [
        (1, tensor(strings([5], b"2", b"3", b"1", b"2", b"3"), "images")),
        (2, tensor(strings([3], b"2", b"3", b"4"), "images")),
        (1, tensor(strings([4], b"2", b"3", b"5", b"6"), "images")),
    ],
    "images without an image": [(1, tensor(strings([2], b"2", b"3"), "images"))],
    "image then number": [(1, image(4, 3, b"bytes")), (2, simple(1.0)), (3, image(5, 6, b""))],
    "image with metadata": [(1, Value(tag="t", image=image(4, 3, b"b").image, metadata=metadata("images", b"c")))],
    "negative size": [(1, image(-1, 0, b"bytes"))],
    "audio then strings": [(1, audio(b"wave", "audio/wav")), (2, tensor(strings([1], b"other")))],
    "new audio": [(1, tensor(strings([2, 2], b"one", b"label", b"two", b"label"), "audio"))],
    "new audio of rank 1": [(1, tensor(strings([2], b"one", b"two"), "audio"))],
    "new audio of three columns": [(1, tensor(strings([1, 3], b"one", b"two", b"three"), "audio"))],
    "histogram of unequal lengths": [(1, histogram([1, 2], [1])), (2, histogram([1, 2], [1, 2]))],
    "histogram of nothing": [(1, histogram([], []))],
    "histogram of one bucket": [(1, histogram([1], [3]))],
    "histogram then tensor": [(1, histogram([1, 2], [1, 2])), (2, tensor(floats([1], 1)))],
    "histogram then number": [(1, histogram([1, 2], [1, 2])), (2, simple(1.0))],
    "new histograms of floats": [(1, tensor(floats([1, 3], 1, 2, 3), "histograms"))],
    "curve of another shape": [(1, tensor(floats([2], 1, 2), "pr_curves"))],
    "mesh of rank 1": [(1, tensor(floats([2], 1, 2), "mesh"))],
    "layout of rank 1": [(1, tensor(strings([1], b"no layout"), "custom_scalars"))],
    "layouts": [(1, tensor(strings([2], b"", b"x"), "custom_scalars"))],
    "hyperparameters alone": [(1, Value(tag="t", metadata=metadata("hparams", b"\x12\x00")))],
    "hyperparameters and a tensor": [(1, tensor(floats([0]), "hparams", content=b"\x12\x00"))],
    "hyperparameters and a number": [(1, tensor(floats([], 5), "hparams", content=b"\x12\x00"))],
    "metadata alone": [(1, Value(tag="t", metadata=metadata("text")))],
    "metadata of scalars alone": [(1, Value(tag="t", metadata=metadata("scalars")))],
    "metadata in between": [(1, tensor(strings([], b"x"), "text")), (2, Value(tag="t", metadata=metadata("text")))],
    "metadata that change": [
        (1, tensor(strings([], b"x"), "text")),
        (2, tensor(strings([], b"y"), "text", content=b"other", display_name="new")),
    ],
    "one element for all": [(1, tensor(floats([3], 7), "mine", data_class=TENSOR))],
    "half": [(1, tensor(tensor_pb2.TensorProto(dtype=types_pb2.DT_HALF, half_val=[15360]), "m", data_class=TENSOR))],
    "keras model": [(1, tensor(strings([], b'{"config": {}}'), "graph_keras_model"))],
    "keras model of rank 1": [(1, tensor(strings([1], b'{"config": {}}'), "graph_keras_model"))],
    "run metadata": [(1, tensor(strings([], b"\x0a\x00"), "graph_run_metadata"))],
    "graph": [(1, event_pb2.Event(graph_def=b"")), (2, event_pb2.Event(graph_def=b"no graph"))],
    "graphs at one step": [(1, event_pb2.Event(graph_def=b"first")), (1, event_pb2.Event(graph_def=b"second"))],
    "back and forth": [(s, simple(s)) for s in (5, 6, 7, 6, 9, 2, 3, 3, 8, -1, -(2**63), 2**63 - 1, 4)],
    "started again": [
        *((s, simple(s)) for s in range(5)),
        (2, event_pb2.Event(session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))),
        (4, simple(40)),
        (5, simple(50)),
    ],
    "started again and nothing more": [
        *((s, simple(s)) for s in range(5)),
        (2, event_pb2.Event(session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))),
    ],
}
DIFFERENT = {
    # Values of another plugin are a series of their own in the database, and supersede nothing of the first one.
    "another plugin supersedes",
    # The size of an image is none that an image can have: it is not stored.
    "negative size",
}


def write(path: Path, steps: Steps) -> None:
    """Write an event file."""
    records = [tb_version(100.0)]
    for i, (step, value) in enumerate(steps):
        event = value if isinstance(value, event_pb2.Event) else event_pb2.Event(summary={"value": [value]})
        event.step, event.wall_time = step, 101.5 + i
        records.append(frame(event.SerializeToString()))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(records))


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run for each case."""
    root = tmp_path_factory.mktemp("odd")
    for name, steps in CASES.items():
        write(root / name / "events.out.tfevents.1", steps)
    return root


@pytest.fixture(scope="module")
def theirs(logdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What TensorBoard's own data server answers about the directory, by run."""
    binary = rustboard()
    if binary is None:
        pytest.skip("the wheel tensorboard-data-server has no program for this machine")
    with tensorboards_own(binary, logdir, tmp_path_factory.mktemp("own"), f"--samples-per-plugin={ALL_SAMPLES}") as own:
        yield everything(own)


def everything(stub: Any) -> dict[str, Any]:
    """Return by run all that a server has of it."""
    found: dict[str, Any] = {name: [] for name in CASES}
    for plugin in sorted(plugins(stub)):
        for kind in KINDS:
            for (run, tag), listed in ask(stub, f"List{kind}", plugin).items():
                found[run].append(("listed", plugin, kind, tag, str(listed)))
            for (run, tag), data in ask(stub, f"Read{kind}", plugin, points=EVERYTHING).items():
                found[run].append(("read", plugin, kind, tag, plain(stub, kind, data)))
    return found


def test_every_case_is_answered_as_their_server_does(url: str, logdir: Path, theirs: dict[str, Any]) -> None:
    """What is listed and read of a run is the same, metadata, points and blobs."""
    with loaded(url, logdir) as stub:
        ours = everything(stub)
    wrong = {name for name in CASES if theirs[name] != ours[name]}
    assert wrong == DIFFERENT, {name: (theirs[name], ours[name]) for name in wrong ^ DIFFERENT}
