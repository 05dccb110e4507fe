"""Graphs as MindInsight draws them, step by step of its specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.messages import ms_graph, ms_node
from tests.support.records import bytes_field, varint_field
from webapi.mindinsight.tree import Tree, build, render


def drawn(
    nodes: Sequence[bytes], parameters: Sequence[str] = (), constants: Sequence[str] = (), *, optimize: bool = False
) -> Tree:
    """Return a graph of nodes, parameters and constants."""
    data = ms_graph(nodes, parameters, constants)
    return build(data, 0, len(data), optimize=optimize)


def op(number: int, type_: str, inputs: Sequence[str] = (), scope: str = "Default", **more: Any) -> bytes:
    """Return an operator with a number for its name."""
    return ms_node(str(number), type_, inputs, scope=scope, **more)


def typed(node: bytes, element: int, *dims: int) -> bytes:
    """Return a node whose output is a tensor."""
    shape = b"".join(bytes_field(1, varint_field(1, size)) for size in dims)
    inner = varint_field(1, element) + bytes_field(2, shape)
    return node + bytes_field(6, varint_field(1, 14) + bytes_field(2, inner))


def attribute(name: str, value: bytes) -> bytes:
    """Return an attribute of a node."""
    return bytes_field(5, bytes_field(1, name.encode()) + bytes_field(2, value))


def names(tree: Tree, scope: str = "") -> list[str]:
    """Return what lies in a scope."""
    return [node.name for node in tree.scope(scope)]


def shown(tree: Tree, name: str) -> dict[str, Any]:
    """Return a node as answers have it."""
    return render(tree, tree.nodes[name])


SIX = [op(n, "ReLU", ["x"] if n == 1 else [str(n - 1)], "Default/net") for n in range(1, 7)]


def test_like_operators_become_a_group() -> None:
    """The example of the specification: six operators, and a parameter that goes into their scope."""
    tree = drawn(SIX, ["x", "unused"])
    assert ["Default"] == names(tree)
    assert ["Default/net"] == names(tree, "Default")
    group = "Default/net/ReLU[6]_0"
    assert ["Default/net/x", group] == names(tree, "Default/net")
    assert [f"{group}/ReLU-op{n}" for n in range(1, 7)] == names(tree, group)
    assert ("aggregation_scope", 6) == (shown(tree, group)["type"], shown(tree, group)["subnode_count"])
    assert ["Default/net/x"] == list(shown(tree, group)["input"])
    assert ["Default/net/x"] == list(shown(tree, f"{group}/ReLU-op1")["input"])
    assert {"type": "DT_UNDEFINED", "shape": "[]"} == shown(tree, "Default/net/x")["attr"]
    assert {} == shown(tree, "Default")["input"]
    assert list(shown(tree, "Default")) == [
        "name", "type", "is_dynamic_shape_node", "attr", "input", "output_i", "output", "proxy_input", "proxy_output",
        "subnode_count", "independent_layout", "stack_info",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "optimize", "grouped"), [(4, False, False), (5, False, True), (9, True, False), (10, True, True)]
)
def test_a_group_needs_so_many(count: int, optimize: bool, grouped: bool) -> None:
    """Five operators of a type, ten in the optimised graph."""
    nodes = [op(0, "Add"), *(op(n, "ReLU", [str(n - 1)]) for n in range(1, count + 1))]
    assert grouped == any("[" in name for name in drawn(nodes, optimize=optimize).nodes)


def test_constants_lie_where_they_are_used() -> None:
    """A copy in each scope that uses one; they count among the children of a group and never are edges of a scope."""
    nodes = [op(n, "ReLU", ["c"], "Default/net") for n in range(6)] + [op(9, "Tanh", ["c"], "Other")]
    tree = drawn(nodes, constants=["c", "unused"])
    group = "Default/net/ReLU[6]_0"
    assert f"{group}/c" in tree.nodes
    assert "Other/c" in tree.nodes
    assert "c" not in tree.nodes
    assert 7 == shown(tree, group)["subnode_count"]
    assert {} == shown(tree, "Default/net")["input"] == shown(tree, group)["input"]
    edge = shown(tree, "Other/Tanh-op9")["input"]["Other/c"]
    assert {"shape": [[]], "edge_type": "data", "independent_layout": False, "data_type": ""} == edge
    assert {"c": ""} == shown(tree, "Other/c")["attr"]


def test_parameters_of_the_top_stay_there() -> None:
    """A parameter that an operator without a scope uses keeps its name; unused ones go."""
    tree = drawn([ms_node("1", "ReLU", ["w"])], ["v", "w"])
    assert ["ReLU-op1", "w"] == names(tree)


def test_edges_have_the_shapes_of_where_they_come_from() -> None:
    """With the type as text; control edges say so; unknown sizes mark the nodes at both ends and those around."""
    nodes = [
        typed(op(1, "Load", scope="a"), 11, 2, 3),
        typed(op(2, "Cast", ["1"], scope="a"), 10, -1),
        op(3, "Mul", ["2", "^1"], scope="b"),
    ]
    tree = drawn(nodes)
    assert {
        "shape": [[2, 3]],
        "edge_type": "data",
        "independent_layout": False,
        "data_type": "DT_TENSOR[DT_FLOAT32]",
    } == (shown(tree, "a/Cast-op2")["input"]["a/Load-op1"])
    assert "control" == shown(tree, "b/Mul-op3")["input"]["a/Load-op1"]["edge_type"]
    assert {"a/Cast-op2", "b/Mul-op3", "a", "b"} == {name for name, node in tree.nodes.items() if node.dynamic}
    assert {"b/Mul-op3"} == set(shown(tree, "a")["output"])


def test_an_attribute_may_say_that_shapes_are_dynamic() -> None:
    """`input_is_dynamic_shape` or `output_is_dynamic_shape`, where it is true."""
    yes, no = varint_field(2, 1), varint_field(2, 0)
    nodes = [
        op(1, "A") + attribute("input_is_dynamic_shape", yes),
        op(2, "B") + attribute("output_is_dynamic_shape", no),
        op(3, "C") + attribute("not_output_is_dynamic_shape", yes),
    ]
    assert {"Default/A-op1"} == {name for name, node in drawn(nodes).nodes.items() if node.dynamic}


def test_tuples_have_the_shapes_of_their_elements() -> None:
    """Their types are listed as Python would; another type without a tensor has one empty shape, none has none."""
    tensor = varint_field(1, 14) + bytes_field(
        2, varint_field(1, 10) + bytes_field(2, bytes_field(1, varint_field(1, 4)))
    )
    pair = bytes_field(
        6, varint_field(1, 31) + bytes_field(3, bytes_field(1, tensor) + bytes_field(1, varint_field(1, 4)))
    )
    tree = drawn([op(1, "A") + pair, op(2, "B", ["1"]), op(3, "C"), op(4, "D", ["3"])])
    edge = shown(tree, "Default/B-op2")["input"]["Default/A-op1"]
    assert ([[4], []], "DT_TUPLE['DT_TENSOR[DT_FLOAT16]', 'DT_INT32']") == (edge["shape"], edge["data_type"])
    assert [] == shown(tree, "Default/D-op4")["input"]["Default/C-op3"]["shape"]


def test_long_attributes_are_left_out() -> None:
    """Above 1,024 bytes; of a long constant its type stays."""
    fits, long = varint_field(1, 13) + bytes_field(7, b"x" * 1019), varint_field(1, 13) + bytes_field(7, b"x" * 1020)
    tree = drawn([op(1, "A", ["c"]) + attribute("fits", fits) + attribute("long", long)])
    assert ["fits"] == list(shown(tree, "Default/A-op1")["attr"])
    constant = bytes_field(5, bytes_field(1, b"c") + bytes_field(2, long))
    data = ms_graph([op(1, "A", ["c"])]) + constant
    assert {"c": "dtype: DT_STRING"} == shown(build(data, 0, len(data), optimize=False), "Default/c")["attr"]


def test_names_of_operators() -> None:
    """The full name, but for summary operators; an input may be named with its scope; nameless ones do not count."""
    nodes = [
        ms_node("x/y-op12", "Add", scope="s"),
        ms_node("2", "Mul", ["x/z-op12"], scope="s", full_name="t/Mul-full"),
        ms_node("3", "ScalarSummary", ["2"], scope="s", full_name="t/loss[:Scalar]"),
        ms_node("", "None"),
    ]
    tree = drawn(nodes)
    assert {"s", "t", "s/Add-op12", "t/Mul-full", "s/ScalarSummary-op3"} == set(tree.nodes)
    assert ["s/Add-op12"] == list(tree.nodes["t/Mul-full"].inputs)


def test_of_equal_names_the_later_counts() -> None:
    """With its own inputs, and in the place of the first; a parameter may take an operator's place, too."""
    nodes = [op(1, "A"), op(2, "B"), ms_node("3", "C", ["1"], full_name="x"), ms_node("4", "D", ["2"], full_name="x")]
    tree = drawn([*nodes, ms_node("5", "E", ["1"], full_name="p"), ms_node("6", "F", ["p"])], ["p"])
    assert ("D", ["Default/B-op2"]) == (tree.nodes["x"].type, list(tree.nodes["x"].inputs))
    assert ("Parameter", []) == (tree.nodes["p"].type, list(tree.nodes["p"].inputs))


