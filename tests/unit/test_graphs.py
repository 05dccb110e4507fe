"""Graphs without any database: what is in a message, in which order, and what is said of one node."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from indexer import fields, graphs, nodes
from indexer.decode.event import LONG_BYTES, long_graph
from indexer.payload import Graph, Strings
from indexer.plugins import graph
from indexer.types import Blob
from tests.support.messages import ms_graph, ms_node, tb_graph, tb_node
from tests.support.program import PATIENCE_SECONDS, environment
from tests.support.records import bytes_field, event, float_field, varint_field


def entries(built: graphs.Built) -> list[graphs.Entry]:
    """Return all entries of a graph in their order."""
    chunks = [graphs.Chunk(piece.start, piece.data) for piece in built.pieces]
    assert [piece.entries for piece in built.pieces] == [chunk.count for chunk in chunks]
    return [chunk.entry(number) for chunk in chunks for number in range(chunk.start, chunk.stop)]


def only(value: Graph | Strings) -> Blob:
    """Return the blob of a value."""
    (blob,) = graph.decode(value) or [Blob("none", None)]
    return blob


def edges(built: graphs.Built) -> dict[str, tuple[list[str | None], list[str | None]]]:
    """Return name → names of its inputs and of those that take it."""
    names = [entry.name.decode() for entry in entries(built)]
    found = {}
    for piece in built.pieces:
        chunk = graphs.Chunk(piece.start, piece.data)
        for number in range(chunk.start, chunk.stop):
            ends = [chunk.ends(number, which, 100)[0] for which in ("ins", "outs")]
            shown = [[None if e.number is None else "^" * e.control + names[e.number] for e in some] for some in ends]
            if shown[0] or shown[1]:
                found[names[number]] = (shown[0], shown[1])
    return found


def test_a_graph_gives_the_same_bytes_in_every_process() -> None:
    """How a process hashes does not show, so that a file read again can be compared with what was stored of it."""
    program = (
        "from hashlib import sha256; from indexer import graphs; from tests.support.messages import tb_graph, tb_node;"
        "built = graphs.build(tb_graph([tb_node(f'n{i}', f'Op{i}') for i in range(20)]), 'graph_def');"
        "print(sha256(b''.join(piece.data for piece in built.pieces)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment() | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        ).stdout
        for seed in "123"
    }
    assert 1 == len(found)


def test_nodes_are_in_scopes() -> None:
    """Every part of a name but the last is a scope; it is followed by all that is in it, and knows how much that is."""
    built = graphs.build(tb_graph([tb_node(n, "Op") for n in ("b", "a/x", "a-b/c", "a/y/z", "a")]), "graph_def")
    found = [(e.name.decode(), e.what, e.size, e.children, e.nodes) for e in entries(built)]
    assert [
        ("a", graphs.NODE, 4, 2, 3),
        ("a/x", graphs.NODE, 1, 0, 1),
        ("a/y", graphs.SCOPE, 2, 1, 1),
        ("a/y/z", graphs.NODE, 1, 0, 1),
        ("a-b", graphs.SCOPE, 2, 1, 1),
        ("a-b/c", graphs.NODE, 1, 0, 1),
        ("b", graphs.NODE, 1, 0, 1),
    ] == found
    assert (5, 0, 2) == (built.nodes, built.edges, built.scopes)


def test_inputs_of_tensorboard_are_found() -> None:
    """With an output's number, as control edges, and not at all; both ends know of them."""
    made = tb_graph([tb_node("s/a", "A", ["b:1", "^b", "gone"]), tb_node("b", "B"), tb_node("c", "C", ["b"])])
    built = graphs.build(made, "graph_def")
    expected = {"s/a": (["b", "^b", None], []), "c": (["b"], []), "b": ([], ["s/a", "^s/a", "c"])}
    assert expected == edges(built)
    assert 4 == built.edges


def test_names_of_mindspore_are_those_of_mindinsight() -> None:
    """The full name; without one scope, type and id; so too where the full name ends like a summary's."""
    made = ms_graph(
        [
            ms_node("1", "Load", ["w", "c"], full_name="Default/net/Load-op7"),
            ms_node("Default/net/ReLU-op2", "ReLU", ["1"], scope="Default/net"),
            ms_node("3", "ScalarSummary", ["Default/x/ReLU-op2", "^1"], scope="Default", full_name="loss[:Scalar]"),
        ],
        ["w"],
        ["c"],
    )
    built = graphs.build(made, "mindspore_graph")
    load, relu, summary = "Default/net/Load-op7", "Default/net/ReLU-op2", "Default/ScalarSummary-op3"
    assert {
        load: (["__parameters__/w", "__constants__/c"], [relu, "^" + summary]),
        relu: ([load], [summary]),
        summary: ([relu, "^" + load], []),
        "__parameters__/w": ([], [load]),
        "__constants__/c": ([], [load]),
    } == edges(built)
    assert (3, 5, 1, 1) == (built.nodes, built.edges, built.parameters, built.constants)


