"""Graphs in the tables: those of the sample data against the truth, graph files that change, long ones."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text

from indexer.graphs import NODE, Chunk
from indexer.text import show
from tests.conftest import DATA
from tests.db.test_truth import truth
from tests.support.following import SMALL, Follower, index_once, make
from tests.support.messages import ms_graph, ms_model, ms_node, tb_graph, tb_node
from tests.support.records import bytes_field, ms_event, ms_scalars, ms_version, tb_event, tb_version
from tests.support.tables import differences, dump

FILE = "events.out.events.summary.1.0.x_MS"
GOOD = ms_model(ms_graph([ms_node("1", "ReLU", ["x"], scope="Default")], ["x"]))
OTHER = ms_model(ms_graph([ms_node("1", "Tanh", ["x"], scope="Default")], ["x"]))
BAD = GOOD[:-3]


def graphs(engine: Engine) -> list[Row[Any]]:
    """Return all graphs with their tags, counts and clocks."""
    query = text(
        "SELECT j.train_id, t.name, t.plugin, p.wall_time, b.*, g.nodes, g.edges, g.parameters, g.constants, g.outputs"
        " FROM blobs b JOIN tags t ON t.id = b.tag_id JOIN jobs j ON j.id = t.job_id"
        " JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"
        " LEFT JOIN graph_stats g ON g.tag_id = b.tag_id AND g.step = b.step AND g.seq = b.seq"
        " WHERE b.kind = 'graph' ORDER BY j.train_id, t.name, b.step"
    )
    with engine.connect() as conn:
        return list(conn.execute(query))


def payload(row: Row[Any]) -> bytes:
    """Return the decoded bytes of a graph."""
    return zlib.decompress(row.data) if row.encoding == "zlib" else bytes(row.data)


def types(engine: Engine, tag: int) -> Counter[str]:
    """Return how many operators of each type a graph has, from its chunks."""
    found: Counter[str] = Counter()
    with engine.connect() as conn:
        for start, data in conn.execute(text("SELECT start, data FROM graph_chunks WHERE tag_id = :t"), {"t": tag}):
            chunk = Chunk(start, bytes(data))
            every = [chunk.entry(number) for number in range(chunk.start, chunk.stop)]
            found.update(entry.type.decode() for entry in every if entry.what == NODE and entry.type)
    return found


def shard(engine: Engine, name: str = "g.pb") -> tuple[Any, ...]:
    """Return state, cursor, damage counted and damage noted of a file."""
    with engine.connect() as conn:
        row = conn.execute(text("SELECT * FROM shards WHERE name = :n"), {"n": name}).one()
        errors = (
            conn.execute(text("SELECT length FROM shard_errors WHERE shard_id = :s"), {"s": row.id}).scalars().all()
        )
    return row.state, row.cursor, row.bad_records, row.bad_bytes, list(errors)


@pytest.mark.parametrize("kernel", [False, True])
def test_graphs_of_mindspore_equal_the_truth(engine: Engine, kernel: bool) -> None:
    """In event files and in files of their own: nodes, inputs, parameters, constants and operators by type."""
    index_once(engine, DATA / "mindspore", config=replace(SMALL, kernel=kernel, slice_bytes=2**24))
    found = {(row.train_id, show(row.name)): row for row in graphs(engine)}
    expected = {(name, graph["file"]): graph for name, run in truth("mindspore").items() for graph in run["graphs"]}
    assert expected.keys() == found.keys()
    for key, graph in expected.items():
        row = found[key]
        counts = ("nodes", "inputs", "parameters", "const_vals", "outputs")
        assert [graph[name] for name in counts] == [row.nodes, row.edges, row.parameters, row.constants, row.outputs]
        assert graph["ops"] == types(engine, row.tag_id)
        assert ("graph", 0, None) == (row.plugin, row.step, row.error)
        path = DATA / "mindspore" / key[0] / key[1]
        if key[1].endswith(".pb"):
            assert (path.read_bytes(), path.stat().st_mtime_ns / 1e9) == (payload(row), row.wall_time)
        else:
            assert payload(row) in path.read_bytes()
            assert graph["wall_time"] == row.wall_time


def test_graphs_of_tensorboard_equal_the_truth(engine: Engine) -> None:
    """Graphs and run metadata byte for byte, with nodes, edges and operators by type."""
    index_once(engine, DATA / "tensorboard")
    rows = graphs(engine)
    for name, run in truth("tensorboard").items():
        own = [row for row in rows if row.train_id == name]
        for plugin, entries in (("graphs", run["graphs"]), ("graph_tagged_run_metadata", run["run_metadata"])):
            found = [row for row in own if row.plugin == plugin]
            assert sorted(e["sha256"] for e in entries) == sorted(hashlib.sha256(payload(r)).hexdigest() for r in found)
            for entry, row in zip(entries, found, strict=True):
                assert (entry["bytes"], None) == (row.length, row.error)
                if plugin == "graphs":
                    assert (entry["nodes"], entry["edges"]) == (row.nodes, row.edges)
                    assert entry["ops"] == types(engine, row.tag_id)
    assert any(row.plugin == "graphs" for row in rows)


def test_the_view_shows_graphs(engine: Engine) -> None:
    """v_graphs has a row a graph that is current, with its counts."""
    index_once(engine, DATA / "mindspore")
    with engine.connect() as conn:
        row = conn.execute(text("SELECT * FROM v_graphs WHERE job = './graph' AND tag = 'graph_forward.pb'")).one()
    assert ("graph", 0, 23, 62, 10, 6, 1) == (
        row.plugin, row.step, row.nodes, row.edges, row.parameters, row.constants, row.outputs,
    )  # fmt: skip


def test_meta_graphs_are_kept(engine: Engine, tmp_path: Path) -> None:
    """In a series of their own, which no viewer of TensorBoard takes for the run's graph."""
    inside = bytes_field(2, tb_graph([tb_node("a", "A")]))
    record = tb_event(1.0, bytes_field(9, inside), 3)
    index_once(engine, make(tmp_path / "runs", {"a/events.out.tfevents.1.x": tb_version(1.0) + record}))
    (row,) = graphs(engine)
    assert ("__meta_graph__", "meta_graph", 3, 1, inside) == (row.name, row.plugin, row.step, row.nodes, payload(row))


