"""Values that are no numbers → blobs: the one place that turns both formats' messages into neutral words.

Every legacy conversion is here (docs/formats). What cannot be converted is kept as it was written, with the reason.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np

from indexer import graphs, plugins
from indexer.decode import hparams, lineage, mindspore
from indexer.decode.event import Value
from indexer.decode.frames import HEADER_BYTES
from indexer.payload import Array, Buckets, Graph, Landscape, Message, Neutral, Picture, Sound, Strings, Unreadable
from indexer.types import MAX_BLOB_BYTES, Blob, Format
from indexer.wire import tensorboard_pb2 as tensorboard

_PACK_ABOVE = 512  # bytes: fewer are stored as they are
_PACKED_SHARE = 0.9  # of its size: what zlib makes longer is stored as it is
_PACK_LEVEL = 1
_COMPARED_BYTES = 2**20  # at once

# dtype number: numpy's name, the typed field that holds the elements, numpy's name for them there.
_MINDSPORE_TYPES: Final = {
    1: "bool",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "uint8",
    7: "uint16",
    8: "uint32",
    9: "uint64",
    10: "float16",
    11: "float32",
    12: "float64",
}
_MINDSPORE_FIELDS: Final = (
    ("float_data", "float32"),
    ("int32_data", "int32"),
    ("int64_data", "int64"),
    ("double_data", "float64"),
    ("uint64_data", "uint64"),
)
_TENSORBOARD_TYPES: Final = {
    tensorboard.DT_FLOAT: ("float32", "float_val", "float32"),
    tensorboard.DT_DOUBLE: ("float64", "double_val", "float64"),
    tensorboard.DT_INT32: ("int32", "int_val", "int32"),
    tensorboard.DT_UINT8: ("uint8", "int_val", "int32"),
    tensorboard.DT_INT16: ("int16", "int_val", "int32"),
    tensorboard.DT_INT8: ("int8", "int_val", "int32"),
    tensorboard.DT_COMPLEX64: ("complex64", "scomplex_val", "float32"),
    tensorboard.DT_INT64: ("int64", "int64_val", "int64"),
    tensorboard.DT_BOOL: ("bool", "bool_val", "uint8"),
    tensorboard.DT_QINT8: ("int8", "int_val", "int32"),
    tensorboard.DT_QUINT8: ("uint8", "int_val", "int32"),
    tensorboard.DT_QINT32: ("int32", "int_val", "int32"),
    tensorboard.DT_BFLOAT16: ("bfloat16", "half_val", "int32"),
    tensorboard.DT_QINT16: ("int16", "int_val", "int32"),
    tensorboard.DT_QUINT16: ("uint16", "int_val", "int32"),
    tensorboard.DT_UINT16: ("uint16", "int_val", "int32"),
    tensorboard.DT_COMPLEX128: ("complex128", "dcomplex_val", "float64"),
    tensorboard.DT_HALF: ("float16", "half_val", "int32"),
    tensorboard.DT_UINT32: ("uint32", "uint32_val", "uint32"),
    tensorboard.DT_UINT64: ("uint64", "uint64_val", "uint64"),
}
_QUANTIZED: Final = {"DT_QINT8", "DT_QUINT8", "DT_QINT32", "DT_QINT16", "DT_QUINT16"}
_CODES: Final = {
    "float32": "f",
    "float64": "d",
    "int32": "i",
    "int64": "q",
    "uint32": "I",
    "uint64": "Q",
    "uint8": "B",
}
_SWAP: Final = sys.byteorder == "big"
_NULL_TENSOR: Final = Array("float32", (0,), b"")
"""What writers of hparams put where a value must have one."""

HPARAMS: Final = "hparams"
"""The plugin whose metadata is its value."""


class Collector:
    """Makes blobs of values; those longer than `max_blob_bytes` become references into their file."""

    def __init__(self, max_blob_bytes: int = MAX_BLOB_BYTES) -> None:
        self.max_blob_bytes = max_blob_bytes

    def collect(
        self,
        blobs: list[Blob],
        point: int,
        plugin: str,
        value: Value,
        format_: Format,
        record: Any,
        offset: int,
        *,
        differs: bool = False,
    ) -> None:
        """Add the blobs of `value`, which is point number `point`, of a series of `plugin`.

        record: the payload that holds the value.  offset: of its first byte in the file.
        differs: its metadata is not that of its series, so it is kept beside the value.
        """
        made: list[Blob] = []
        for one in neutrals(value, format_, differs=differs):
            made += plugins.decode(one, plugin, lambda: _written(value))
        self._add(blobs, point, made, record, offset)

    def number(self, blobs: list[Blob], point: int, plugin: str, value: float, *, double: bool) -> None:
        """Add the blob of a tensor of one float that the kernel read, in a series that is none of numbers."""
        data = struct.pack("<d" if double else "<f", value)
        made = plugins.decode(Array("float64" if double else "float32", (), data), plugin, lambda: data)
        self._add(blobs, point, made, data, 0)

    def _add(self, blobs: list[Blob], point: int, made: Sequence[Blob], record: Any, offset: int) -> None:
        for ordinal, blob in enumerate(made):
            blob.point, blob.ordinal = point, ordinal
            if blob.says:
                blob.at = offset - HEADER_BYTES
            self._finish(blob, record, offset)
            blobs.append(blob)

    def _finish(self, blob: Blob, record: Any, offset: int) -> None:
        """Compress, or refer to, the data of a blob."""
        data = blob.data or b""
        blob.length, blob.digest = len(data), hashlib.sha256(data).digest()
        if len(data) > self.max_blob_bytes:
            at = _place(record, data)
            if at < 0:  # what is stored is not what the file holds: refer to what it holds
                whole = bytes(record)
                blob.length, blob.digest, at = len(whole), hashlib.sha256(whole).digest(), 0
                blob.content_type, blob.dtype, blob.shape = "application/octet-stream", None, None
                blob.error = blob.error or "too long to be converted: the whole record is referred to"
            blob.encoding, blob.data, blob.offset = "ref", None, offset + at
        elif blob.packs and len(data) > _PACK_ABOVE:
            packed = zlib.compress(data, _PACK_LEVEL)
            if len(packed) < _PACKED_SHARE * len(data):
                blob.encoding, blob.data = "zlib", packed
        if blob.data is not None:
            blob.data = bytes(blob.data)  # a view must not outlive the record


def _place(record: Any, data: bytes | memoryview) -> int:
    """Return where in a record `data` lies, -1: nowhere. A graph ends its record: then nothing long is copied."""
    view = memoryview(record)
    at = len(view) - len(data)
    steps = range(0, len(data), _COMPARED_BYTES)
    if at >= 0 and all(
        view[at + i : at + i + _COMPARED_BYTES].tobytes() == data[i : i + _COMPARED_BYTES] for i in steps
    ):
        return at
    return bytes(record).find(data)


def _written(value: Value) -> bytes:
    """Return the field that holds a value, serialized."""
    if value.message is None or value.data or not value.kind:
        return bytes(value.data)
    what = getattr(value.message, value.kind)
    return what if isinstance(what, bytes) else cast("bytes", what.SerializeToString())


def neutrals(value: Value, format_: Format, *, differs: bool = False) -> list[Neutral]:
    """Return what a value holds, and what its metadata holds that is kept nowhere else; without protobuf.

    A value without any field says all it has to say in its metadata; so does the plugin hparams, whatever the field.
    """
    if value.kind == mindspore.LINEAGE:
        return [lineage.convert(value.message, bytes(value.data))]
    if format_ is not Format.TENSORBOARD or value.message is None:
        return [neutral(value, format_)]
    found = [neutral(value, format_)] if value.kind else []
    if value.plugin == HPARAMS:
        null = bool(found) and isinstance(found[0], Array) and found[0] == _NULL_TENSOR
        return [hparams.convert(value.message.metadata.plugin_data.content), *([] if null else found)]
    if differs or (not found and value.message.HasField("metadata")):
        found.append(Message("metadata", value.message.metadata.SerializeToString()))
    return found


def neutral(value: Value, format_: Format) -> Neutral:
    """Return what a value holds, without protobuf."""
    if value.message is None:
        content = _GRAPHS[format_].get(value.kind)
        return Message(value.kind, bytes(value.data)) if content is None else Graph(cast("bytes", value.data), content)
    convert = _CONVERSIONS[format_].get(value.kind)
    if convert is not None:
        return convert(value.message)
    return Message(value.kind, _written(value))


# MindSpore ------------------------------------------------------------------------------------------------------------
def _mindspore_image(message: Any) -> Neutral:
    image = message.image
    return Picture(image.encoded_image, image.width, image.height, image.colorspace)


def _mindspore_tensor(message: Any) -> Neutral:
    return _mindspore_array(message.tensor)


def _mindspore_array(tensor: Any) -> Array | Unreadable:
    declared = _MINDSPORE_TYPES.get(tensor.data_type)
    shape = tuple(tensor.dims)
    for name, dtype in _MINDSPORE_FIELDS:  # the writer puts every type into float_data
        elements = getattr(tensor, name)
        if elements:
            names = declared or f"type {tensor.data_type}"
            return Array(dtype, shape, _bytes(elements, dtype), None if names == dtype else names, short=False)
    if declared is not None:
        return Array(declared, shape, tensor.raw_data, short=False)
    if not tensor.raw_data:
        return Array("float32", shape, b"", f"type {tensor.data_type}", short=False)
    return Unreadable("tensor", tensor.SerializeToString(), f"a tensor of type {tensor.data_type}")


def _mindspore_histogram(message: Any) -> Neutral:
    histogram = message.histogram
    rows = [number for b in histogram.buckets for number in (b.left, b.width, b.count)]
    return Buckets(
        _bytes(rows, "float64"),
        widths=True,
        **{
            name: getattr(histogram, name) if histogram.HasField(name) else None
            for name in ("count", "min", "max", "sum", "nan_count", "pos_inf_count", "neg_inf_count")
        },
    )


def _mindspore_landscape(message: Any) -> Neutral:
    landscape = message.loss_landscape
    points = {
        "": landscape.landscape,
        "path_": landscape.loss_path.points,
        "convergence_": landscape.convergence_point,
    }
    arrays = {}
    for prefix, point in points.items():
        for axis in ("x", "y", "z"):
            if not point.HasField(axis):
                continue
            array = _mindspore_array(getattr(point, axis))
            if isinstance(array, Unreadable):
                return Unreadable("landscape", landscape.SerializeToString(), f"{prefix}{axis} is {array.reason}")
            arrays[prefix + axis] = array
    words = landscape.metadata
    return Landscape(
        arrays,
        tuple(landscape.loss_path.intervals),
        words.decomposition.decode("utf-8", "backslashreplace") if words.HasField("decomposition") else None,
        words.unit.decode("utf-8", "backslashreplace") if words.HasField("unit") else None,
        words.step_per_epoch if words.HasField("step_per_epoch") else None,
    )


# TensorBoard ----------------------------------------------------------------------------------------------------------
def _tensorboard_image(message: Any) -> Neutral:
    image = message.image
    return Picture(image.encoded_image_string, image.width, image.height, image.colorspace)


def _tensorboard_audio(message: Any) -> Neutral:
    audio = message.audio
    return Sound(
        audio.encoded_audio_string, audio.sample_rate, audio.num_channels, audio.length_frames, audio.content_type
    )


def _tensorboard_histogram(message: Any) -> Neutral:
    """Buckets from min over the inner limits to max, as TensorBoard's own conversion makes them."""
    histogram = message.histo
    limits, counts = list(histogram.bucket_limit), list(histogram.bucket)
    k = len(counts)
    if len(limits) != k:
        reason = f"{k} counts for {len(limits)} bucket limits"
        return Unreadable("histogram", histogram.SerializeToString(), reason)
    rows = [0.0] * (3 * k)
    rows[0::3] = [histogram.min, *limits[:-1]][:k]
    rows[1::3] = [*limits[:-1], histogram.max][:k]
    rows[2::3] = counts
    return Buckets(
        _bytes(rows, "float64"),
        widths=False,
        count=histogram.num,
        min=histogram.min,
        max=histogram.max,
        sum=histogram.sum,
        sum_squares=histogram.sum_squares,
        last_limit=limits[-1] if k else None,
    )