def test_functions_have_a_scope_of_their_own() -> None:
    """Nodes of a function find each other, are counted apart, and hide none of the graph."""
    inside = [tb_node("a", "Inner"), tb_node("b", "Inner", ["a:out:0"])]
    built = graphs.build(tb_graph([tb_node("a", "Outer")], [("f", inside)]), "graph_def")
    assert (1, 0, 1) == (built.nodes, built.edges, built.functions)
    lib = "__function_library__/f/"
    assert {lib + "b": ([lib + "a"], []), lib + "a": ([], [lib + "b"])} == edges(built)
    assert ["Outer"] == [e.type.decode() for e in entries(built) if e.name == b"a" and e.type]


def test_run_metadata_and_meta_graphs_carry_graphs() -> None:
    """Of several graphs each has a scope; one alone has none; metadata without any is none the worse."""
    one = tb_graph([tb_node("n", "Op")])
    traced = bytes_field(4, bytes_field(2, one)) + bytes_field(3, one)
    assert ["graph_0", "graph_0/n", "graph_1", "graph_1/n"] == [
        e.name.decode() for e in entries(graphs.build(traced, "run_metadata"))
    ]
    assert [b"n"] == [e.name for e in entries(graphs.build(bytes_field(3, one), "run_metadata"))]
    assert [b"n"] == [e.name for e in entries(graphs.build(bytes_field(2, one), "meta_graph_def"))]
    assert graphs.Built() == graphs.build(bytes_field(1, b""), "run_metadata")


def test_layers_of_a_keras_model_are_nodes() -> None:
    """With the models inside it, and the tensors that each layer takes, in both ways they are written."""
    inner = {"class_name": "Sequential", "config": {"name": "m", "layers": [{"class_name": "ReLU", "name": "r"}]}}
    dense = {"class_name": "Dense", "config": {"name": "d"}, "inbound_nodes": [[["m", 0, 0, {}]]]}
    history = {"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["d", 0, 0]}}]}
    layers = [inner, dense, {"class_name": "Add", "config": {"name": "a"}, "inbound_nodes": [history]}]
    model = json.dumps({"class_name": "Functional", "config": {"layers": layers}}).encode()
    blob = only(Strings((), (model,)))
    assert ({"content": "keras_model"}, "application/json", None) == (blob.facts, blob.content_type, blob.error)
    built = graphs.build(model, "keras_model")
    assert ["a", "d", "m", "m/r"] == [entry.name.decode() for entry in entries(built)]
    assert {"d": (["m"], ["a"]), "m": ([], ["d"]), "a": (["d"], [])} == edges(built)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"\x0a\x05ab", graphs.GRAPH_DEF),
        (b"\x0b", graphs.GRAPH_DEF),
        (b"\x00\x00", graphs.GRAPH_DEF),
        (b"\x0a\x03\x0a\x05a", graphs.GRAPH_DEF),
        (b"\xff" * 20, graphs.RUN_METADATA),
        (b"", graphs.MINDSPORE_MODEL),
        (b"\x08\x01", graphs.MINDSPORE_MODEL),
        (b"{not json", graphs.KERAS_MODEL),
    ],
)
def test_what_is_no_graph_is_kept_with_the_reason(data: bytes, content: str) -> None:
    """Cut, senseless or empty bytes are stored as they are, with an error."""
    blob = only(Graph(data, content))
    assert (data, None) == (blob.data, blob.rows)
    assert blob.error


def test_a_graph_of_too_many_nodes_is_not_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and nothing is read behind the limit."""
    monkeypatch.setattr(graphs, "MAX_NODES", 1)
    blob = only(Graph(tb_graph([tb_node("a", "A"), tb_node("b", "B")]), graphs.GRAPH_DEF))
    assert fields.MORE == blob.error


def test_chunks_end_by_entries_names_and_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are cut, the entries are the same, and each chunk knows the first of its names."""
    made = tb_graph(
        [tb_node(f"s{i % 7}/n{i}", f"T{i % 3}", [f"s{j % 7}/n{j}" for j in range(i % 4)]) for i in range(90)]
    )
    whole = graphs.build(made, "graph_def")
    assert 1 == len(whole.pieces)
    for name, most in (("CHUNK_ENTRIES", 10), ("CHUNK_NAMES", 50), ("CHUNK_EDGES", 7)):
        with monkeypatch.context() as patch:
            patch.setattr(graphs, name, most)
            cut = graphs.build(made, "graph_def")
        assert len(cut.pieces) > 5
        assert (entries(whole), edges(whole)) == (entries(cut), edges(cut))
        assert [graphs.key(entries(whole)[piece.start].name) for piece in cut.pieces] == [p.first for p in cut.pieces]