def test_a_file_that_is_no_graph_is_dead_until_it_is_one(engine: Engine, tmp_path: Path) -> None:
    """It is told with its reason and stops nothing; when it is whole its damage is gone, and it is like any other."""
    root = make(tmp_path / "runs", {"a/g.pb": BAD, f"a/{FILE}": ms_version(1.0) + ms_scalars(1, {"l": 1.0}, 1.0)})
    follower = Follower(engine, root)
    follower.scan()
    assert ("dead", len(BAD), 1, len(BAD), [len(BAD)]) == shard(engine)
    assert [] == graphs(engine)
    (root / "a/g.pb").write_bytes(b"\xff" * 9)
    follower.scan()
    assert ("dead", 9, 1, 9, [9]) == shard(engine)
    (root / "a/g.pb").write_bytes(b"")
    follower.scan()
    assert ("growing", 0, 0, 0, []) == shard(engine)
    (root / "a/g.pb").write_bytes(GOOD)
    os.utime(root / "a/g.pb", ns=(10**18, 10**18))
    follower.scan()
    assert ("growing", len(GOOD), 0, 0, []) == shard(engine)
    assert [("g.pb", 1e9, 1, 1)] == [(row.name, row.wall_time, row.nodes, row.parameters) for row in graphs(engine)]
    with engine.connect() as conn:
        assert [("CACHED", 2)] == list(map(tuple, conn.execute(text("SELECT cache_status, point_count FROM jobs"))))


def test_a_graph_file_that_is_rewritten_is_read_again(engine: Engine, tmp_path: Path) -> None:
    """Its point is replaced, also where only a byte in its middle differs; one that is only touched is left alone."""
    root = make(tmp_path / "runs", {"a/g.pb": GOOD, f"a/{FILE}": ms_version(1.0) + ms_scalars(1, {"l": 1.0}, 1.0)})
    follower = Follower(engine, root)
    follower.scan()
    assert len(GOOD) == len(OTHER)
    (root / "a/g.pb").write_bytes(OTHER)
    follower.scan()
    follower.scan()
    assert [OTHER] == [payload(row) for row in graphs(engine)]
    os.utime(root / "a/g.pb", ns=(10**18, 10**18))
    before = dump(engine, disk=False)
    follower.scan()
    assert [] == differences(before, dump(engine, disk=False))
    follower.files.opened.clear()
    again = Follower(engine, root)
    again.scan()
    assert 0 == again.files.opened["g.pb"]


def test_a_graph_file_that_is_spoilt_keeps_its_points(engine: Engine, tmp_path: Path) -> None:
    """What was read stays where the file holds no graph any more."""
    root = make(tmp_path / "runs", {"a/g.pb": GOOD})
    follower = Follower(engine, root)
    follower.scan()
    for content in (BAD, b""):
        (root / "a/g.pb").write_bytes(content)
        follower.scan()
        assert [GOOD] == [payload(row) for row in graphs(engine)]


def test_a_long_graph_stays_in_its_file(engine: Engine, tmp_path: Path) -> None:
    """It is referred to by file and place, and what is in it is in the tables all the same."""
    graph = ms_graph([ms_node(str(i), "ReLU", [str(i - 1)], scope=f"s{i % 9}") for i in range(300)])
    event = ms_event(1.0, bytes_field(4, graph))
    root = make(tmp_path / "runs", {f"a/{FILE}": ms_version(1.0) + event, "a/g.pb": ms_model(graph)})
    index_once(engine, root, config=replace(SMALL, max_blob_bytes=1_000))
    for row in graphs(engine):
        expected = graph if row.name == FILE else ms_model(graph)
        whole = (root / "a" / row.name).read_bytes()
        assert ("ref", None, 300, 300) == (row.encoding, row.data, row.nodes, row.edges)
        assert expected == whole[row.offset : row.offset + row.length]
        assert {"ReLU": 300} == types(engine, row.tag_id)
    assert 2 == len(graphs(engine))


def test_a_graph_file_above_the_limit_is_told(engine: Engine, tmp_path: Path) -> None:
    """A file longer than max_record_bytes is not read."""
    root = make(tmp_path / "runs", {"a/g.pb": GOOD})
    follower = Follower(engine, root, config=replace(SMALL, max_record_bytes=len(GOOD) - 1))
    follower.scan()
    assert ("dead", len(GOOD), 1, len(GOOD), [len(GOOD)]) == shard(engine)
    assert 0 == follower.files.read_bytes


def test_a_graph_that_cannot_be_taken_apart_is_kept(engine: Engine, tmp_path: Path) -> None:
    """In an event it is a payload with an error: its bytes are there, its counts are not, and nothing else suffers."""
    record = ms_event(1.0, bytes_field(4, b"\x0a\x7f")) + ms_scalars(1, {"l": 1.0}, 1.0)
    outcome = index_once(engine, make(tmp_path / "runs", {f"a/{FILE}": ms_version(1.0) + record}))
    (row,) = graphs(engine)
    assert (b"\x0a\x7f", None, 2, 0) == (payload(row), row.nodes, outcome.points, outcome.bad_records)
    assert row.error
    assert {"content": "mindspore_graph"} == json.loads(row.facts)
