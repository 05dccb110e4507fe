"""Records of MindSpore summary, lineage and explain files → values.

Source: MindInsight 2.3.1's messages and how its reader takes them (docs/formats/mindspore.md).
"""

from __future__ import annotations

from typing import Any, Final, cast

from google.protobuf.message import DecodeError

from indexer.decode.event import BadRecord, Event, Value
from indexer.types import DataClass, Series
from indexer.wire import mindspore_pb2 as wire

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
}

_LENGTHS: Final = {"image": 3, "graph": 1}  # an image: width, height, the image


def read(payload: bytes | memoryview, file_name: str = "") -> Event:
    """Return the event in `payload`; an embedded graph is called `file_name`. Raises BadRecord."""
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
    elif what == "graph_def":
        values.append(Value(file_name, "graph", what, None, event.graph_def))
    return Event(event.wall_time, event.step, values, False)


def read_lineage(payload: bytes | memoryview, _file_name: str = "") -> Event:
    """Return the clock and step of the lineage event in `payload`. Raises BadRecord."""
    try:
        event = wire.LineageEvent.FromString(cast("bytes", payload))
    except DecodeError:
        raise BadRecord("payload is no MindSpore lineage event") from None
    if not event.IsInitialized():
        raise BadRecord(_missing(event))
    return Event(event.wall_time, event.step, [], False)


def plain(name: str, kind: str = "scalar_value") -> Value:
    """Return a value like those the kernel reads, to name its series by."""
    return Value(name, _PLUGINS[kind], kind, None)


def stands_for(value: Value) -> str:
    """Return the plugin of `value`: its field always says it."""
    return value.plugin


def describe(job: int, plugin: str, value: Value) -> Series:
    """Return the series that begins with `value`."""
    return Series(job, plugin, value.name, _CLASSES[plugin])


def number(_series: Series, value: Value) -> float | None:
    """Return `value` as a number; None where it is none."""
    return cast("float", value.message.scalar_value) if value.kind == "scalar_value" else None


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
