"""REST v1 for what is in a graph: nodes by scope, nodes by text, one node. Only the chunks that are asked for are read.

`indexer.graphs` says what a chunk is. A request's work is bounded by what it may return, and a search by CHUNKS_A_PAGE.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, text
from werkzeug.wrappers import Response

from indexer import graphs, nodes
from indexer.graphs import Chunk, Edge, Entry
from webapi import blobs, kinds, respond, v1
from webapi.errors import Malformed, Unknown
from webapi.parameters import MAX_NAME, Kind, Parameter, Values
from webapi.v1 import AFTER, LIMIT, Route

CHUNKS_AT_ONCE = 16
CHUNKS_A_PAGE = 512
"""A search looks at so many (half a million nodes), then it answers with a short page."""
MAX_EDGES = 1_000
MAX_SAME = 16
"""Nodes of one name that are shown: in a sound graph there is one."""
MAX_MESSAGE_BYTES = 4 * 2**20
"""Read of one node's message: a longer one is a constant, whose value is not shown anyway."""
_UNPACKED_BYTES = 2**20
WHAT = ("scope", "node", "parameter", "constant")

_ADDRESS = "/graphs/{tag}/{step}/{seq}"
NODES = Route(
    f"{_ADDRESS}/nodes",
    "graphNodes",
    "What is in a graph",
    "What lies directly in a scope, by name: nodes, and scopes with how much is in them. With `search`, what lies"
    " anywhere in it and has the text in its own part of the name. MindSpore's parameters and constants are in the"
    " scopes `__parameters__` and `__constants__`, functions of TensorBoard's graphs in `__function_library__`."
    " A page of a search may hold fewer items than `limit`: go on while there is `next`.",
    (
        Parameter("scope", Kind.TEXT, "Name of a scope. Absent or empty: the whole graph.", max_length=MAX_NAME),
        Parameter("search", Kind.TEXT, "Text in the last part of the name, upper and lower case alike.", min_length=1),
        LIMIT,
        AFTER,
    ),
    "GraphNodePage",
    (404,),
)
NODE = Route(
    f"{_ADDRESS}/node",
    "graphNode",
    "One node of a graph",
    "What the graph says of a node: its inputs in their order, the nodes that take its output, its attributes. Lists"
    " are cut to `limit`; the counts say how many there are. Several nodes of one name are several items.",
    (
        Parameter("name", Kind.TEXT, "Name of the node or scope.", max_length=MAX_NAME, example="Default/conv1"),
        Parameter(
            "limit", Kind.INTEGER, "Inputs and outputs at most, each.", default=100, minimum=1, maximum=MAX_EDGES
        ),
    ),
    "GraphNodeList",
    (404,),
)
ROUTES = (NODES, NODE)
View = Callable[[Connection, blobs.BlobRow, Values], Response]


def rule(route: Route) -> str:
    """Return a route's path as Flask writes it."""
    parts = {"{tag}": "<int:tag>", "{step}": "<int(signed=True):step>", "{seq}": "<int:seq>"}
    return v1.BASE + "/".join(parts.get(part, part) for part in route.path.split("/"))


# Chunks ---------------------------------------------------------------------------------------------------------------
class Graph:
    """The chunks of one graph; the one that was read last is kept."""

    def __init__(self, conn: Connection, key: blobs.Key) -> None:
        self._conn = conn
        self._key = dict(zip(("tag", "step", "seq"), key[:3], strict=True))
        self._last: Chunk | None = None

    def at(self, number: int) -> Chunk | None:
        """Return the chunk that holds an entry; None behind the last."""
        if self._last is None or not self._last.start <= number < self._last.stop:
            self._last = next(self._read("start <= :number", "start DESC", 1, number=number), None)
        return self._last if self._last is not None and number < self._last.stop else None

    def following(self, number: int) -> Iterator[Chunk]:
        """Yield the chunk that holds an entry, and those behind it."""
        chunk = self.at(number)
        while chunk is not None:
            yield chunk
            several = list(self._read("start > :number", "start", CHUNKS_AT_ONCE, number=chunk.start))
            yield from several[:-1]
            chunk = several[-1] if several else None

    def entry(self, number: int) -> Entry | None:
        """Return an entry; None behind the last."""
        chunk = self.at(number)
        return None if chunk is None else chunk.entry(number)

    def named(self, name: bytes) -> list[int]:
        """Return the entries of a name, MAX_SAME at most."""
        key = graphs.key(name)
        before = next(
            self._rows("start", "first < :cut", "first DESC, start DESC", 1, cut=key[: graphs.FIRST_BYTES]), None
        )
        found: list[int] = []
        for chunk in self.following(before[0] if before else 0):
            number = _bisect(chunk, key)
            while number < chunk.stop and len(found) < MAX_SAME and chunk.key(number) == key:
                found.append(number)
                number += 1
            if number < chunk.stop:
                break
        return found

    def _read(self, where: str, order: str, limit: int, **values: Any) -> Iterator[Chunk]:
        for start, data in self._rows("start, data", where, order, limit, **values):
            yield Chunk(start, bytes(data))

    def _rows(self, columns: str, where: str, order: str, limit: int, **values: Any) -> Iterator[Any]:
        query = (
            f"SELECT {columns} FROM graph_chunks WHERE tag_id = :tag AND step = :step AND seq = :seq"  # noqa: S608
            f" AND {where} ORDER BY {order} LIMIT {limit}"  # values are bound
        )
        yield from self._conn.execute(text(query), self._key | values)


