"""Records of TensorBoard event files → values, with every way a number was ever written.

Sources: tensorflow's event.proto and summary.proto; the rules for plugins and data classes are those of TensorBoard's
own data server (docs/formats/tensorboard.md).
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Final, cast

from google.protobuf.message import DecodeError

from indexer.decode.event import UNKNOWN_EVENT, UNKNOWN_FIELDS, BadRecord, Event, Value, leftover, long_graph
from indexer.types import DataClass, Series
from indexer.wire import tensorboard_pb2 as wire

RUN_GRAPH = "__run_graph__"
"""Name of the series that holds a run's graphs."""

SCALARS = "scalars"
"""The plugin whose tensors are numbers."""

META_GRAPH = "__meta_graph__"
"""Name of the series that holds a run's meta graphs, which TensorBoard's own viewers do not look at."""

_GRAPHS = "graphs"
_META_GRAPHS = "meta_graph"
_RUN_METADATA = "graph_tagged_run_metadata"
_RECORDS = frozenset({"session_log", "log_message"})

# What a value without a data class of its own is, by its field: plugin, class, plugin content (for images and audio the
# plugin's own message with converted_to_tensor set).
_STANDS_FOR: Final = {
    "simple_value": (SCALARS, DataClass.SCALAR, b""),
    "image": ("images", DataClass.BLOB_SEQUENCE, b"\x10\x01"),
    "audio": ("audio", DataClass.BLOB_SEQUENCE, b"\x18\x01"),
    "histo": ("histograms", DataClass.TENSOR, b""),
}

_CLASSES: Final = {
    wire.DATA_CLASS_SCALAR: DataClass.SCALAR,
    wire.DATA_CLASS_TENSOR: DataClass.TENSOR,
    wire.DATA_CLASS_BLOB_SEQUENCE: DataClass.BLOB_SEQUENCE,
}

_PLUGIN_CLASSES: Final = (
    {SCALARS: DataClass.SCALAR}
    | dict.fromkeys(("histograms", "text", "hparams", "pr_curves", "mesh", "custom_scalars"), DataClass.TENSOR)
    | dict.fromkeys(
        (
            "images",
            "audio",
            "graph_run_metadata",
            "graph_run_metadata_graph",
            "graph_keras_model",
            _GRAPHS,
            _RUN_METADATA,
        ),
        DataClass.BLOB_SEQUENCE,
    )
)

_ONE_BLOB: Final = {"graph_run_metadata", "graph_run_metadata_graph", "graph_keras_model"}

# Where a tensor of one element keeps it: the typed field, and the element's layout in `tensor_content`.
_ELEMENTS: Final = {
    wire.DT_FLOAT: ("float_val", struct.Struct("<f")),
    wire.DT_DOUBLE: ("double_val", struct.Struct("<d")),
    wire.DT_HALF: ("half_val", struct.Struct("<e")),
    wire.DT_BFLOAT16: ("half_val", struct.Struct("<H")),
    wire.DT_INT8: ("int_val", struct.Struct("<b")),
    wire.DT_INT16: ("int_val", struct.Struct("<h")),
    wire.DT_INT32: ("int_val", struct.Struct("<i")),
    wire.DT_INT64: ("int64_val", struct.Struct("<q")),
    wire.DT_UINT8: ("int_val", struct.Struct("<B")),
    wire.DT_UINT16: ("int_val", struct.Struct("<H")),
    wire.DT_UINT32: ("uint32_val", struct.Struct("<I")),
    wire.DT_UINT64: ("uint64_val", struct.Struct("<Q")),
}


def read(payload: bytes | memoryview, _file_name: str = "") -> Event:
    """Return the event in `payload`. Raises BadRecord."""
    if (long := long_graph(payload)) is not None:
        return Event(long.wall_time, long.step, [Value(RUN_GRAPH, _GRAPHS, "graph_def", None, long.graph)], False)
    try:
        event = wire.Event.FromString(cast("bytes", payload))
    except DecodeError:
        raise BadRecord("payload is no TensorBoard event") from None
    what = event.WhichOneof("what")
    if what == "summary":
        values = [_value(value) for value in event.summary.value]
    elif what == "graph_def":
        values = [Value(RUN_GRAPH, _GRAPHS, "graph_def", None, event.graph_def)]
    elif what == "meta_graph_def":
        values = [Value(META_GRAPH, _META_GRAPHS, "meta_graph_def", None, event.meta_graph_def)]
    elif what == "tagged_run_metadata":
        tagged = event.tagged_run_metadata
        values = [Value(_name(tagged.tag), _RUN_METADATA, "tagged_run_metadata", None, tagged.run_metadata)]
    elif what in _RECORDS:
        values = [Value(f"__{what}__", what, what, None, getattr(event, what).SerializeToString())]
    else:
        values = []
    if rest := leftover(event):
        values.append(Value(UNKNOWN_EVENT, UNKNOWN_FIELDS, UNKNOWN_FIELDS, None, rest))
    started = what == "session_log" and event.session_log.status == wire.SessionLog.START
    return Event(event.wall_time, event.step, values, started)