def test_groups_of_parameters_are_drawn_apart() -> None:
    """The group, its members, and the edges to what they go into."""
    nodes = [op(1, "Adam", [f"p{n}" for n in range(6)], "Default/opt"), op(2, "Add", ["1"])]
    tree = drawn(nodes, [f"p{n}" for n in range(6)])
    group = "Default/opt/Parameter[6]_0"
    found, user = shown(tree, group), shown(tree, "Default/opt/Adam-op1")
    assert found["independent_layout"]
    assert {"Default/opt/Adam-op1": {"edge_type": "data"}} == found["proxy_output"]
    assert {group: {"edge_type": "data"}} == user["proxy_input"]
    member = shown(tree, f"{group}/p0")
    assert member["independent_layout"]
    assert {"Default/opt/Adam-op1": {"edge_type": "data"}} == member["proxy_output"]
    assert user["input"][f"{group}/p0"]["independent_layout"]
    assert not member["output"]["Default/opt/Adam-op1"]["independent_layout"]


def test_an_operator_in_the_place_of_a_scope_is_renamed() -> None:
    """The original has no graph then; ours has it, with the operator's name in brackets."""
    tree = drawn([ms_node("1", "A", full_name="net"), ms_node("2", "B", ["1"], scope="net", full_name="net/b")])
    assert {"net", "(net)", "net/b"} == set(tree.nodes)
    assert "name_scope" == tree.nodes["net"].type
    assert ["(net)"] == list(tree.nodes["net/b"].inputs)