def _bisect(chunk: Chunk, key: bytes) -> int:
    """Return the first entry of a chunk that is not below `key`; its end where all are."""
    low, high = chunk.start, chunk.stop
    while low < high:
        middle = (low + high) // 2
        if chunk.key(middle) < key:
            low = middle + 1
        else:
            high = middle
    return low


# Requests -------------------------------------------------------------------------------------------------------------
def found(conn: Connection, key: blobs.Key) -> blobs.BlobRow:
    """Return the row of a graph. Unknown where there is none, or it could not be taken apart."""
    kind, row = kinds.found(conn, key)
    if kind.path != "/graphs":
        raise Unknown("tag", f"there is no graph at {v1.address(key)}, but one of {kind.title.lower()}")
    if row.stored.error is not None:
        raise Unknown("tag", f"this graph could not be taken apart: {row.stored.error}")
    return row


def page(conn: Connection, row: blobs.BlobRow, values: Values) -> Response:
    """Render what is in a scope."""
    graph, name, search = Graph(conn, row.key), values.text("scope") or "", values.text("search")
    first, last = 0, 2**31 - 1
    if name:
        scope = _one(graph, name, "scope")
        first, last = scope.number + 1, scope.number + scope.size
    if (given := values.text("after")) is not None:
        (position,) = respond.position(given, NODES.name, respond.Small)
        if not first <= position < last:
            raise Malformed("after", "is no cursor of this scope: take `next` of an earlier page of it")
        first = position
    limit = values.count("limit")
    items, following = (
        _children(graph, first, last, limit) if search is None else _search(graph, first, last, limit, search)
    )
    body = {
        "items": [_item(entry) for entry in items],
        "next": None if following is None else respond.cursor(NODES.name, following),
    }
    return Response(respond.encode(body), content_type=respond.JSON)


def _children(graph: Graph, first: int, last: int, limit: int) -> tuple[list[Entry], int | None]:
    items: list[Entry] = []
    number = first
    while number < last and (entry := graph.entry(number)) is not None:
        if len(items) == limit:
            return items, number
        items.append(entry)
        number += entry.size
    return items, None


def _search(graph: Graph, first: int, last: int, limit: int, wanted: str) -> tuple[list[Entry], int | None]:
    wanted, items = wanted.lower(), list[Entry]()
    for count, chunk in enumerate(graph.following(first)):
        if chunk.start >= last:
            break
        if count == CHUNKS_A_PAGE:
            return items, chunk.start
        if wanted not in _shown(chunk.names).lower():
            continue
        for number in range(max(first, chunk.start), min(last, chunk.stop)):
            name = _shown(chunk.name(number)).lower()
            at = name.rfind(wanted)
            if at >= 0 and "/" not in name[at + len(wanted) :]:
                if len(items) == limit:
                    return items, number
                items.append(chunk.entry(number))
    return items, None


def detail(conn: Connection, row: blobs.BlobRow, values: Values) -> Response:
    """Render the nodes of a name."""
    graph, name, limit = Graph(conn, row.key), values.word("name"), values.count("limit")
    numbers = graph.named(_bytes(name))
    if not numbers:
        raise _unknown(name, "name")
    items = [_detail(conn, graph, row, number, limit) for number in numbers]
    return Response(respond.encode({"items": items}), content_type=respond.JSON)


