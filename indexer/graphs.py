"""Graphs as they are looked at: a tree of scopes over the nodes, in chunks that are read one at a time.

`build` makes it of a serialized graph when that is loaded, `Chunk` reads it back. Nodes and scopes are entries in one
order: by name, with `/` below every other character, so that a scope is followed by all that is in it. An entry knows
how many entries its subtree has: the children of a scope are found by skipping, and only the chunks they lie in are
read. Neither a database nor protobuf is needed here. Decision: docs/decisions/0010-graphs.md

Source of the messages: MindSpore's graph proto (docs/formats/mindspore.md), tensorflow's graph.proto, node_def.proto,
function.proto, config.proto, meta_graph.proto (docs/formats/tensorboard.md).
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer import fields
from indexer.fields import BYTES, MORE, VARINT, Bounds, Buffer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from indexer.fields import Places

MINDSPORE_GRAPH, MINDSPORE_MODEL = "mindspore_graph", "mindspore_model"
GRAPH_DEF, META_GRAPH_DEF, RUN_METADATA = "graph_def", "meta_graph_def", "run_metadata"
KERAS_MODEL = "keras_model"
"""Which message a payload is; a Keras model is JSON."""

PARAMETERS, CONSTANTS, FUNCTIONS = b"__parameters__/", b"__constants__/", b"__function_library__/"
"""Scopes of our own: what MindSpore keeps beside its operators, and the functions of a GraphDef."""

MAX_NODES = 2_000_000
"""A graph with more is kept, but not taken apart: its error begins with MORE."""
CHUNK_ENTRIES = 1_024
CHUNK_NAMES, CHUNK_EDGES = 64 * 1024, 64 * 1024
"""A chunk that reaches one of these ends. Units: bytes, edges."""
FIRST_BYTES = 200
"""`Piece.first` is cut to this."""
UNKNOWN = 0x7FFFFFFF
"""Stands for an end of an edge that no node of the graph has."""

SCOPE, NODE, PARAMETER, CONSTANT = range(4)
"""What an entry is. A node may have others below its name, too."""

_CONTROL = 0x80000000
_DEPTH = 16  # of models within models
_BLOCK = 10_000  # nodes taken apart at once
_NO_TYPE = 0xFFFF
_HEAD = struct.Struct("<6I")  # entries, types, bytes of types, bytes of names, edges in, edges out
_COLUMNS: tuple[tuple[str, str], ...] = (
    ("name", "I"),
    ("size", "I"),
    ("children", "I"),
    ("nodes", "I"),
    ("offset", "Q"),
    ("length", "I"),
)
_COLUMNS += (("ins", "I"), ("outs", "I"), ("type", "H"), ("what", "B"))
_TO_KEY = bytes([*range(1, 0x30), 0, *range(0x30, 0x100)])  # `/` comes first, what was before it one later
_PLUGINS = tuple(
    f"[:{name}]".encode()
    for name in ("scalar", "image", "tensor", "histogram", "graph", "optimized_graph", "loss_landscape")
)


def key(name: bytes) -> bytes:
    """Return what entries are sorted by: `/` is below everything else."""
    return name.translate(_TO_KEY)


def scope_of(name: bytes) -> bytes:
    """Return the scope a name lies in; empty: none. A `/` at the beginning belongs to the first part."""
    return name[: max(name.rfind(b"/", 1), 0)]


# Building -------------------------------------------------------------------------------------------------------------
class Piece(NamedTuple):
    """A chunk as it is stored."""

    start: int  # number of its first entry
    first: bytes  # key of that entry's name, cut to FIRST_BYTES
    entries: int  # how many
    data: bytes  # deflated


@dataclass(slots=True)
class Built:
    """What a payload holds."""

    nodes: int = 0  # operators, those of functions left out
    edges: int = 0  # inputs of these
    parameters: int = 0
    constants: int = 0
    outputs: int = 0
    functions: int = 0
    scopes: int = 0  # entries that are no node
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True)
class _Nodes:
    """All nodes of a payload while it is taken apart."""

    data: Buffer
    left: int  # nodes, and what they are listed in, that may still come
    names: list[bytes] = field(default_factory=list)
    types: array[int] = field(default_factory=lambda: array("i"))
    codes: dict[bytes, int] = field(default_factory=dict)  # of types
    what: array[int] = field(default_factory=lambda: array("b"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    stops: array[int] = field(default_factory=lambda: array("q"))
    to: list[npt.NDArray[np.int32]] = field(default_factory=list)  # of edges: node that has the input
    source: list[npt.NDArray[np.int32]] = field(default_factory=list)  # node it comes from, -1: none
    control: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def split(self, start: int, stop: int, *wanted: int) -> dict[int, Bounds]:
        found = fields.submessages(self.data, start, stop, wanted, self.left)
        self.left -= sum(len(begins) for begins, _ in found.values())
        return found

    def add(self, names: list[bytes], types: list[bytes], what: int, starts: array[int], stops: array[int]) -> None:
        codes = self.codes
        for type_ in dict.fromkeys(types):  # no set: its order is another in every process
            codes.setdefault(type_, len(codes))
        self.names += names
        self.types.extend(map(codes.__getitem__, types))
        self.what.extend([what] * len(names))
        self.starts += starts
        self.stops += stops


def build(data: Buffer, content: str) -> Built:
    """Take a serialized graph apart. ValueError where it is none, or too large for that."""
    nodes = _Nodes(data, MAX_NODES)
    built = Built()
    match content:
        case "mindspore_graph":
            _mindspore(nodes, built, 0, len(data))
        case "mindspore_model":
            graphs = nodes.split(0, len(data), 4)[4]
            if not graphs[0]:
                raise ValueError("a model without a graph")
            for start, stop in zip(*graphs, strict=True):
                _mindspore(nodes, built, start, stop)
        case "graph_def":
            _tensorboard(nodes, built, b"", 0, len(data))
        case "meta_graph_def":
            for start, stop in zip(*nodes.split(0, len(data), 2)[2], strict=True):
                _tensorboard(nodes, built, b"", start, stop)
        case "run_metadata":
            graphs_ = _of_run(nodes, len(data))
            for i, (start, stop) in enumerate(graphs_):
                _tensorboard(nodes, built, b"graph_%d/" % i if len(graphs_) > 1 else b"", start, stop)
        case "keras_model":
            _keras(nodes, built)
        case _:
            raise ValueError(f"{content} is no kind of graph")
    _arrange(nodes, built)
    return built


def _of_run(nodes: _Nodes, stop: int) -> list[tuple[int, int]]:
    """Return where the graphs of a RunMetadata are: those of devices, and of each function the one that was written."""
    found = nodes.split(0, stop, 1, 2, 3, 4)
    graphs = list(zip(*found[3], strict=True))
    for begin, end in zip(*found[4], strict=True):
        parts = nodes.split(begin, end, 1, 2, 3)
        graphs += list(zip(*parts[2], strict=True)) or list(zip(*parts[1], strict=True))
    return graphs


class _Fields:
    """Fields of a block of messages: the last of each number, as protobuf takes them."""

    def __init__(self, data: Buffer, starts: npt.ArrayLike, stops: npt.ArrayLike) -> None:
        import numpy as np

        bounds = np.asarray(starts, np.int64), np.asarray(stops, np.int64)
        self.data, self.count = data, len(bounds[0])
        self.table = fields.tabulate(data, *bounds)

    def bounds(self, number: int) -> tuple[list[int], list[int]]:
        """Return where a field of bytes lies in each message; 0, 0 where there is none."""
        begins, ends = self._bounds(number)
        return begins.tolist(), ends.tolist()

    def texts(self, number: int) -> list[bytes]:
        """Return a field of bytes of each message; empty where there is none."""
        return _cut_out(self.data, *self.bounds(number))

    def flags(self, number: int) -> npt.NDArray[np.bool_]:
        """Tell of which messages a varint is 1."""
        import numpy as np

        t, set_ = self.table, np.zeros(self.count, np.bool_)
        rows = np.flatnonzero((t.number == number) & (t.wire == VARINT))
        set_[t.of[rows]] = t.a[rows] == 1
        return set_

    def repeated(self, number: int) -> tuple[Places, Places, Places]:
        """Return message, begin and end of all fields of a number, by message."""
        import numpy as np

        t = self.table
        rows = np.flatnonzero((t.number == number) & (t.wire == BYTES))
        rows = rows[np.argsort(t.of[rows], kind="stable")]
        return t.of[rows], t.a[rows], t.b[rows]

    def _bounds(self, number: int) -> tuple[Places, Places]:
        import numpy as np

        t = self.table
        begins, ends = np.zeros(self.count, np.int64), np.zeros(self.count, np.int64)
        rows = np.flatnonzero((t.number == number) & (t.wire == BYTES))
        begins[t.of[rows]], ends[t.of[rows]] = t.a[rows], t.b[rows]
        return begins, ends


def _cut_out(data: Buffer, begins: list[int], ends: list[int]) -> list[bytes]:
    if isinstance(data, bytes):
        return [data[a:b] for a, b in zip(begins, ends, strict=True)]
    return [data[a:b].tobytes() for a, b in zip(begins, ends, strict=True)]


def _small(*columns: Places) -> tuple[npt.NDArray[np.int32], ...]:
    """Return columns in half the bytes: no message has 2^31."""
    import numpy as np

    return tuple(column.astype(np.int32) for column in columns)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _mindspore(nodes: _Nodes, built: Built, start: int, stop: int) -> None:
    """Add a GraphProto: operators, parameters and constants."""

    data, found = nodes.data, nodes.split(start, stop, 1, 3, 4, 5)
    ids: dict[bytes, int] = {}
    short: dict[bytes, int] = {}
    edges: list[tuple[npt.NDArray[np.int32], ...]] = []
    starts, stops = found[1]
    for block in _blocks(len(starts)):
        table = _Fields(data, starts[block], stops[block])
        base = len(nodes.names)
        own, types = table.texts(2), table.texts(3)
        names = [
            full if full and full[-1] != 0x5D else _mindspore_name(full, *others)  # ]
            for full, *others in zip(table.texts(8), table.texts(4), types, own, strict=True)
        ]
        nodes.add(names, types, NODE, starts[block], stops[block])
        ids.update(zip(own, range(base, base + len(own)), strict=True))
        of, begins, ends = table.repeated(1)
        edges.append(_small(of + base, begins, ends))
    for number, scope, type_, what in ((3, PARAMETERS, b"Parameter", PARAMETER), (5, CONSTANTS, b"Const", CONSTANT)):
        starts, stops = found[number]
        for block in _blocks(len(starts)):
            own = _Fields(data, starts[block], stops[block]).texts(1)
            base = len(nodes.names)
            nodes.add([scope + name for name in own], [type_] * len(own), what, starts[block], stops[block])
            ids.update(zip(own, range(base, base + len(own)), strict=True))
    built.nodes += len(found[1][0])
    built.parameters += len(found[3][0])
    built.constants += len(found[5][0])
    built.outputs += len(found[4][0])

    def look_up(name: bytes) -> int:
        if b"/" not in name:
            return -1
        if not short:
            short.update((_short(own), number) for own, number in ids.items())
        return short.get(name.rpartition(b"op")[2], -1)

    for to, at, until in edges:
        for i in range(0, len(to), _BLOCK):
            block = slice(i, i + _BLOCK)
            inputs = _Fields(data, at[block], until[block])
            source = _look_up(inputs.texts(1), ids, look_up)
            _add_edges(nodes, to[block], source, inputs.flags(2))
        built.edges += len(to)


def _mindspore_name(full: bytes, scope: bytes, type_: bytes, own: bytes) -> bytes:
    """Return the path of an operator, as MindInsight calls it."""
    plugin = full.endswith(b"]") and full.lower().endswith(_PLUGINS)
    if full and not plugin:
        return full
    label = type_ + b"-op" + (own if plugin else _short(own))
    return scope + b"/" + label if scope else label


def _short(own: bytes) -> bytes:
    """Return the id in a name: of `Default/net/ReLU-op5` it is 5."""
    return own.rpartition(b"/")[2].rpartition(b"op")[2]


def _tensorboard(nodes: _Nodes, built: Built, scope: bytes, start: int, stop: int) -> None:
    """Add a GraphDef: its nodes, and those of its functions in a scope of their own."""
    found = nodes.split(start, stop, 1, 2)
    built.nodes += len(found[1][0])
    built.edges += _node_defs(nodes, scope, *found[1])
    for begin, end in zip(*found[2], strict=True):
        for first, last in zip(*nodes.split(begin, end, 1)[1], strict=True):
            parts = nodes.split(first, last, 1, 3)
            name = b"".join(_Fields(nodes.data, parts[1][0][-1:], parts[1][1][-1:]).texts(1))
            _node_defs(nodes, scope + FUNCTIONS + name + b"/", *parts[3])
            built.functions += 1


def _node_defs(nodes: _Nodes, scope: bytes, starts: array[int], stops: array[int]) -> int:
    """Add nodes whose inputs name each other; return how many inputs they have."""
    import numpy as np

    data, first, count = nodes.data, len(nodes.names), 0
    ids: dict[bytes, int] = {}
    edges: list[tuple[npt.NDArray[np.int32], ...]] = []
    for block in _blocks(len(starts)):
        table = _Fields(data, starts[block], stops[block])
        own = table.texts(1)
        base = len(nodes.names)
        nodes.add([scope + name for name in own] if scope else own, table.texts(2), NODE, starts[block], stops[block])
        ids.update(zip(own, range(base, base + len(own)), strict=True))
        of, begins, ends = table.repeated(3)
        edges.append(_small(of + base, begins, ends))
        count += len(of)
    assert len(nodes.names) - first == len(starts)  # noqa: S101  # a node a message
    for to, at, until in edges:
        control = np.zeros(len(to), np.bool_)
        if len(to):
            whole = np.flatnonzero(until > at)
            control[whole] = np.frombuffer(data, np.uint8)[at[whole]] == 0x5E  # ^
        for i in range(0, len(to), _BLOCK):
            block = slice(i, i + _BLOCK)
            names = _cut_out(data, at[block].tolist(), until[block].tolist())
            source = _look_up(names, ids, lambda name: ids.get(_source(name), -1))
            _add_edges(nodes, to[block], source, control[block])
    return count


def _look_up(names: list[bytes], ids: dict[bytes, int], otherwise: Callable[[bytes], int]) -> npt.NDArray[np.int32]:
    """Return the nodes that inputs name; -1: none."""
    import numpy as np

    found = np.array([ids.get(name, -1) for name in names], np.int32)
    for i in np.flatnonzero(found < 0).tolist():
        found[i] = otherwise(names[i])
    return found


def _source(name: bytes) -> bytes:
    """Return the node in an input: of `^a/b` and `a/b:0` and a function's `a/b:out:0` it is a/b."""
    return name.removeprefix(b"^").partition(b":")[0]