def test_a_long_graph_is_found_in_its_record() -> None:
    """A record of clock, step and graph needs no protobuf, and is not copied; any other does."""
    inside = bytes(LONG_BYTES)
    record = event(2.5, bytes_field(4, inside), -3)
    found = long_graph(record)
    assert found is not None
    assert (2.5, -3, inside) == (found.wall_time, found.step, bytes(found.graph))
    assert found.graph.obj is record
    for other in (
        event(2.5, bytes_field(4, b"short")),
        record[9:],
        record[:-1],
        record + varint_field(99, 1),
        record * 2,
    ):
        assert long_graph(other) is None


# One node -------------------------------------------------------------------------------------------------------------
def attribute(value: bytes) -> bytes:
    """Return an entry of a NodeDef's attributes."""
    return bytes_field(5, bytes_field(1, b"x") + bytes_field(2, value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (bytes_field(2, b"VALID"), {"type": "s", "value": "VALID"}),
        (varint_field(3, -2), {"type": "i", "value": -2}),
        (float_field(4, 0.5), {"type": "f", "value": 0.5}),
        (varint_field(5, 1), {"type": "b", "value": True}),
        (varint_field(6, 1), {"type": "type", "value": "DT_FLOAT"}),
        (varint_field(6, 101), {"type": "type", "value": "DT_FLOAT_REF"}),
        (varint_field(6, 99), {"type": "type", "value": "type 99"}),
        (bytes_field(7, bytes_field(2, varint_field(1, -1))), {"type": "shape", "value": [-1]}),
        (bytes_field(8, varint_field(1, 3)), {"type": "tensor", "value": {"dtype": "DT_INT32", "shape": []}}),
        (bytes_field(10, bytes_field(1, b"f")), {"type": "func", "value": "f"}),
        (bytes_field(1, bytes_field(3, b"\x01\x02")), {"type": "list", "value": [1, 2]}),
        (bytes_field(2, bytes(2_000)), {"type": None, "value": None, "bytes": 2_003}),
        (b"", {"type": None, "value": None}),
    ],
)
def test_attributes_of_tensorboard_are_shown(value: bytes, expected: dict[str, Any]) -> None:
    """Each kind of value; a long one by its length."""
    found = nodes.describe(tb_node("n", "Op", attributes=attribute(value)), "graph_def", graphs.NODE)
    assert [{"name": "x", **expected}] == found["attributes"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (varint_field(1, 5) + varint_field(3, -7), {"type": "DT_INT64", "value": -7}),
        (varint_field(1, 1) + varint_field(2, 0), {"type": "DT_BOOL", "value": False}),
        (varint_field(1, 13) + bytes_field(7, b"NCHW"), {"type": "DT_STRING", "value": "NCHW"}),
        (
            varint_field(1, 31) + bytes_field(18, varint_field(3, 1)) + bytes_field(18, varint_field(3, 2)),
            {"type": "DT_TUPLE", "value": [1, 2]},
        ),
        (
            varint_field(1, 14) + bytes_field(8, varint_field(1, 2) + varint_field(2, 11)),
            {"type": "DT_TENSOR", "value": {"dtype": "DT_FLOAT32", "shape": [2]}},
        ),
        (varint_field(1, 13) + bytes_field(7, bytes(2_000)), {"type": "DT_STRING", "value": None, "bytes": 2_005}),
    ],
)
def test_attributes_of_mindspore_are_shown(value: bytes, expected: dict[str, Any]) -> None:
    """Each kind of value; a long one by its type and length; a constant's likewise."""
    node = bytes_field(5, bytes_field(1, b"x") + bytes_field(2, value))
    assert [{"name": "x", **expected}] == nodes.describe(node, "mindspore_graph", graphs.NODE)["attributes"]
    constant = nodes.describe(bytes_field(2, value), "mindspore_model", graphs.CONSTANT)
    assert [{"name": "value", **expected}] == constant["attributes"]


def test_attributes_are_bounded() -> None:
    """So many are shown and all are counted; what a cut message still says is said."""
    node = tb_node("n", "Op", ["a"], b"".join(attribute(varint_field(3, i)) for i in range(300)))
    found = nodes.describe(node, "graph_def", graphs.NODE)
    assert (nodes.MAX_ATTRIBUTES, 300) == (len(found["attributes"]), found["attribute_count"])
    cut = nodes.describe(node[:-3], "graph_def", graphs.NODE)
    assert (["a"], 299) == (cut["inputs"], cut["attribute_count"])