def _detail(conn: Connection, graph: Graph, row: blobs.BlobRow, number: int, limit: int) -> dict[str, Any]:
    chunk = graph.at(number)
    assert chunk is not None  # noqa: S101  # it was found there
    entry = chunk.entry(number)
    (ins, inputs), (outs, outputs) = (chunk.ends(number, which, limit) for which in ("ins", "outs"))
    said: dict[str, Any] = {"inputs": [], "attributes": [], "attribute_count": 0}
    if entry.length:
        message = _message(conn, row, entry.offset, min(entry.length, MAX_MESSAGE_BYTES))
        said = nodes.describe(message, row.stored.facts["content"], entry.what)
    written = said.pop("inputs")
    others = _entries(graph, [edge.number for edge in (*ins, *outs) if edge.number is not None])
    return {
        **_item(entry),
        "inputs": [
            {"written": written[i] if i < len(written) else None, **_end(edge, others)} for i, edge in enumerate(ins)
        ],
        "input_count": inputs,
        "outputs": [_end(edge, others) for edge in outs],
        "output_count": outputs,
        **{name: said.pop(name, None) for name in ("data_type", "shape", "device")},
        "attributes": said.pop("attributes"),
        "attribute_count": said.pop("attribute_count"),
        "more": said,
    }


def _entries(graph: Graph, numbers: Sequence[int]) -> dict[int, Entry]:
    """Return entries; each chunk is read once."""
    return {number: entry for number in sorted(set(numbers)) if (entry := graph.entry(number)) is not None}


def _end(edge: Edge, others: dict[int, Entry]) -> dict[str, Any]:
    other = None if edge.number is None else others.get(edge.number)
    return {
        "node": None if other is None else _shown(other.name),
        "type": None if other is None or other.type is None else _shown(other.type),
        "control": edge.control,
    }


def _item(entry: Entry) -> dict[str, Any]:
    name = _shown(entry.name)
    scope = _shown(graphs.scope_of(entry.name))
    return {
        "name": name,
        "label": name[len(scope) + 1 :] if scope else name,
        "scope": scope,
        "kind": WHAT[entry.what],
        "type": None if entry.type is None else _shown(entry.type),
        "children": entry.children,
        "nodes": entry.nodes,
    }


def _one(graph: Graph, name: str, parameter: str) -> Entry:
    """Return the entry of a name; of several the last, for that is the one with children."""
    numbers = graph.named(_bytes(name))
    entry = graph.entry(numbers[-1]) if numbers else None
    if entry is None:
        raise _unknown(name, parameter)
    return entry


def _unknown(name: str, parameter: str) -> Unknown:
    return Unknown(parameter, f"the graph has nothing of the name {name[:200]!r}: its list of nodes has the names")


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


# The message of a node ------------------------------------------------------------------------------------------------
def _message(conn: Connection, row: blobs.BlobRow, offset: int, length: int) -> bytes:
    """Return some bytes of a payload, without holding all of it decoded."""
    if row.encoding == "ref":
        return kinds.part(conn, row, offset, length)
    names = ("tag", "step", "seq", "ordinal")
    where = "FROM blobs WHERE tag_id = :tag AND step = :step AND seq = :seq AND ordinal = :ordinal"
    key = dict(zip(names, row.key, strict=True))
    if row.encoding == "zlib":
        packed = bytes(conn.execute(text(f"SELECT data {where}"), key).scalar_one())
        return _inflated(packed, offset, length)
    cut = text(f"SELECT substr(data, :first, :length) {where}")  # values are bound
    return bytes(conn.execute(cut, key | {"first": offset + 1, "length": length}).scalar_one())


def _inflated(packed: bytes, offset: int, length: int) -> bytes:
    unpacker, found, at = zlib.decompressobj(), list[bytes](), 0
    while at < offset + length and not unpacker.eof:
        part = unpacker.decompress(packed, _UNPACKED_BYTES)
        packed = unpacker.unconsumed_tail
        if not part:
            break
        if at + len(part) > offset:
            found.append(part[max(0, offset - at) : offset + length - at])
        at += len(part)
    return b"".join(found)
