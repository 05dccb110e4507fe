"""Whatever a message and a graph hold: read in lockstep as one by one, and every node in the scope its name says."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from indexer import fields, graphs, nodes
from tests.support.messages import tb_graph, tb_node
from tests.support.records import bytes_field, double_field, float_field, varint_field
from tests.unit.test_graphs import entries

NUMBERS = st.one_of(st.integers(1, 20), st.sampled_from([2047, 2**29 - 1]))
FIELDS = st.one_of(
    st.builds(varint_field, NUMBERS, st.integers(0, 2**63 - 1)),
    st.builds(bytes_field, NUMBERS, st.one_of(st.binary(max_size=9), st.just(bytes(200)), st.just(bytes(20_000)))),
    st.builds(float_field, NUMBERS, st.floats(width=32)),
    st.builds(double_field, NUMBERS, st.floats()),
)
MESSAGES = st.lists(FIELDS, max_size=6).map(b"".join)
NAMES = st.lists(st.text("ab/-", max_size=7), max_size=12)


def one_by_one(data: bytes, start: int, stop: int) -> list[fields.Field]:
    """Return the fields of a message as `walk` gives them."""
    return list(fields.walk(data, start, stop))


@given(st.lists(MESSAGES, max_size=5), st.integers(1, 40))
def test_many_messages_are_read_like_one(messages: list[bytes], times: int) -> None:
    """In lockstep or not, long or short, every field is where `walk` finds it."""
    messages = messages * times
    data = b"".join(messages)
    stops = np.cumsum([len(message) for message in messages], dtype=np.int64)
    starts = stops - np.array([len(message) for message in messages], np.int64)
    table = fields.tabulate(data, starts, stops)
    columns = (table.number, table.wire, table.a, table.b)
    for i, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        rows = np.flatnonzero(table.of == i)
        assert one_by_one(data, start, stop) == list(zip(*(column[rows].tolist() for column in columns), strict=True))
    found = fields.submessages(data, 0, len(data), (1, 7, 2047), 10**6)
    for number in found:
        wanted = [(a, b) for n, wire, a, b in one_by_one(data, 0, len(data)) if (n, wire) == (number, fields.BYTES)]
        assert wanted == list(zip(*found[number], strict=True))


@given(st.binary(max_size=60), st.sampled_from([0, 33]))
@example(b"\x08" + b"\xff" * 12, 33)
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 33)
def test_what_is_no_message_is_told(data: bytes, before: int) -> None:
    """Random bytes are read alike, or refused alike, in lockstep and one by one."""
    outcomes = []
    for read in ("walk", "tabulate", "submessages"):
        found = None
        with suppress(ValueError):
            if read == "walk":
                found = len(one_by_one(data, 0, len(data)))
            elif read == "tabulate":
                bounds = np.zeros(before + 1, np.int64), np.full(before + 1, len(data), np.int64)
                found = len(fields.tabulate(data, *bounds).of) // (before + 1)
            else:
                fields.submessages(data, 0, len(data), (), 10)
                found = len(one_by_one(data, 0, len(data)))
        outcomes.append(found)
    assert 1 == len(set(outcomes))


@given(st.binary(max_size=80), st.sampled_from(["mindspore_graph", "mindspore_model", "graph_def", "run_metadata"]))
def test_no_bytes_break_a_graph(data: bytes, content: str) -> None:
    """Whatever they are, they are taken apart or refused with a reason; and shown, whatever they say."""
    with suppress(ValueError):
        graphs.build(data, content)
    for what in (graphs.NODE, graphs.PARAMETER, graphs.CONSTANT):
        nodes.describe(data, content, what)


@given(NAMES)
@example(["/a", "a", "a/", "a//b", "a", "", "//"])
def test_every_node_is_in_its_scope(names: list[str]) -> None:
    """Whatever its name, a node is found by going down through the scopes its name has, each of them once."""
    found = entries(graphs.build(tb_graph([tb_node(name, "T") for name in names]), "graph_def"))
    nodes_ = [entry.name.decode() for entry in found if entry.what == graphs.NODE]
    assert sorted(names) == sorted(nodes_)
    assert [entry.number for entry in found] == list(range(len(found)))
    scopes = [entry.name for entry in found if entry.what == graphs.SCOPE]
    assert len(set(scopes)) == len(scopes)

    def inside(first: int, last: int, scope: bytes) -> None:
        children, number = 0, first
        while number < last:
            entry = found[number]
            assert scope == graphs.scope_of(entry.name)
            below = found[number : number + entry.size]
            assert entry.nodes == sum(other.what == graphs.NODE for other in below)
            inside(number + 1, number + entry.size, entry.name)
            number += entry.size
            children += 1
        assert number == last
        if first:
            assert children == found[first - 1].children

    inside(0, len(found), b"")
    keys = [graphs.key(entry.name) for entry in found]
    assert sorted(keys) == keys