def _keras(nodes: _Nodes, built: Built) -> None:
    """Add the layers of a model's configuration; those of a model within it in a scope of its name."""
    import json

    import numpy as np

    try:
        model = json.loads(bytes(nodes.data))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"the configuration of a model is no JSON: {e}") from e
    names: list[bytes] = []
    types: list[bytes] = []
    to: list[int] = []
    source: list[int] = []

    def add(layers: list[Any], scope: str, depth: int) -> None:
        ids: dict[str, int] = {}
        own = [layer for layer in layers if isinstance(layer, dict)]
        for layer in own:
            ids.setdefault(_keras_name(layer), len(names))
            names.append((scope + _keras_name(layer)).encode("utf-8", "surrogatepass"))
            types.append(str(layer.get("class_name", "")).encode("utf-8", "surrogatepass"))
        for layer in own:
            number = ids[_keras_name(layer)]
            inputs = list(_tensors(layer.get("inbound_nodes"), 0))
            to.extend([number] * len(inputs))
            source.extend(ids.get(name, -1) for name in inputs)
        for layer in own:
            if depth < _DEPTH and (inner := _layers(layer)):
                add(inner, scope + _keras_name(layer) + "/", depth + 1)

    add(_layers(model), "", 0)
    if len(names) > MAX_NODES:
        raise ValueError(MORE)
    nowhere = array("q", bytes(8 * len(names)))
    nodes.add(names, types, NODE, nowhere, nowhere)
    ends = np.array(to, np.int32), np.array(source, np.int32)
    _add_edges(nodes, *ends, np.zeros(len(to), np.bool_))
    built.nodes, built.edges = len(names), len(to)


