"""What a row of `tags` is to TensorBoard: its plugin, class and metadata there.

TensorBoard's own series come as its data server shows them: those of old summaries in the form of the plugin that took
their place, one series a tag, which its first value decides. MindSpore's come in the form of TensorBoard's plugins.
Sources: tensorboard's data_compat.rs and run.rs (docs/formats/tensorboard.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from indexer import fields
from webapi.dataprovider import answers

RUN_GRAPH = "__run_graph__"
"""The only tag whose graphs TensorBoard shows."""
TENSOR_PLUGIN = "summarydb_tensor"
"""Plugin of MindSpore's tensors: listed by name, shown by no page."""
IMAGES, AUDIO, GRAPHS, HISTOGRAMS, TEXT, SCALARS = "images", "audio", "graphs", "histograms", "text", "scalars"
LINEAGE = "lineage"
_CONVERTED_IMAGE, _CONVERTED_AUDIO = b"\x10\x01", b"\x18\x01"  # converted_to_tensor of the plugins' messages


class DataClass(IntEnum):
    """The numbers of SummaryMetadata.data_class."""

    SCALAR = 1
    TENSOR = 2
    BLOB_SEQUENCE = 3


_CLASSES = {
    "scalar": DataClass.SCALAR,
    "tensor": DataClass.TENSOR,
    "blob_sequence": DataClass.BLOB_SEQUENCE,
}
# Plugins whose series have a class although their metadata gives none. Of others it says that a value of an old kind
# came first: a number, an image, a sound, a histogram.
_WITH_CLASS = {
    DataClass.SCALAR: {SCALARS},
    DataClass.TENSOR: {HISTOGRAMS, TEXT, "hparams", "pr_curves", "mesh", "custom_scalars"},
    DataClass.BLOB_SEQUENCE: {
        IMAGES,
        AUDIO,
        GRAPHS,
        "graph_tagged_run_metadata",
        "graph_run_metadata",
        "graph_run_metadata_graph",
        "graph_keras_model",
    },
}


class TagRow(NamedTuple):
    """A row of `tags`, as far as it is looked at."""

    id: int
    job_id: int
    plugin: str
    name: str
    data_class: str
    metadata: bytes | None
    content: bytes | None
    point_count: int
    last_step: int | None
    last_wall_time: float | None
    max_wall_time: float | None
    last_value: float | None
    max_length: int
    seq: int
    rolled_count: int
    numbers: bool  # some point is, or may be, a number


@dataclass(slots=True)
class Series:
    """A series as TensorBoard has it. `last_*` are of its newest point, which nothing supersedes."""

    id: int
    name: str
    plugin: str
    data_class: DataClass
    summary: bytes  # a SummaryMetadata message
    source: str  # plugin in the database: MindSpore's values are converted
    point_count: int
    last_step: int
    last_wall_time: float
    last_value: float
    max_wall_time: float
    max_length: int
    disturbed: bool  # some points may be superseded
    rolled_count: int
    numbers: bool = False  # some points are numbers; of a series that is none of numbers
    mixed: bool = False  # some points may be no values of its class: all are looked at
    valid: int | None = None  # points that remain, where all were looked at

    @property
    def shown(self) -> bool:
        """Tell whether a List answer has it."""
        return bool(self.point_count if self.valid is None else self.valid)


class Shape(NamedTuple):
    """What TensorBoard knows of a series beside its name."""

    plugin: str
    data_class: DataClass
    summary: bytes


def _blank(plugin: str, data_class: DataClass, content: bytes | None = b"") -> Shape:
    """Return a series whose metadata say no more than plugin and class."""
    return Shape(plugin, data_class, answers.summary_metadata(plugin, content or b"", data_class))


_OF_MINDSPORE: dict[str, Shape | None] = {
    "scalar": _blank(SCALARS, DataClass.SCALAR),
    "image": _blank(IMAGES, DataClass.BLOB_SEQUENCE, _CONVERTED_IMAGE),
    "histogram": _blank(HISTOGRAMS, DataClass.TENSOR),
    "tensor": _blank(TENSOR_PLUGIN, DataClass.TENSOR),
    "graph": _blank(GRAPHS, DataClass.BLOB_SEQUENCE),
    LINEAGE: _blank(TEXT, DataClass.TENSOR),
    "loss_landscape": None,  # no plugin of TensorBoard draws surfaces
}


def mindspore(row: TagRow) -> bool:
    """Tell whether a series is MindSpore's: those have no metadata, and plugins of their own."""
    return row.metadata is None and row.plugin in _OF_MINDSPORE


def shape_of(row: TagRow) -> Shape | None:
    """Return what a series is to TensorBoard; None where no page would show it."""
    return _shape(row.plugin, row.data_class, row.metadata, row.content)


@lru_cache(maxsize=10_000)  # runs of a sweep have the same tags
def _shape(plugin: str, data_class: str, metadata: bytes | None, content: bytes | None) -> Shape | None:
    if metadata is None and plugin in _OF_MINDSPORE:
        return _OF_MINDSPORE[plugin]
    class_ = _CLASSES.get(data_class)
    if class_ is None:
        return None
    if metadata is None:
        return _blank(plugin, class_, content)
    said = _said(metadata)
    if said.has_class or (said.plugin in _WITH_CLASS[class_] and said.content == (content or b"")):
        return Shape(plugin, class_, metadata if said.has_class else metadata + answers.number(4, class_))
    return _blank(_old(class_, content), class_, content)


def _old(data_class: DataClass, content: bytes | None) -> str:
    """Return the plugin that took the place of an old kind of summary."""
    if data_class is DataClass.SCALAR:
        return SCALARS
    if data_class is DataClass.TENSOR:
        return HISTOGRAMS
    return AUDIO if content == _CONVERTED_AUDIO else IMAGES


class _Said(NamedTuple):
    """What a SummaryMetadata message says."""

    plugin: str
    content: bytes
    has_class: bool


def _said(metadata: bytes) -> _Said:
    plugin, content, has_class = b"", b"", False
    for number, wire, a, b in fields.walk(metadata):
        match number, wire:
            case 1, fields.BYTES:
                for inner, inner_wire, start, stop in fields.walk(metadata, a, b):
                    if inner_wire == fields.BYTES and inner in {1, 2}:
                        plugin, content = (
                            (metadata[start:stop], content) if inner == 1 else (plugin, metadata[start:stop])
                        )
            case 4, fields.VARINT:
                has_class = bool(a)
    return _Said(plugin.decode("utf-8", "replace"), content, has_class)