def _tensorboard_tensor(message: Any) -> Neutral:
    tensor = message.tensor
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == tensorboard.DT_STRING:
        return Strings(shape, tuple(tensor.string_val))
    known = _TENSORBOARD_TYPES.get(tensor.dtype)
    if known is None or tensor.tensor_shape.unknown_rank:
        why = "of unknown rank" if known else f"of type {tensor.dtype}"
        return Unreadable("tensor", tensor.SerializeToString(), f"a tensor {why}")
    dtype, field, layout = known
    name = tensorboard.DataType.Name(tensor.dtype)
    declared = name.removeprefix("DT_").lower() if name in _QUANTIZED else None
    if tensor.tensor_content:
        return Array(dtype, shape, tensor.tensor_content, declared)
    data = _bytes(getattr(tensor, field), layout)
    if field in {"int_val", "half_val"} and layout != dtype:  # narrow numbers, and the bits of narrow floats
        narrow = "<u2" if dtype in {"float16", "bfloat16"} else np.dtype(dtype).newbyteorder("<")
        data = np.frombuffer(data, "<i4").astype(narrow).tobytes()
    return Array(dtype, shape, data, declared)


def _bytes(numbers: Any, dtype: str) -> bytes:
    """Return numbers as `dtype`, little-endian."""
    packed = array(_CODES[dtype], numbers)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


_GRAPHS: Final[Mapping[Format, Mapping[str, str]]] = {
    Format.MINDSPORE: {"graph_def": graphs.MINDSPORE_GRAPH, "model": graphs.MINDSPORE_MODEL},
    Format.TENSORBOARD: {
        "graph_def": graphs.GRAPH_DEF,
        "meta_graph_def": graphs.META_GRAPH_DEF,
        "tagged_run_metadata": graphs.RUN_METADATA,
    },
}
_CONVERSIONS: Final[Mapping[Format, Mapping[str, Callable[[Any], Neutral]]]] = {
    Format.MINDSPORE: {
        "image": _mindspore_image,
        "tensor": _mindspore_tensor,
        "histogram": _mindspore_histogram,
        "loss_landscape": _mindspore_landscape,
    },
    Format.TENSORBOARD: {
        "image": _tensorboard_image,
        "audio": _tensorboard_audio,
        "histo": _tensorboard_histogram,
        "tensor": _tensorboard_tensor,
    },
}