def _layers(model: Any) -> list[Any]:
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else config  # oldest Sequential: a list
    return layers if isinstance(layers, list) else []


def _keras_name(layer: dict[str, Any]) -> str:
    config = layer.get("config")
    name = layer.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return str(name or layer.get("class_name", ""))


def _tensors(inbound: Any, depth: int) -> Iterator[str]:
    """Yield the layers that tensors come from: they are given as [layer, node, tensor, ...]."""
    if isinstance(inbound, list) and len(inbound) >= 3 and isinstance(inbound[0], str):
        yield inbound[0]
    elif depth < _DEPTH and isinstance(inbound, list | dict):
        for inner in inbound if isinstance(inbound, list) else inbound.values():
            yield from _tensors(inner, depth + 1)


def _add_edges(
    nodes: _Nodes, to: npt.NDArray[np.int32], source: npt.NDArray[np.int32], control: npt.NDArray[np.bool_]
) -> None:
    nodes.to.append(to)
    nodes.source.append(source)
    nodes.control.append(control)


def _arrange(nodes: _Nodes, built: Built) -> None:
    """Put nodes and their scopes in order, and cut that into chunks."""
    import numpy as np

    if not nodes.names:
        return
    keys = nodes.names
    for block in _blocks(len(keys)):
        keys[block] = [name.translate(_TO_KEY) for name in keys[block]]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    entries: list[bytes] = []  # keys
    node: list[int] = []  # of each entry; -1: none
    parent: list[int] = []
    size: list[int] = []
    stack: list[tuple[bytes, int]] = []  # open scopes: key up to what follows, entry
    scope, inside = b"", -1
    for number in order:
        own = keys[number]
        if own[: own.rfind(b"\0", 1) + 1] != scope:
            while stack and not own.startswith(stack[-1][0]):
                _, closed = stack.pop()
                size[closed] = len(entries) - closed
            at = own.find(b"\0", max(1, len(stack[-1][0]) if stack else 0))
            while at > 0:
                above = own[:at]
                if not entries or entries[-1] != above:  # else a node has the scope's name
                    parent.append(stack[-1][1] if stack else -1)
                    entries.append(above)
                    node.append(-1)
                    size.append(1)
                stack.append((own[: at + 1], len(entries) - 1))
                at = own.find(b"\0", at + 1)
            scope = stack[-1][0] if stack else b""
            inside = stack[-1][1] if stack else -1
        entries.append(own)
        node.append(number)
        parent.append(inside)
        size.append(1)
    for _, closed in stack:
        size[closed] = len(entries) - closed
    built.scopes = len(entries) - len(order)
    _cut(nodes, built, entries, *(np.array(column, np.int64) for column in (node, parent, size)))


