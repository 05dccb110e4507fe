"""Graphs: the serialized message as the writer made it, counts of what is in it, and chunks that show it by scope."""

from __future__ import annotations

from indexer import graphs
from indexer.payload import OCTETS, Example, Graph, Kind, Stored, Strings, Table, shown
from indexer.types import Blob

_STATS = ("nodes", "edges", "parameters", "constants", "outputs", "functions", "scopes")
_JSON = "application/json"
_SPACE = b" \t\r\n"


def decode(value: Graph | Strings) -> list[Blob] | None:
    """Return the graph with its counts and its index; what cannot be taken apart is kept with the reason."""
    if isinstance(value, Strings):
        if len(value.items) != 1:
            return None  # not one blob, as these plugins write
        data = value.items[0]
        model = data[:64].lstrip(_SPACE)[:1] == b"{"  # no run metadata begins like this
        value = Graph(data, graphs.KERAS_MODEL if model else graphs.RUN_METADATA)
    error, rows, size = None, None, 0
    try:
        built = graphs.build(value.data, value.content)
    except ValueError as e:
        error = str(e)
    else:
        stats = tuple(getattr(built, name) for name in _STATS)
        rows = {"graph_stats": [stats], "graph_chunks": [tuple(piece) for piece in built.pieces]}
        size = sum(len(piece.data) for piece in built.pieces)
    content_type = _JSON if value.content == graphs.KERAS_MODEL and error is None else OCTETS
    facts = {"content": value.content}
    return [Blob("graph", value.data, content_type, facts=facts, error=error, packs=True, rows=rows, row_bytes=size)]


def describe(stored: Stored) -> dict[str, object]:
    """Return which message it is, and its counts."""
    return shown(**stored.facts, **stored.row)


def _count(description: str) -> dict[str, object]:
    return {"type": "integer", "description": description}


_EXAMPLE = b"\x0a\x0a\x0a\x01x\x12\x05Const" + b"\x0a\x0f\x0a\x05net/a\x12\x03Add\x1a\x01x"

KIND = Kind(
    name="graph",
    path="/graphs",
    title="Graphs",
    about="Graphs of MindSpore (in event files, and `.pb` files) and of TensorBoard, run metadata, Keras models. `url`"
    " gives the message as written, `nodes_url` what is in it, scope by scope.",
    takes={
        Graph: None,
        Strings: frozenset({"graph_run_metadata", "graph_run_metadata_graph", "graph_keras_model"}),
    },
    decode=decode,
    metadata={
        "content": {
            "type": "string",
            "description": "Which message it is: mindspore_graph (GraphProto), mindspore_model (ModelProto), graph_def,"
            " meta_graph_def, run_metadata, or keras_model (JSON).",
        },
        "nodes": _count("Operators, those of functions left out."),
        "edges": _count("Inputs they have."),
        "parameters": _count("Of MindSpore."),
        "constants": _count("Of MindSpore."),
        "outputs": _count("Of MindSpore: of the graph."),
        "functions": _count("Of TensorBoard: in the graph's library."),
        "scopes": _count("Scopes that are no node themselves."),
    },
    describe=describe,
    links={"nodes_url": ("/graphs/{}/{}/{}/nodes", "Path of the list of its nodes: add `scope=` or `search=`.")},
    tables=(Table("graph_stats", _STATS), Table("graph_chunks", graphs.Piece._fields, single=False)),
    examples=(
        Example(
            Graph(_EXAMPLE, graphs.GRAPH_DEF),
            "graphs",
            {
                "metadata": {
                    "content": "graph_def",
                    "nodes": 2,
                    "edges": 1,
                    "parameters": 0,
                    "constants": 0,
                    "outputs": 0,
                    "functions": 0,
                    "scopes": 1,
                }
            },
        ),
    ),
)
