"""Whatever lineage records and hyperparameters hold and leave out, and in whatever order they come."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indexer import plugins
from indexer.decode import hparams as decode_hparams
from indexer.decode import lineage as decode_lineage
from indexer.payload import Neutral
from indexer.plugins import lineage
from indexer.types import Blob
from indexer.wire import hparams_pb2, mindspore_pb2
from tests.property.test_kinds import fill

PARTS = ("train_lineage", "evaluation_lineage", "dataset_graph", "user_defined_info")
METRICS = st.one_of(
    st.text(max_size=10), st.dictionaries(st.text(max_size=3), st.floats() | st.text(max_size=3)).map(json.dumps)
)


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Return a lineage event with some of its fields; nested messages stay shallow."""
    event = mindspore_pb2.LineageEvent(wall_time=1.0)
    part = draw(st.sampled_from(PARTS))
    message = getattr(event, part)
    message.SetInParent()
    if part == "train_lineage":
        fill(draw, message)
    elif part == "evaluation_lineage":
        message.metric = draw(METRICS)
    elif part == "dataset_graph":
        for child in (message, message.children.add()):
            fill(draw, child.parameter)
            fill(draw, child.operations.add())
    else:
        for _ in range(draw(st.integers(0, 3))):
            item = message.user_info.add()
            for field in ("map_int32", "map_str", "map_double"):
                for _ in range(draw(st.integers(0, 2))):
                    fill(draw, getattr(item, field).add())
    return event


def decoded(value: Neutral, data: bytes) -> Blob:
    """Return the only payload of a value."""
    (blob,) = plugins.decode(value, "", lambda: data)
    assert data == blob.data
    assert (blob.error is None) == blob.says
    return blob


@given(st.lists(st.tuples(st.integers(0, 3), events()), max_size=8))
def test_any_records_come_to_a_lineage(records: list[tuple[int, Any]]) -> None:
    """Each is decoded or an error; what is merged is strict JSON, a name once, and the same however it is split."""
    states: dict[int, lineage.State] = {}
    for at, (file, event) in enumerate(records):
        data = event.SerializeToString()
        blob = decoded(decode_lineage.convert(event, data), data)
        if blob.says:
            assert isinstance(blob.facts, str)
            state = json.loads(json.dumps(states.get(file, {})))  # as it is kept between two batches
            lineage.absorb(state, at, 1.0, json.loads(blob.facts, parse_constant=refuse))
            states[file] = state
    rows = lineage.merged(sorted(states.items()))
    names = [(row.section, row.name) for row in rows]
    assert sorted(set(names)) == sorted(names)
    for row in rows:
        json.loads(row.json, parse_constant=refuse)
        assert row.shard in states
        if row.section == lineage.DATASET:
            assert isinstance(lineage.dataset_graph(json.loads(row.json)), dict)
    if not any(part in state for state in states.values() for part in PARTS[:3]):
        assert [] == rows


@st.composite
def contents(draw: st.DrawFn) -> Any:
    """Return content of plugin hparams with some of its fields; values stay shallow."""
    content = hparams_pb2.Content()
    part = draw(st.sampled_from(["experiment", "session_start_info", "session_end_info", None]))
    if part == "session_start_info":
        content.session_start_info.group_name = draw(st.text(max_size=3))
        for _ in range(draw(st.integers(0, 3))):
            entry = content.session_start_info.hparams.add(key=draw(st.text(max_size=3)))
            kind = draw(st.sampled_from(["number_value", "string_value", "bool_value", "null_value"]))
            fill_one(draw, entry.value, kind)
            if draw(st.booleans()):
                fill_one(draw, entry.value.list_value.values.add(), kind)
    elif part is not None:
        getattr(content, part).SetInParent()
        for info in ("hparam_infos", "metric_infos"):
            if part == "experiment" and draw(st.booleans()):
                getattr(content.experiment, info).add(display_name=draw(st.text(max_size=3)))
    return content


def fill_one(draw: st.DrawFn, value: Any, kind: str) -> None:
    """Set a value to one of a kind."""
    drawn = {"number_value": st.floats(), "string_value": st.text(max_size=3), "bool_value": st.booleans()}
    setattr(value, kind, draw(drawn.get(kind, st.just(0))))


@given(contents())
def test_any_content_is_shown(content: Any) -> None:
    """Each is decoded or an error, and what it says is strict JSON."""
    data = content.SerializeToString()
    blob = decoded(decode_hparams.convert(data), data)
    if blob.says:
        assert isinstance(blob.facts, str)
        said = json.loads(blob.facts, parse_constant=refuse)["content"]
        expected = {entry.key for entry in content.session_start_info.hparams}
        assert expected == said.get("hparams", {}).keys() if content.HasField("session_start_info") else True


@given(st.binary(max_size=60))
def test_any_bytes_are_content_or_an_error(data: bytes) -> None:
    """Nothing in a metadata's content stops decoding."""
    decoded(decode_hparams.convert(data), data)


def refuse(constant: str) -> object:
    """Refuse what is no strict JSON."""
    raise AssertionError(constant)