def _cut(nodes: _Nodes, built: Built, keys: list[bytes], node: Places, parent: Places, size: Places) -> None:
    """Make chunks of entries in order."""
    import numpy as np

    count = len(keys)
    real = node >= 0
    numbers = node[real]
    columns: dict[str, npt.NDArray[Any]] = {"size": size}
    columns["children"] = np.bincount(parent[parent >= 0], minlength=count)
    before = np.concatenate(([0], np.cumsum(real)))
    columns["nodes"] = before[np.arange(count) + size] - before[:-1]
    starts, stops = np.array(nodes.starts, np.int64), np.array(nodes.stops, np.int64)
    for name, values in (("offset", starts), ("length", stops - starts), ("what", np.array(nodes.what, np.int64))):
        columns[name] = np.zeros(count, np.int64)
        columns[name][real] = values[numbers]
    types = np.full(count, -1, np.int32)
    types[real] = np.array(nodes.types, np.int32)[numbers]
    place = np.empty(len(starts), np.uint32)  # of each node, its entry
    place[numbers] = np.flatnonzero(real)
    del starts, stops, before, numbers
    ins, outs, in_ends, out_ends = _edges(nodes, place, count)
    named = np.cumsum([len(own) for own in keys])
    edges = in_ends + out_ends
    names = list(nodes.codes)
    first = 0
    while first < count:
        ends = [first + CHUNK_ENTRIES]
        for total, most in ((named, CHUNK_NAMES), (edges, CHUNK_EDGES)):
            ends.append(int(np.searchsorted(total, (total[first - 1] if first else 0) + most)) + 1)
        last = min(count, max(first + 1, min(ends)))
        part = {name: values[first:last] for name, values in columns.items()}
        kinds, codes = np.unique(types[first:last], return_inverse=True)
        known = kinds >= 0
        part["type"] = np.where(types[first:last] >= 0, codes - int((~known).sum()), _NO_TYPE)
        part["name"] = named[first:last] - (named[first - 1] if first else 0)
        cut = {}
        for which, values, bounds in (("ins", ins, in_ends), ("outs", outs, out_ends)):
            low = int(bounds[first - 1]) if first else 0
            part[which] = bounds[first:last] - low
            cut[which] = values[low : int(bounds[last - 1])]
        built.pieces.append(_piece(first, keys[first:last], [names[i] for i in kinds[known].tolist()], part, cut))
        first = last