def test_search_shows_matches_below_their_scopes() -> None:
    """By the last part of the name; a scope that comes after its own members takes their place."""
    tree = drawn([*SIX, op(8, "Relu6", scope="Default/other")], ["x"])
    assert [] == tree.search("") == tree.search("/") == tree.search("net/ReLU[6]_0/none")
    found = tree.search("RELU")
    assert "Default/other/Relu6-op8" in found
    forest = tree.forest(found)
    assert ["Default"] == [node["name"] for node in forest]
    (default,) = forest
    inside = {node["name"]: node["nodes"] for node in default["nodes"]}
    assert ["Default/net/ReLU[6]_0"] == [node["name"] for node in inside["Default/net"]]
    assert [] == inside["Default/net"][0]["nodes"]
    first = tree.forest(found[1:3])
    assert "aggregation_scope" == first[0]["nodes"][0]["nodes"][0]["type"]


def test_leaves_are_found_depth_first() -> None:
    """All that has nothing below it, in the order in which it is drawn."""
    tree = drawn([op(1, "A", scope="s/t"), op(2, "B", scope="s"), op(3, "C", scope="u")])
    assert ["s/B-op2", "s/t/A-op1", "u/C-op3"] == [node.name for node in tree.leaves("")]
    assert [] == list(tree.leaves("u/C-op3"))


def test_the_optimised_graph_leaves_out_the_training() -> None:
    """Gradients, optimisers and what only hands on go, then what nothing is connected with any more."""
    nodes = [
        op(1, "Add", ["p"], full_name="Default/Add-op1"),
        op(2, "Load", ["1"], full_name="Default/Load-op2"),
        op(3, "Mul", ["2"], full_name="Default/Mul-op3"),
        op(4, "Grad", ["3"], full_name="Gradients/Grad-op4"),
        op(5, "Adam", ["3"], full_name="Default/optimizer-Adam/Adam-op5"),
        op(6, "Sub", ["5"], full_name="Default/Sub-op6") + bytes_field(10, b"my_opt"),
        op(7, "Alone", full_name="Default/Alone-op7"),
    ]
    tree = drawn(nodes, ["p"], optimize=True)
    assert {"Default", "Default/Add-op1", "Default/Mul-op3", "Default/p"} == set(tree.nodes)
    assert ["Default/Add-op1"] == list(tree.nodes["Default/Mul-op3"].inputs)
    assert not drawn(nodes[3:], optimize=True).published


def test_the_optimised_graph_is_flatter() -> None:
    """A scope of one type that is called after it goes, unless another lies below it."""
    nodes = [
        op(1, "Sub", ["2"], "Default/s/Sub"),
        op(2, "Sub", ["1"], "Default/s/Sub"),
        op(3, "Mul", ["2"], "Default/s/Mul"),
    ]
    assert {"Default/s/Sub-op1", "Default/s/Sub-op2", "Default/s/Mul/Mul-op3"} <= set(drawn(nodes, optimize=True).nodes)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_graph_that_is_cut_is_drawn_as_far_as_it_goes(cut: int) -> None:
    """Whatever is wrong with the bytes, there is an answer."""
    data = ms_graph(SIX, ["x"], ["c"])
    assert build(data[: len(data) - cut], 0, len(data) - cut, optimize=False).nodes is not None
