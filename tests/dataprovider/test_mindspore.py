"""MindSpore's runs as TensorBoard's pages have them: each kind in the form of the plugin that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto import graph_pb2
from tensorboard.plugins.image import plugin_data_pb2 as image_data
from tensorboard.util import tensor_util

from tests.dataprovider.conftest import loaded
from tests.support.messages import ms_graph, ms_model, ms_node
from tests.support.records import (
    bytes_field,
    ms_buckets,
    ms_event,
    ms_image,
    ms_scalars,
    ms_tensor,
    ms_train,
    ms_user_defined,
    ms_version,
    png,
)
from tests.support.viewer import ask, blob, names, plugins, provider

FILE = "events.out.events.summary.1000.0.x_MS"


@pytest.fixture
def samples_stub(mindspore_url: str) -> Iterator[Any]:
    """TensorBoard's client over the sample data of MindSpore."""
    with provider(mindspore_url) as stub:
        yield stub


def test_every_kind_has_its_page(samples_stub: Any) -> None:
    """The samples' numbers, images, histograms, lineage and graphs are series of TensorBoard's plugins."""
    assert {"scalars", "images", "histograms", "text", "graphs", "summarydb_tensor"} == plugins(samples_stub)
    assert {"scalars", "images", "histograms", "graph-file-only", "nested/inner", "run with spaces", "."} <= set(
        names(samples_stub)
    )
    assert "loss" in {tag for _, tag in ask(samples_stub, "ListScalars")}
    counts = {
        (kind, plugin): len(ask(samples_stub, f"Read{kind}", plugin, points=10))
        for kind, plugin in (
            ("Scalars", "scalars"),
            ("BlobSequences", "images"),
            ("Tensors", "histograms"),
            ("Tensors", "text"),
            ("Tensors", "summarydb_tensor"),
            ("BlobSequences", "graphs"),
        )
    }
    assert all(counts.values()), counts


def test_payloads_are_converted(url: str, tmp_path: Path) -> None:
    """One tag of four kinds is four series; images come with their size, histograms with right edges."""
    picture = png(3, 2)
    elements = np.arange(6, dtype="<f4")
    buckets = ms_buckets([(0.0, 0.5, 3), (0.5, 0.25, 4)])
    records = [
        ms_version(1.0),
        ms_scalars(1, {"t": 0.5}, 2.0),
        ms_image("t", 1, picture, 3.0, width=3, height=2),
        ms_tensor("t", 1, [2, 3], elements.tobytes(), 4.0),
        ms_event(5.0, bytes_field(5, bytes_field(1, bytes_field(1, b"t") + bytes_field(9, buckets))), 1),
    ]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / FILE).write_bytes(b"".join(records))
    with loaded(url, tmp_path / "runs") as stub:
        assert [0.5] == list(ask(stub, "ReadScalars", points=5)[".", "t"].value)
        listed = ask(stub, "ListBlobSequences", "images")[".", "t"]
        content = image_data.ImagePluginData.FromString(listed.summary_metadata.plugin_data.content)
        assert (3, True) == (listed.max_length, content.converted_to_tensor)
        (sequence,) = ask(stub, "ReadBlobSequences", "images", points=5)[".", "t"].values
        assert [b"3", b"2", picture] == [blob(stub, ref.blob_key) for ref in sequence.blob_refs]
        (tensor,) = ask(stub, "ReadTensors", "summarydb_tensor", points=5)[".", "t"].value
        assert elements.reshape(2, 3).tolist() == tensor_util.make_ndarray(tensor).tolist()
        (histogram,) = ask(stub, "ReadTensors", "histograms", points=5)[".", "t"].value
        assert [[0.0, 0.5, 3.0], [0.5, 0.75, 4.0]] == tensor_util.make_ndarray(histogram).tolist()


def test_lineage_is_a_table_of_text(url: str, tmp_path: Path) -> None:
    """What a lineage file says is a text, a row a value, by its path."""
    records = [ms_version(1.0), ms_train(0.5, "Adam"), ms_user_defined({"note": "é"})]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{FILE}_lineage").write_bytes(b"".join(records))
    with loaded(url, tmp_path / "runs") as stub:
        found = {
            tag: tensor_util.make_ndarray(data.value[-1]).tolist()
            for (_, tag), data in ask(stub, "ReadTensors", "text", points=5).items()
        }
    assert {"lineage/train_lineage", "lineage/user_defined_info"} == set(found)
    assert [b"name", b"value"] == found["lineage/train_lineage"][0]
    rows = {name.decode(): value.decode() for name, value in found["lineage/train_lineage"]}
    assert ("Adam", 0.5) == (rows["hyper_parameters/optimizer"], float(rows["hyper_parameters/learning_rate"]))
    assert [b"user_info/map_str/note", "é".encode()] in found["lineage/user_defined_info"]


def test_graphs_become_graph_defs(url: str, tmp_path: Path) -> None:
    """A graph file alone is a run; its operators, parameters and their inputs are a GraphDef's nodes."""
    graph = ms_graph(
        [ms_node("1", "MatMul", ["w", "x"], scope="net"), ms_node("2", "ReLU", ["1"], scope="net")], ["w", "x"]
    )
    (tmp_path / "runs" / "g").mkdir(parents=True)
    (tmp_path / "runs" / "g" / "graph.pb").write_bytes(ms_model(graph))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "graph.pb").write_bytes(b"no graph at all")
    with loaded(url, tmp_path / "runs") as stub:
        assert ["g"] == names(stub)
        assert {("g", "__run_graph__")} == set(ask(stub, "ListBlobSequences", "graphs"))
        (sequence,) = ask(stub, "ReadBlobSequences", "graphs", points=1)["g", "__run_graph__"].values
        (ref,) = sequence.blob_refs
        made = graph_pb2.GraphDef.FromString(blob(stub, ref.blob_key))
    nodes = {node.name: node for node in made.node}
    operations = {node.op: node for node in made.node}
    assert len(nodes) == len(made.node)
    assert {"MatMul", "ReLU", "Parameter"} == set(operations)
    (source,) = operations["ReLU"].input
    assert "MatMul" == nodes[source].op
    assert {"Parameter"} == {nodes[name].op for name in operations["MatMul"].input}