def version(payload: bytes | memoryview) -> str:
    """Return the version that `payload` announces; empty where it is no version record of either format."""
    try:
        return wire.Event.FromString(cast("bytes", payload)).file_version
    except DecodeError:
        return ""


def plain(name: str, kind: str, metadata: bytes | None) -> Value:
    """Return a value like those the kernel reads, with its encoded metadata, to name its series by."""
    message = _with_metadata(metadata)
    return Value(name, "" if metadata is None else message.metadata.plugin_data.plugin_name, kind, message)


@functools.lru_cache(maxsize=64)
def _with_metadata(metadata: bytes | None) -> wire.Summary.Value:
    message = wire.Summary.Value()
    if metadata is not None:
        message.metadata.MergeFromString(metadata)
    return message


def stands_for(value: Value) -> str:
    """Return the plugin of a value that names none and whose tag has none; empty where nothing tells."""
    return _STANDS_FOR[value.kind][0] if value.kind in _STANDS_FOR else ""


def describe(job: int, plugin: str, value: Value) -> Series:
    """Return the series that begins with `value`."""
    if value.message is None:
        return Series(job, plugin, value.name, _PLUGIN_CLASSES.get(plugin, DataClass.UNKNOWN), content=b"")
    known = _STANDS_FOR.get(value.kind)
    if not value.message.HasField("metadata"):
        if known is None:
            return Series(job, plugin, value.name, DataClass.UNKNOWN)
        return Series(job, plugin, value.name, known[1], content=known[2])
    metadata: wire.SummaryMetadata = value.message.metadata
    content = metadata.plugin_data.content
    data_class = _CLASSES.get(metadata.data_class)
    if data_class is None and known is not None:
        _, data_class, content = known
    if data_class is None:
        data_class = _PLUGIN_CLASSES.get(metadata.plugin_data.plugin_name, DataClass.UNKNOWN)
    return Series(
        job,
        plugin,
        value.name,
        data_class,
        metadata=metadata.SerializeToString(),
        content=content,
        display_name=metadata.display_name,
        description=metadata.summary_description,
    )


def holds_numbers(series: Series) -> bool:
    """Tell whether tensors of one element are numbers in `series`."""
    return series.plugin == SCALARS or series.data_class is DataClass.SCALAR


def number(series: Series, value: Value) -> float | None:
    """Return `value` as a number of `series`; None where it is none."""
    if value.kind == "simple_value":
        return cast("float", value.message.simple_value)
    if value.kind == "tensor" and holds_numbers(series):
        return _element(value.message.tensor)
    return None


def differs(series: Series, value: Value) -> bool:
    """Tell whether `value` has metadata that are not those of its series, which its first value decided."""
    if value.message is None or not value.message.HasField("metadata"):
        return False
    return cast("bytes", value.message.metadata.SerializeToString()) != series.metadata


def length(series: Series, value: Value) -> int:
    """Return how many blobs `value` is in a series of blob sequences; 0 where it is none."""
    match value.kind:
        case "image":
            return 3  # width, height, the image
        case "audio" | "graph_def" | "tagged_run_metadata":
            return 1
        case "tensor" if value.message.tensor.dtype == wire.DT_STRING:
            tensor = value.message.tensor
            match len(tensor.tensor_shape.dim):
                case 0 if series.plugin in _ONE_BLOB:
                    return 1
                case 1:
                    return len(tensor.string_val)
                case 2 if series.plugin == "audio" and tensor.tensor_shape.dim[1].size == 2:
                    return len(tensor.string_val) // 2  # clips; labels go
    return 0


def _value(message: Any) -> Value:
    plugin = message.metadata.plugin_data.plugin_name if message.HasField("metadata") else ""
    kind = message.WhichOneof("value") or ""
    if not kind and (rest := leftover(message)):
        return Value(_name(message.tag), plugin, UNKNOWN_FIELDS, message, rest)
    return Value(_name(message.tag), plugin, kind, message)


def _name(tag: bytes) -> str:
    try:
        return tag.decode()
    except UnicodeDecodeError:
        raise BadRecord(f"tag {tag[:80]!r} is not UTF-8") from None


def _element(tensor: wire.TensorProto) -> float | None:
    """Return the only element of a numeric tensor; None for another dtype or number of elements."""
    shape = tensor.tensor_shape
    if tensor.dtype not in _ELEMENTS or shape.unknown_rank or any(dim.size != 1 for dim in shape.dim):
        return None
    field, layout = _ELEMENTS[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != layout.size:
            return None
        (element,) = layout.unpack(tensor.tensor_content)
    else:
        typed = getattr(tensor, field)
        if len(typed) != 1:
            return None
        element = typed[0]
        if tensor.dtype == wire.DT_HALF:  # the typed field holds the bits
            (element,) = layout.unpack(struct.pack("<H", element & 0xFFFF))
    if tensor.dtype == wire.DT_BFLOAT16:  # the upper half of a float32
        (element,) = struct.unpack("<f", struct.pack("<I", (element & 0xFFFF) << 16))
    return float(element)
