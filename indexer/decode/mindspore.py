"""Records of MindSpore summary, lineage and explain files → values.

Source: MindInsight 2.3.1's messages and how its reader takes them (docs/formats/mindspore.md).
"""

from __future__ import annotations

from typing import Any, Final, cast

from google.protobuf.message import DecodeError

from indexer.decode.event import UNKNOWN_EVENT, UNKNOWN_FIELDS, BadRecord, Event, Value, leftover, long_graph
from indexer.types import DataClass, Series
from indexer.wire import mindspore_pb2 as wire

LINEAGE: Final = "lineage"
"""Plugin of the series that the records of lineage files are, a series a part; and the field they are said to be in."""

_PLUGINS: Final = {
    "scalar_value": "scalar",
    "image": "image",
    "tensor": "tensor",
    "histogram": "histogram",
    "loss_landscape": "loss_landscape",
}

_CLASSES: Final = {
    "scalar": DataClass.SCALAR,
    "image": DataClass.BLOB_SEQUENCE,
    "tensor": DataClass.TENSOR,
    "histogram": DataClass.TENSOR,
    "loss_landscape": DataClass.TENSOR,
    "graph": DataClass.BLOB_SEQUENCE,
    LINEAGE: DataClass.UNKNOWN,
}

_LENGTHS: Final = {"image": 3, "graph": 1}  # an image: width, height, the image


def read(payload: bytes | memoryview, file_name: str = "") -> Event:
    """Return the event in `payload`; an embedded graph is called `file_name`. Raises BadRecord."""
    if (long := long_graph(payload)) is not None:
        return Event(long.wall_time, long.step, [Value(file_name, "graph", "graph_def", None, long.graph)], False)
    try:
        event = wire.Event.FromString(cast("bytes", payload))
    except DecodeError:
        raise BadRecord("payload is no MindSpore event") from None
    if not event.IsInitialized():
        raise BadRecord(_missing(event))
    what = event.WhichOneof("what")
    values: list[Value] = []
    if what == "summary":
        for message in event.summary.value:
            name = _name(message.tag)
            kind = message.WhichOneof("value")
            if kind:  # a value without content says nothing
                values.append(Value(name, _PLUGINS[kind], kind, message))
            elif rest := leftover(message):
                values.append(Value(name, UNKNOWN_FIELDS, UNKNOWN_FIELDS, message, rest))
    elif what == "graph_def":
        values.append(Value(file_name, "graph", what, None, event.graph_def))
    if rest := leftover(event):
        values.append(Value(UNKNOWN_EVENT, UNKNOWN_FIELDS, UNKNOWN_FIELDS, None, rest))
    return Event(event.wall_time, event.step, values, False, what == "explain")


def read_model(payload: bytes, file_name: str, wall_time: float) -> Event:
    """Return the graph file in `payload` as an event: it has neither records nor a clock of its own."""
    return Event(wall_time, 0, [Value(file_name, "graph", "model", None, payload)], False)


def read_lineage(payload: bytes | memoryview, _file_name: str = "") -> Event:
    """Return the lineage event in `payload`: one value, called as its part of the lineage. Raises BadRecord."""
    try:
        event = wire.LineageEvent.FromString(cast("bytes", payload))
    except DecodeError:
        raise BadRecord("payload is no MindSpore lineage event") from None
    if not event.IsInitialized():
        raise BadRecord(_missing(event))
    part = event.WhichOneof("what")
    if part is None or part == "version":
        return Event(event.wall_time, event.step, [], False)
    return Event(event.wall_time, event.step, [Value(part, LINEAGE, LINEAGE, event, bytes(payload))], False)


def plain(name: str, kind: str = "scalar_value") -> Value:
    """Return a value like those the kernel reads, to name its series by."""
    return Value(name, _PLUGINS[kind], kind, None)


def stands_for(value: Value) -> str:
    """Return the plugin of `value`: its field always says it."""
    return value.plugin


def describe(job: int, plugin: str, value: Value) -> Series:
    """Return the series that begins with `value`."""
    return Series(job, plugin, value.name, _CLASSES.get(plugin, DataClass.UNKNOWN))


def number(_series: Series, value: Value) -> float | None:
    """Return `value` as a number; None where it is none."""
    return cast("float", value.message.scalar_value) if value.kind == "scalar_value" else None


def differs(_series: Series, _value: Value) -> bool:
    """Tell whether `value` has metadata of its own: there are none in this format."""
    return False


def length(_series: Series, value: Value) -> int:
    """Return how many blobs `value` is in a series of blob sequences; 0 where it is none."""
    return _LENGTHS.get(value.plugin, 0)


def _name(tag: bytes) -> str:
    try:
        return tag.decode()
    except UnicodeDecodeError:
        raise BadRecord(f"tag {tag[:80]!r} is not UTF-8") from None


def _missing(event: Any) -> str:  # the published types leave the method out
    return f"event lacks required fields: {', '.join(event.FindInitializationErrors()[:5])}"