def _edges(nodes: _Nodes, place: npt.NDArray[np.uint32], count: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the edges into and out of each entry, as the other end and _CONTROL, and where those of each end."""
    import numpy as np

    to = place[np.concatenate([np.empty(0, np.int32), *nodes.to])]
    source = np.concatenate([np.empty(0, np.int32), *nodes.source])
    control = np.concatenate([np.empty(0, np.bool_), *nodes.control]).astype(np.uint32) << np.uint32(31)
    nodes.to, nodes.source, nodes.control = [], [], []
    there = source >= 0
    sources = place[source]
    sources[~there] = UNKNOWN
    ins = (sources | control)[np.argsort(to, kind="stable")]
    in_ends = np.cumsum(np.bincount(to, minlength=count))
    to, sources, control = to[there], sources[there], control[there]
    outs = (to | control)[np.argsort(sources, kind="stable")]
    return ins, outs, in_ends, np.cumsum(np.bincount(sources, minlength=count))


def _piece(start: int, keys: list[bytes], types: list[bytes], columns: dict[str, Any], edges: dict[str, Any]) -> Piece:
    import numpy as np

    kinds = b"".join(struct.pack("<I", len(type_)) + type_ for type_ in types)
    text = b"".join(keys)
    parts = [_HEAD.pack(len(keys), len(types), len(kinds), len(text), len(edges["ins"]), len(edges["outs"]))]
    layout = {"I": "<u4", "Q": "<u8", "H": "<u2", "B": "u1"}
    parts += [np.asarray(columns[name]).astype(layout[code]).tobytes() for name, code in _COLUMNS]
    parts += [np.asarray(edges[which]).astype("<u4").tobytes() for which in ("ins", "outs")]
    return Piece(start, keys[0][:FIRST_BYTES], len(keys), zlib.compress(b"".join([*parts, kinds, text]), 1))


# Reading --------------------------------------------------------------------------------------------------------------
_FROM_KEY = bytes(map(_TO_KEY.index, range(256)))


class Entry(NamedTuple):
    """A node or a scope."""

    number: int
    name: bytes
    what: int  # SCOPE, NODE, PARAMETER, CONSTANT
    type: bytes | None  # of a node
    size: int  # entries of its subtree, itself counted
    children: int
    nodes: int  # in its subtree, itself counted
    offset: int  # of a node's message in the payload
    length: int


class Edge(NamedTuple):
    """One end of an edge."""

    number: int | None  # of an entry; None: no node has its name
    control: bool


class Chunk:
    """A chunk as it is read back."""

    def __init__(self, start: int, data: bytes) -> None:
        raw = zlib.decompress(data)
        self.start = start
        self.count: int
        self.count, types, _, text, ins, outs = _HEAD.unpack_from(raw)
        at = _HEAD.size
        self.columns: dict[str, array[int]] = {}
        for name, code in _COLUMNS:
            self.columns[name], at = _column(raw, at, code, self.count)
        self.edges: dict[str, array[int]] = {}
        self.edges["ins"], at = _column(raw, at, "I", ins)
        self.edges["outs"], at = _column(raw, at, "I", outs)
        self.types = []
        for _ in range(types):
            (length,) = struct.unpack_from("<I", raw, at)
            self.types.append(raw[at + 4 : at + 4 + length])
            at += 4 + length
        self.keys = raw[at : at + text]

    @property
    def stop(self) -> int:
        """Number behind its last entry."""
        return self.start + self.count

    def key(self, number: int) -> bytes:
        """Return what an entry is sorted by."""
        ends, i = self.columns["name"], number - self.start
        return self.keys[ends[i - 1] if i else 0 : ends[i]]

    def name(self, number: int) -> bytes:
        """Return the name of an entry."""
        return self.key(number).translate(_FROM_KEY)

    @property
    def names(self) -> bytes:
        """All names, one behind the other."""
        return self.keys.translate(_FROM_KEY)

    def entry(self, number: int) -> Entry:
        """Return an entry."""
        c, i = self.columns, number - self.start
        type_ = None if c["type"][i] == _NO_TYPE else self.types[c["type"][i]]
        return Entry(
            number,
            self.name(number),
            c["what"][i],
            type_,
            c["size"][i],
            c["children"][i],
            c["nodes"][i],
            c["offset"][i],
            c["length"][i],
        )

    def ends(self, number: int, which: str, limit: int) -> tuple[list[Edge], int]:
        """Return the first edges into an entry, in the order of its inputs, or out of it, and how many there are.

        which: `ins` or `outs`.
        """
        bounds, i = self.columns[which], number - self.start
        first, last = (bounds[i - 1] if i else 0), bounds[i]
        found = []
        for value in self.edges[which][first : min(last, first + limit)]:
            other = value & ~_CONTROL
            found.append(Edge(None if other == UNKNOWN else other, bool(value & _CONTROL)))
        return found, last - first


_ITEM = {4: "I", 8: "Q", 2: "H", 1: "B"}
_SIZES = {"I": 4, "Q": 8, "H": 2, "B": 1}


def _column(raw: bytes, at: int, code: str, count: int) -> tuple[array[int], int]:
    size = _SIZES[code] * count
    column = array(code, raw[at : at + size])
    if sys.byteorder == "big":
        column.byteswap()
    return column, at + size
