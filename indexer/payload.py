"""What files hold beside numbers, in words that need no protobuf, and what a kind of it is.

`decode/payload.py` makes neutral values of both formats' messages, a kind in `plugins/` makes blobs of them, and the
web shows stored blobs by the same kind. Nothing here knows a database, and numpy is not imported.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer.types import Blob

OCTETS = "application/octet-stream"
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
PLAIN_TEXT = "text/plain; charset=utf-8"


# Neutral values -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image, and what the writer says of it."""

    data: bytes
    width: int
    height: int
    colorspace: int  # 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA, 5 YUV, 6 BGRA


@dataclass(frozen=True, slots=True)
class Sound:
    """An encoded clip, and what the writer says of it."""

    data: bytes
    sample_rate: float  # Hz
    channels: int
    frames: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: k rows of (left, second, count), and the statistics the writer gives."""

    rows: bytes  # shape (k, 3), float64, little-endian
    widths: bool  # `second` is the width of the bucket, else its right edge
    count: float | None = None  # all values, the non-finite ones too
    min: float | None = None  # of finite values
    max: float | None = None
    sum: float | None = None
    sum_squares: float | None = None
    nan_count: int | None = None
    pos_inf_count: int | None = None
    neg_inf_count: int | None = None
    last_limit: float | None = None  # right edge of the last bucket as written, where `rows` has another


@dataclass(frozen=True, slots=True)
class Array:
    """A tensor of numbers. Fewer elements than the shape has: the last one stands for the rest, none for zeros."""

    dtype: str  # numpy's name, or bfloat16; of the elements in `data`
    shape: tuple[int, ...]
    data: bytes  # C order, little-endian
    declared: str | None = None  # the type the writer names, where it is another
    short: bool = True  # fewer elements than the shape has are allowed


@dataclass(frozen=True, slots=True)
class Strings:
    """A tensor of byte strings, in C order."""

    shape: tuple[int, ...]
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Landscape:
    """A loss landscape: arrays by name, `x` to `z` of the surface, `path_x` ..., `convergence_x` ..., and its words."""

    arrays: Mapping[str, Array]  # those that are written
    intervals: tuple[int, ...]  # epochs or steps of the path's points; none: a final landscape
    decomposition: str | None = None
    unit: str | None = None  # of the intervals
    step_per_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A serialized message as written."""

    name: str  # of the field that holds it
    data: bytes


@dataclass(frozen=True, slots=True)
class Lineage:
    """A record of a lineage file: where a trained model comes from."""

    part: str  # train_lineage, evaluation_lineage, dataset_graph, user_defined_info
    content: Mapping[str, Any]  # the part, names as MindSpore writes them
    data: bytes  # the record's payload as written


@dataclass(frozen=True, slots=True)
class HParams:
    """The content of TensorBoard's plugin hparams: what a session was given, how it ended, what is compared."""

    part: str  # experiment, session_start, session_end
    content: Mapping[str, Any]
    data: bytes  # as written


@dataclass(frozen=True, slots=True)
class Graph:
    """A serialized graph as written."""

    data: bytes  # of a long record a view
    content: str  # which message it is, see indexer.graphs


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that is not what its field promises."""

    kind: str  # what it should have been
    data: bytes  # serialized, as written
    reason: str


Neutral = Picture | Sound | Buckets | Array | Strings | Landscape | Message | Lineage | HParams | Graph | Unreadable


# Kinds ----------------------------------------------------------------------------------------------------------------
Options = Mapping[str, int | str | None]
"""Values of a request's parameters, by name."""

Schema = Mapping[str, Any]
"""JSON Schema."""


@dataclass(frozen=True, slots=True)
class Option:
    """A parameter that a kind's requests take beside those of all."""

    name: str
    description: str
    minimum: int | None = None  # with `maximum`: an integer; else text
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a kind's own, keyed by (tag_id, step, seq) and, where a point has several rows, more columns."""

    name: str
    columns: tuple[str, ...]  # behind the key's three
    single: bool = True  # one row a point: lists show it


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob as it is read back, for rendering."""

    content_type: str
    length: int
    width: int | None = None
    height: int | None = None
    colorspace: int | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    data: bytes | None = None  # None: not asked for, or too much for a list
    row: Mapping[str, Any] = field(default_factory=dict)  # of the kind's single table
    content: bytes | None = None  # what the plugin says of the series, where a list knows it


@dataclass(frozen=True, slots=True)
class Form:
    """A payload in another form."""

    data: bytes
    content_type: str
    suffix: str  # of a file it is saved in


@dataclass(frozen=True, slots=True)
class Example:
    """A value, and what a request with `options` shows of it: a test, and words in the API's documentation."""

    value: Neutral
    plugin: str
    shown: Mapping[str, Any]  # `metadata` and the kind's own fields
    options: Options = field(default_factory=dict)


def _nothing(_stored: Stored, _options: Options) -> dict[str, Any]:
    return {}


def _weightless(_length: int, _options: Options) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of payload: pure functions and words, all there is to know of it."""

    name: str  # blobs.kind
    path: str  # of its list, below the API
    title: str
    about: str
    takes: Mapping[type, frozenset[str] | None]  # neutral types, each of these series' plugins only (None: of any)
    decode: Callable[[Any], Sequence[Blob] | None]  # None: not mine, the next kind is asked; ValueError: undecodable
    metadata: Mapping[str, Schema]  # what `describe` returns
    describe: Callable[[Stored], dict[str, Any]]  # an item's metadata, without its bytes
    fields: Mapping[str, Schema] = field(default_factory=dict)  # what `render` returns
    render: Callable[[Stored, Options], dict[str, Any]] = _nothing  # ValueError: an option's value is wrong
    weigh: Callable[[int, Options], int] = _weightless  # bytes in an answer of a payload so long; 0: needs none
    options: tuple[Option, ...] = ()
    forms: Mapping[str, Callable[[Stored, Options], Form]] = field(default_factory=dict)
    links: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # field of an item: path of its key, what it is
    tables: tuple[Table, ...] = ()
    superseded: bool = False  # lists show what restarts superseded, too, where nobody says which
    examples: tuple[Example, ...] = ()

    def accepts(self, value: Neutral, plugin: str) -> bool:
        """Tell whether `value` of a series of `plugin` is to be offered to `decode`."""
        plugins = self.takes.get(type(value), frozenset())
        return plugins is None or plugin in plugins


def of_plugin(stored: Stored) -> dict[str, Any]:
    """Return what the plugin of a payload says of the series, as base64: nobody here knows the plugin."""
    return {"plugin_content": b64encode(stored.content).decode()} if stored.content else {}


PLUGIN_CONTENT: Mapping[str, Schema] = {
    "plugin_content": {"type": "string", "description": "What the plugin says of the series, base64."}
}
"""What `of_plugin` returns."""


def finite(value: Any) -> Any:
    """Return `value` with every float that is not finite as a string: strict JSON has no other way."""
    match value:
        case float():
            return value if math.isfinite(value) else _NOT_FINITE[str(value)]
        case Mapping():
            return {key: finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value


def as_json(value: Any) -> str:
    """Return `value` as strict JSON that both databases hold; readable where it can be."""
    text = json.dumps(finite(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates have no UTF-8 but an escape
        return json.dumps(finite(value))
    return text


def shown(**facts: object) -> dict[str, Any]:
    """Return those of `facts` that are known."""
    return {name: value for name, value in facts.items() if value is not None}
